//! Two connections back to back: corners a random schedule or a hostile peer reaches.

use alloc::string::ToString;
use alloc::sync::Arc;
use std::vec;

use crate::buf::outbox::SendError;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::Key;
use crate::mux::config::Config;
use crate::mux::connection::Connection;
use crate::mux::event::{Ending, Event, Opening, Recv, Role};
use crate::mux::tests::{CALLER, Pair, WORKER, item, raw};
use crate::protocol::Fault;
use crate::time::{Instant, Reason};
use crate::wire::class::Class;
use crate::wire::mux::frame::{Kind, Preface, flags};
use crate::wire::mux::message::{CancelMode, RejectCode, Status};

const SMALL: Config = small();

const fn small() -> Config {
    Config {
        stream_window: 70_000,
        connection_window: 140_000,
        max_item: 400_000,
        reserve_pool: 400_000,
        max_streams: 16_384,
        send_buffer: 256 << 10,
        connection_buffer: 32 << 20,
        hello_timeout: core::time::Duration::from_secs(5),
        ping_interval: core::time::Duration::from_secs(5),
        ping_timeout: core::time::Duration::from_secs(5),
        send_timeout: core::time::Duration::from_secs(10),
        frame_timeout: core::time::Duration::from_secs(10),
        item_timeout: core::time::Duration::from_secs(600),
        credit_timeout: core::time::Duration::from_secs(600),
        idle_timeout: core::time::Duration::from_secs(600),
        flush_timeout: core::time::Duration::from_secs(1),
        crc: crate::wire::checksum::Crc32c::PORTABLE,
    }
}

/// Hands out a part of an item of the worker's and delivers it.
fn tear(pair: &mut Pair, side: usize) {
    let mut queue = SendQueue::new(1000);
    pair.sides[side].poll_transmit(&mut queue, Instant::ZERO);
    let mut slices = [&[][..]; 64];
    let used = queue.slices(&mut slices);
    pair.deliver(1 - side, &slices[..used].concat());
}

#[test]
fn items_of_any_two_sizes_pass_a_reader_that_keeps_up() {
    for sizes in [[30_000, 60_000], [34_000, 69_000], [1, 69_968], [34_968, 34_969], [69_968, 34_968]] {
        let mut pair = Pair::new(Config { connection_window: 70_000, ..SMALL });
        let (ours, theirs) = pair.call(1);
        for size in [sizes, sizes].concat() {
            pair.sides[WORKER].send(theirs, item(size, 1)).unwrap();
            pair.pump();
            assert_eq!(pair.drain(CALLER, ours).0, vec![item(size, 1)], "{size} of {sizes:?}");
            pair.pump();
        }
    }
}

#[test]
fn what_slow_readers_hold_does_not_keep_what_is_owed_from_the_others() {
    let mut pair = Pair::new(SMALL);
    let (_, slow) = pair.call(1);
    let (fast_ours, fast) = pair.call(2);
    for _ in 0..3 {
        pair.sides[WORKER].send(slow, item(21_000, 1)).unwrap();
    }
    for _ in 0..100 {
        pair.sides[WORKER].send(fast, item(34_000, 2)).unwrap();
        pair.pump();
        assert_eq!(pair.drain(CALLER, fast_ours).0, vec![item(34_000, 2)]);
        pair.pump();
    }
}

/// A worker with `streams` answers of 1,000 bytes, to a caller that reads nothing and gives no more credit.
fn blocked(streams: u64) -> Pair {
    let mut pair = Pair::new(SMALL);
    for tag in 0..streams {
        let (_, theirs) = pair.call(tag);
        pair.sides[WORKER].send(theirs, item(1000, 1)).unwrap();
    }
    pair.pump();
    pair
}

fn credit(pair: &mut Pair, more: u32) {
    pair.deliver(WORKER, &raw(Kind::Credit, 0, 0, &more.to_be_bytes(), b""));
}

