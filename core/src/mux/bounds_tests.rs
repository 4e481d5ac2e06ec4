//! What a peer may not leave as it is for ever, in virtual time and with every ping answered.

use std::vec;
use std::vec::Vec;

use core::time::Duration;

use crate::mux::config::Config;
use crate::mux::connection::State;
use crate::mux::event::{Ending, Event, Stall};
use crate::mux::tests::{CALLER, Pair, WORKER, item, raw};
use crate::protocol::{Closing, Fault};
use crate::time::{Deadline, Reason};
use crate::wire::class::Class;
use crate::wire::mux::frame::Kind;
use crate::wire::mux::message::CancelMode;

/// The default of every bound on what stands still.
const BOUND: u64 = 600;
/// By how much too late it may be noticed.
const LATE: u64 = BOUND / 16 + 2;

/// Lets seconds pass, pings answered, and says after how many `over` was true.
fn wait(pair: &mut Pair, seconds: u64, mut over: impl FnMut(&mut Pair, u64) -> bool) -> Option<u64> {
    for second in 1..=seconds {
        pair.now = pair.now + Duration::from_secs(1);
        for side in [CALLER, WORKER] {
            let now = pair.now;
            if let Err(fault) = pair.sides[side].handle_timeout(now) {
                pair.faults[side].get_or_insert(fault);
            }
        }
        pair.pump();
        if over(pair, second) {
            return Some(second);
        }
    }
    None
}

/// Brings one side `bytes`, so many a second; after how many seconds that ended, and how. Whatever comes answers its pings.
fn trickle(pair: &mut Pair, side: usize, bytes: &[u8], step: usize) -> (usize, Result<(), Fault>) {
    for (second, part) in bytes.chunks(step).enumerate() {
        pair.now = pair.now + Duration::from_secs(1);
        let now = pair.now;
        let machine = &mut pair.sides[side];
        if let Err(fault) = machine.handle_timeout(now).and_then(|()| machine.handle_recv(part, now)) {
            return (second + 1, Err(fault));
        }
        pair.written(side);
    }
    (bytes.chunks(step).len(), Ok(()))
}

fn stalls(pair: &mut Pair) -> Vec<Event> {
    pair.take_events(WORKER).into_iter().filter(|event| matches!(event, Event::Stalled(..))).collect()
}

fn in_time(noticed: Option<u64>) {
    assert!(noticed.is_some_and(|second| (BOUND..=BOUND + LATE).contains(&second)), "{noticed:?}");
}

fn late(text: &str) -> Ending {
    Ending::failed(Class::DeadlineExceeded, "request.deadline_exceeded", text)
}

#[test]
fn a_request_whose_items_never_come_is_ended_though_its_caller_answers_pings() {
    let mut pair = Pair::new(Config::default());
    let (ours, _) = pair.call(7);
    let tag = *pair.opened.last_key_value().unwrap().0;
    in_time(wait(&mut pair, 2 * BOUND, |pair, _| stalls(pair) == [Event::Stalled(tag, Stall::Items)]));
    assert_eq!(pair.drain(CALLER, ours), (vec![], Some(late("no item of the request came for too long"))));
    pair.sides[CALLER].release(ours);
    pair.pump();
    pair.assert_idle();
    assert_eq!(pair.faults, [None, None], "the connection stays");
}

#[test]
fn a_handler_that_is_busy_or_answers_keeps_nobody_waiting() {
    let mut pair = Pair::new(Config::default());
    let ((ours, busy), (_, chatty)) = (pair.call(1), pair.call(2));
    pair.sides[CALLER].send(ours, item(10, 1)).unwrap();
    pair.pump();
    let stalled = wait(&mut pair, 4 * BOUND, |pair, second| {
        // One has an item it does not look at for hours; the other one answers though nothing more is asked.
        if second % 500 == 0 {
            pair.sides[WORKER].send(chatty, item(10, 1)).unwrap();
        }
        !stalls(pair).is_empty()
    });
    assert_eq!(stalled, None);
    // Whoever then begins to wait waits from then on.
    pair.drain(WORKER, busy);
    let tag = *pair.opened.first_key_value().unwrap().0;
    in_time(wait(&mut pair, 2 * BOUND, |pair, _| stalls(pair).contains(&Event::Stalled(tag, Stall::Items))));
}