#[test]
fn credit_of_the_connection_wakes_as_many_streams_as_it_covers_and_no_more() {
    let mut pair = blocked(2000);
    let (before, waiting) = (pair.sides[WORKER].stats().items_out, pair.sides[WORKER].blocked.len());
    assert_eq!((before, waiting), (135, 2000 - 135), "140,000 bytes of window, 1,032 an item");
    assert_eq!(pair.sides[WORKER].stats().credit_stalls, 2000 - 135);
    // 680 bytes of it are left: 352 crumbs make one item more.
    for crumb in 1..=352 + 1032 {
        credit(&mut pair, 1);
        let woken = usize::from(crumb == 352 || crumb == 352 + 1032);
        assert_eq!(pair.sides[WORKER].ready.len(), woken, "after {crumb} crumbs");
        pair.written(WORKER);
    }
    assert_eq!(pair.sides[WORKER].stats().items_out, before + 2);
    credit(&mut pair, 10 * 1032);
    assert_eq!((pair.sides[WORKER].ready.len(), pair.sides[WORKER].blocked.len()), (10, waiting - 12));
    pair.written(WORKER);
    assert_eq!((pair.sides[WORKER].stats().items_out, pair.faults), (before + 12, [None, None]));
}

#[test]
fn a_small_answer_passes_a_large_one_that_the_credit_does_not_cover_and_both_arrive_in_the_end() {
    let mut pair = blocked(136);
    let (large, small) = (pair.call(500).1, pair.call(501).1);
    pair.sides[WORKER].send(large, item(30_000, 1)).unwrap();
    pair.sides[WORKER].send(small, item(100, 1)).unwrap();
    pair.written(WORKER);
    // What was blocked first goes first; then there is room for the small one only.
    credit(&mut pair, 1032);
    pair.written(WORKER);
    credit(&mut pair, 132);
    pair.written(WORKER);
    assert_eq!((pair.sides[WORKER].stats().items_out, pair.sides[WORKER].blocked.len()), (137, 1));
    credit(&mut pair, 30_032);
    pair.written(WORKER);
    assert_eq!((pair.sides[WORKER].stats().items_out, pair.sides[WORKER].blocked.len()), (138, 0));
}

#[test]
fn a_credit_of_nothing_ends_the_connection() {
    for (stream, flag) in [(0, 0), (1, 0), (1, flags::RESERVED)] {
        let mut pair = Pair::new(SMALL);
        pair.call(1);
        pair.deliver(WORKER, &raw(Kind::Credit, flag, stream, &0_u32.to_be_bytes(), b""));
        assert_eq!(pair.faults[WORKER], Some(Fault::Credit));
    }
}

#[test]
fn a_killed_answer_never_waits_for_credit() {
    for ended in [false, true] {
        let mut pair = Pair::new(SMALL);
        let (ours, theirs) = pair.call(1);
        for _ in 0..10 {
            pair.sides[WORKER].send(theirs, item(20_000, 1)).unwrap();
        }
        if ended {
            pair.sides[WORKER].end(theirs, Ending::ok());
        }
        pair.pump();
        pair.sides[CALLER].release(ours);
        pair.pump();
        if !ended {
            let tag = *pair.opened.last_key_value().unwrap().0;
            assert_eq!(pair.take_events(WORKER).last(), Some(&Event::Cancelled(tag, CancelMode::Kill)));
            assert_eq!(pair.sides[WORKER].send(theirs, item(1, 1)), Err(SendError::Closed));
            pair.sides[WORKER].end(theirs, Ending::ok());
        }
        pair.pump();
        pair.assert_idle();
    }
}

#[test]
fn an_outcome_does_not_wait_for_connection_credit_once_its_items_are_dropped() {
    let mut pair = Pair::new(Config { connection_window: 70_000, ..SMALL });
    let (_slow, slow_theirs) = pair.call(1);
    let (ours, theirs) = pair.call(2);
    for _ in 0..3 {
        pair.sides[WORKER].send(slow_theirs, item(20_000, 1)).unwrap();
    }
    pair.pump();
    pair.sides[WORKER].send(theirs, item(20_000, 1)).unwrap();
    pair.pump();
    assert!(pair.drain(CALLER, ours).0.is_empty(), "blocked by the slow reader");
    let failure = Ending::failed(Class::Internal, "", "");
    pair.sides[WORKER].abort(theirs, failure.clone());
    pair.pump();
    assert_eq!(pair.drain(CALLER, ours), (vec![], Some(failure)));
}

#[test]
fn a_direction_cut_off_inside_an_item_cannot_end_well() {
    let mut pair = Pair::new(SMALL);
    let (ours, theirs) = pair.call(1);
    pair.sides[WORKER].send(theirs, item(300_000, 1)).unwrap();
    pair.pump();
    pair.sides[WORKER].abort(theirs, Ending::ok());
    pair.pump();
    let (items, end) = pair.drain(CALLER, ours);
    assert!(items.len() == 1 && end == Some(Ending::ok()), "the whole item was out");
    pair.sides[CALLER].release(ours);

    let (ours, theirs) = pair.call(2);
    pair.sides[WORKER].send(theirs, item(300_000, 1)).unwrap();
    tear(&mut pair, WORKER);
    pair.sides[WORKER].abort(theirs, Ending::ok());
    pair.pump();
    let (items, end) = pair.drain(CALLER, ours);
    assert_eq!((items.len(), end.and_then(|end| end.class)), (0, Some(Class::Cancelled)));
    pair.sides[CALLER].release(ours);

    let (ours, theirs) = pair.call(3);
    pair.sides[CALLER].send(ours, item(34_000, 1)).unwrap();
    pair.sides[CALLER].end(ours, Ending::ok());
    pair.sides[CALLER].send(ours, item(1, 1)).unwrap_err();
    tear(&mut pair, CALLER);
    pair.sides[CALLER].cancel(ours, CancelMode::Kill);
    pair.pump();
    pair.sides[WORKER].end(theirs, Ending::ok());
    pair.pump();
    assert_eq!(pair.faults, [None, None]);
}

#[test]
fn a_request_that_fails_inside_an_item_gives_its_credit_and_its_pool_back_at_once() {
    for size in [30_000, 300_000] {
        let mut pair = Pair::new(SMALL);
        let (ours, _theirs) = pair.call(1);
        pair.sides[CALLER].send(ours, item(size, 1)).unwrap();
        tear(&mut pair, CALLER);
        let grant = pair.written(WORKER);
        pair.deliver(CALLER, &grant);
        pair.sides[CALLER].abort(ours, Ending::failed(Class::Cancelled, "", ""));
        pair.pump();
        assert_eq!((pair.sides[WORKER].reserved(), pair.faults), (0, [None, None]));
    }
}

#[test]
fn a_reservation_of_an_earlier_item_does_not_pay_for_the_next() {
    let mut pair = Pair::new(Config { reserve_pool: 8 * 360_000, ..SMALL });
    pair.call(1);
    let announce = raw(Kind::Item, flags::MORE, 1, &60_000_u64.to_be_bytes(), b"");
    let body = raw(Kind::Item, flags::RESERVED | flags::CONT, 1, &[], &[0; 60_000]);
    for _ in 0..6 {
        pair.deliver(WORKER, &announce);
        pair.deliver(WORKER, &body);
        assert_eq!(pair.faults[WORKER], None);
    }
    assert_eq!(pair.sides[WORKER].reserved(), 360_000);
    pair.deliver(WORKER, &announce);
    assert_eq!(pair.sides[WORKER].reserved(), 360_000, "no share for the seventh");
    pair.deliver(WORKER, &body);
    assert_eq!(pair.faults[WORKER], Some(Fault::Credit));
}

#[test]
fn streams_of_both_sides_are_counted_apart() {
    let mut pair = Pair::new(Config { max_streams: 1, ..SMALL });
    let opening = Opening { path: "p".into(), request_id: "r".to_string(), ..Opening::default() };
    for side in [CALLER, WORKER] {
        assert!(pair.sides[side].open(1, Arc::new(opening.clone())).is_some());
        assert!(!pair.sides[side].can_open());
    }
    pair.pump();
    assert_eq!(pair.faults, [None, None]);
    assert_eq!((pair.sides[CALLER].streams(), pair.sides[WORKER].streams()), (2, 2));
}

#[test]
fn what_arrives_in_one_breath_with_its_stream_is_told_under_its_name() {
    let mut pair = Pair::new(SMALL);
    let ours = pair.open(5);
    pair.sides[CALLER].send(ours, item(3, 3)).unwrap();
    let mut bytes = pair.written(CALLER);
    pair.sides[CALLER].cancel(ours, CancelMode::Stop);
    bytes.extend(pair.written(CALLER));
    pair.deliver(WORKER, &bytes);
    let (tag, key) = pair.opened.last_key_value().map(|(tag, key)| (*tag, *key)).unwrap();
    let expected = [Event::Opened(key), Event::Readable(tag), Event::Cancelled(tag, CancelMode::Stop)];
    assert_eq!(pair.take_events(WORKER), expected);
}

#[test]
fn commands_of_the_other_role_are_ignored() {
    let mut pair = Pair::new(SMALL);
    let (ours, theirs) = pair.call(1);
    pair.sides[CALLER].status(ours, Status::Running);
    pair.sides[CALLER].reject(ours, RejectCode::Overloaded, 0, "");
    assert!(!pair.sides[WORKER].cancel(theirs, CancelMode::Kill));
    assert!(!pair.sides[CALLER].wants_transmit() && !pair.sides[WORKER].wants_transmit());
    pair.sides[WORKER].end(theirs, Ending::ok());
    pair.pump();
    assert_eq!(pair.sides[CALLER].recv(ours), Recv::End(Ending::ok()));
}