#[test]
fn an_answer_that_waits_for_credit_is_ended_whether_its_handler_is_done_or_not() {
    for done in [false, true] {
        let mut pair = Pair::new(Config { stream_window: 70_000, connection_window: 140_000, ..Config::default() });
        let (ours, theirs) = pair.call(7);
        let tag = *pair.opened.last_key_value().unwrap().0;
        pair.sides[CALLER].end(ours, Ending::ok());
        for _ in 0..4 {
            pair.sides[WORKER].send(theirs, item(30_000, 1)).unwrap();
        }
        if done {
            pair.sides[WORKER].end(theirs, Ending::ok());
        }
        in_time(wait(&mut pair, 2 * BOUND, |pair, _| stalls(pair) == [Event::Stalled(tag, Stall::Credit)]));
        let outcome = Some(late("the answer waited for credit for too long"));
        assert_eq!(pair.drain(CALLER, ours), (vec![item(30_000, 1); 2], outcome));
        pair.sides[CALLER].release(ours);
        pair.pump();
        pair.assert_idle();
    }
}

#[test]
fn a_slow_reader_that_reads_now_and_then_gets_all_of_its_answer() {
    let mut pair = Pair::new(Config { stream_window: 70_000, connection_window: 140_000, ..Config::default() });
    let (ours, theirs) = pair.call(7);
    pair.sides[CALLER].end(ours, Ending::ok());
    for _ in 0..8 {
        pair.sides[WORKER].send(theirs, item(30_000, 1)).unwrap();
    }
    pair.sides[WORKER].end(theirs, Ending::ok());
    let mut read = 0;
    let end = wait(&mut pair, 20 * BOUND, |pair, second| {
        let (items, end) = if second % 500 == 0 { pair.drain(CALLER, ours) } else { (vec![], None) };
        read += items.len();
        end == Some(Ending::ok())
    });
    assert!(end.is_some());
    assert_eq!(read, 8);
}

#[test]
fn a_frame_that_comes_a_byte_a_second_ends_the_connection_on_either_side() {
    for side in [CALLER, WORKER] {
        let mut pair = Pair::new(Config::default());
        pair.call(1);
        let whole = raw(Kind::Item, 0, 1, b"", &[7; 60_000]);
        assert_eq!(trickle(&mut pair, side, &whole, 1), (11, Err(Fault::Silent)));
    }
}

#[test]
fn a_frame_of_two_kibibytes_a_second_is_taken() {
    let mut pair = Pair::new(Config::default());
    let (_, theirs) = pair.call(1);
    let whole = raw(Kind::Item, 0, 1, b"", &[7; 60_000]);
    assert_eq!(trickle(&mut pair, WORKER, &whole, 2 << 10), (30, Ok(())));
    assert_eq!(pair.drain(WORKER, theirs).0, [vec![7; 60_000]]);
}

#[test]
fn a_frame_under_way_has_a_deadline_of_its_own() {
    let mut pair = Pair::new(Config { ping_interval: Duration::from_secs(60), ..Config::default() });
    pair.call(1);
    pair.deliver(WORKER, &raw(Kind::Item, 0, 1, b"", &[7; 60_000])[..1000]);
    let deadline = Deadline { at: pair.now + Duration::from_secs(10), why: Reason::RequestFrame };
    assert_eq!(pair.sides[WORKER].poll_timeout(), Some(deadline));
}

#[test]
fn an_accepted_connection_without_streams_is_closed_in_order_and_one_that_is_used_is_not() {
    let mut pair = Pair::new(Config::default());
    let quiet = wait(&mut pair, 4 * BOUND, |pair, second| {
        if second % 500 == 0 {
            let (ours, theirs) = pair.call(second);
            pair.sides[WORKER].end(theirs, Ending::ok());
            pair.pump();
            pair.sides[CALLER].cancel(ours, CancelMode::Kill);
            pair.sides[CALLER].release(ours);
            pair.pump();
            pair.assert_idle();
        }
        pair.sides[WORKER].state() != State::Up
    });
    assert_eq!(quiet, None);
    let last = 4 * BOUND % 500;
    let closed = wait(&mut pair, 2 * BOUND, |pair, _| {
        let now = pair.now;
        pair.sides[WORKER].poll_close(now) == Some(Closing::Flush)
    });
    in_time(closed.map(|second| second + last));
    assert_eq!((pair.faults, pair.take_events(CALLER).last()), ([None, None], Some(&Event::GoingAway)));
}