#[test]
fn a_frame_for_a_stream_that_has_not_been_written_is_a_fault() {
    let mut pair = Pair::new(SMALL);
    pair.open(1);
    pair.deliver(CALLER, &raw(Kind::End, 0, 1, &[0; 5], b""));
    assert_eq!(pair.faults[CALLER], Some(Fault::State));
}

#[test]
fn nothing_is_said_before_the_preface_and_a_leaving_side_still_waits_no_longer_for_a_hello() {
    let mut side = Connection::new(Role::Acceptor, SMALL, Instant::ZERO);
    side.go_away();
    let mut queue = SendQueue::new(1 << 10);
    assert!(!side.wants_transmit() && !side.poll_transmit(&mut queue, Instant::ZERO));
    let deadline = side.poll_timeout().unwrap();
    assert_eq!(deadline.why, Reason::Hello);
    assert_eq!(side.handle_recv(&Preface::OURS.to_bytes(), Instant::ZERO), Ok(()));
    side.poll_transmit(&mut queue, Instant::ZERO);
    let mut slices = [&[][..]; 4];
    let used = queue.slices(&mut slices);
    assert!(slices[..used].concat().starts_with(&Preface::OURS.to_bytes()));
    assert_eq!(side.handle_timeout(deadline.at), Err(Fault::Silent));

    let mut side = Connection::new(Role::Acceptor, SMALL, Instant::ZERO);
    assert_eq!(side.handle_timeout(deadline.at), Err(Fault::Silent));
    assert!(!side.wants_transmit(), "whoever says nothing is not spoken to");
}

#[test]
fn a_closing_connection_writes_nothing_but_its_farewell() {
    let mut pair = Pair::new(SMALL);
    let (_, theirs) = pair.call(1);
    pair.deliver(WORKER, b"garbage garbage garbage");
    pair.sides[WORKER].send(theirs, item(9, 9)).unwrap();
    let before = pair.sides[WORKER].stats().frames_out;
    let bytes = pair.written(WORKER);
    assert_eq!(bytes.first(), Some(&(Kind::GoAway as u8)));
    assert!(pair.written(WORKER).is_empty());
    assert_eq!(pair.sides[WORKER].stats().frames_out, before + 1);
}

#[test]
fn lists_of_waiting_streams_do_not_grow_with_streams_that_are_gone() {
    let mut pair = Pair::new(Config { connection_window: 70_000, ..SMALL });
    let (_slow, slow) = pair.call(1);
    for _ in 0..3 {
        pair.sides[WORKER].send(slow, item(20_000, 1)).unwrap();
    }
    pair.pump();
    for tag in 2..1000 {
        let (ours, theirs): (Key, Key) = pair.call(tag);
        pair.sides[WORKER].send(theirs, item(20_000, 1)).unwrap();
        pair.pump();
        pair.sides[CALLER].release(ours);
        pair.pump();
        pair.sides[WORKER].end(theirs, Ending::ok());
        pair.pump();
    }
    assert_eq!(pair.sides[WORKER].streams(), 1);
    assert!(pair.sides[WORKER].blocked.len() < 100, "{} listed", pair.sides[WORKER].blocked.len());
}

#[test]
fn a_reader_that_leaves_large_items_unread_keeps_no_more_than_its_share_of_the_pool_from_the_others() {
    let mut pair = Pair::new(Config { reserve_pool: 1 << 20, send_buffer: 1, ..SMALL });
    let (slow_ours, slow) = pair.call(1);
    let (fast_ours, fast) = pair.call(2);
    for _ in 0..20 {
        let _ = pair.sides[WORKER].send(slow, item(80_000, 1));
        pair.pump();
    }
    assert_eq!(pair.sides[CALLER].reserved(), 80_000);
    for _ in 0..20 {
        pair.sides[WORKER].send(fast, item(400_000, 2)).unwrap();
        pair.pump();
        assert_eq!(pair.drain(CALLER, fast_ours).0, vec![item(400_000, 2)]);
        pair.pump();
    }
    // Its turn comes as soon as it reads.
    for _ in 0..3 {
        assert_eq!(pair.drain(CALLER, slow_ours).0, vec![item(80_000, 1)]);
        let _ = pair.sides[WORKER].send(slow, item(80_000, 1));
        pair.pump();
    }
}
