//! Calls that cross threads, in every order of item, outcome, cancel, drop of either side, full, empty and wake. A wake that
//! is lost shows as a deadlock.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use loom::future::block_on;
use loom::model;
use loom::thread::spawn;
use ringplane_core::buf::slab::Key;
use ringplane_core::caller::error::{At, CallError};
use ringplane_core::caller::request::Request;
use ringplane_core::id::InstanceId;
use ringplane_core::wire::mux::message::CancelMode;

use crate::runtime::crossing::{Brought, Crossing, Outcome, Over};
use crate::runtime::hub::Wakes;
use crate::runtime::known::Known;
use crate::runtime::lane::Hand;
use crate::runtime::port::Port;
use crate::runtime::room::Room;

const KEY: Key = Key { index: 3, generation: 5 };
const AT: At = At { instance: InstanceId(7), addr: None, attempts: 1 };
/// What the core says with the outcome.
const ATTEMPTS: u32 = 2;

/// A call with room for so many items in each direction, and the port of its core.
fn call(depth: usize) -> (Arc<Crossing>, Arc<Port<Key>>) {
    let port = Arc::<Port<Key>>::default();
    let opening = (Arc::new(Known), Request::default());
    (Arc::new(Crossing::new(port.clone(), depth, opening, false)), port)
}

fn item(number: u8) -> Bytes {
    vec![number].into()
}

/// A core with one call, whose worker answers with so many items and then, once the request has ended if it is a stream,
/// with the outcome.
struct Core {
    crossing: Arc<Crossing>,
    port: Arc<Port<Key>>,
    answers: Vec<u8>,
    outcome: Outcome,
    streaming: bool,
}

/// What became of a call as its core saw it.
#[derive(PartialEq, Debug, Default)]
struct Seen {
    requests: Vec<u8>,
    ended: bool,
    gone: bool,
    cancelled: bool,
}

impl Core {
    /// Does what the core does until it has nothing to do with the call any more.
    fn run(mut self, depth: usize) -> Seen {
        let (mut seen, mut room) = (Seen::default(), Room::of(depth));
        let (mut hand, mut wakes, mut brought) = (Hand::default(), Wakes::default(), Brought::default());
        if self.crossing.take_opening().is_none() {
            return Seen { gone: true, ..seen };
        }
        self.answers.reverse();
        loop {
            seen.requests.extend(std::iter::from_fn(|| hand.pop()).map(|item| item[0]));
            while room.fits(1)
                && let Some(number) = self.answers.pop()
            {
                room.take(1);
                brought.items.push(item(number));
            }
            if self.answers.is_empty() && (seen.ended || !self.streaming) {
                brought.outcome = Some(self.outcome.clone());
                brought.attempts = ATTEMPTS;
            }
            brought.needs = (!self.answers.is_empty()).then_some(1);
            let over = brought.outcome.is_some();
            let news = self.crossing.exchange(KEY, &mut brought, &mut hand, &mut wakes);
            brought.clear();
            wakes.give();
            (room, seen.gone) = (news.room, news.gone);
            seen.ended |= news.ended;
            if over || seen.gone {
                return seen;
            }
            if news.cancel.is_some() {
                (seen.cancelled, self.outcome, self.streaming) = (true, Err(CallError::Cancelled), false);
                self.answers.clear();
                continue;
            }
            let fits = brought.needs.is_some_and(|len| room.fits(len));
            if !fits && hand.is_empty() && !(seen.ended && self.answers.is_empty()) {
                let mut heard = Vec::new();
                block_on(poll_fn(|cx| self.port.poll_take(&mut heard, cx)));
                assert!(heard.iter().all(|key| *key == KEY));
            }
        }
    }
}

/// Reads to the end, or that many items.
fn read(crossing: &Crossing, most: usize) -> (Vec<u8>, Option<Outcome>) {
    let (mut hand, mut items) = (Hand::default(), Vec::new());
    loop {
        while items.len() < most {
            let Some(item) = hand.pop() else { break };
            items.push(item[0]);
        }
        if items.len() == most {
            return (items, None);
        }
        if let Some(outcome) = block_on(poll_fn(|cx| crossing.poll_read(&mut hand, cx))) {
            return (items, Some(outcome));
        }
    }
}

fn core(depth: usize, answers: &[u8], streaming: bool) -> (Arc<Crossing>, loom::thread::JoinHandle<Seen>) {
    let (crossing, port) = call(depth);
    let core = Core { crossing: crossing.clone(), port, answers: answers.to_vec(), outcome: Ok(()), streaming };
    (crossing, spawn(move || core.run(depth)))
}

#[test]
fn every_item_is_read_in_order_and_then_the_outcome() {
    for depth in [1, 2] {
        model(move || {
            let (crossing, core) = core(depth, &[0, 1], false);
            assert_eq!(read(&crossing, usize::MAX), (vec![0, 1], Some(Ok(()))));
            assert_eq!(crossing.attempts(), ATTEMPTS);
            assert_eq!(core.join().unwrap(), Seen::default());
        });
    }
}

#[test]
fn a_call_that_is_killed_has_one_outcome() {
    model(|| {
        let (crossing, core) = core(1, &[0, 1], false);
        crossing.cancel(CancelMode::Stop);
        crossing.cancel(CancelMode::Kill);
        crossing.cancel(CancelMode::Stop);
        let (items, outcome) = read(&crossing, usize::MAX);
        let cancelled = core.join().unwrap().cancelled;
        assert!([0, 1].starts_with(&items));
        match outcome {
            Some(Ok(())) => assert!(!cancelled && items.len() == 2),
            outcome => assert!(cancelled && outcome == Some(Err(CallError::Cancelled))),
        }
    });
}

#[test]
fn a_core_learns_that_a_reader_has_left_or_has_ended_before() {
    for most in [0, 1] {
        model(move || {
            let (crossing, core) = core(1, &[0, 1, 2], false);
            assert_eq!(read(&crossing, most).1, None);
            crossing.leave();
            assert!(core.join().unwrap().gone);
        });
    }
}

#[test]
fn a_request_arrives_and_then_its_end() {
    model(|| {
        let (crossing, core) = core(1, &[], true);
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_send(&mut Some(item(0)), cx))), Ok(()));
        crossing.finish();
        let seen = core.join().unwrap();
        assert_eq!(seen, Seen { requests: vec![0], ended: true, ..Seen::default() });
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_send(&mut Some(item(1)), cx))), Err(Over));
        assert_eq!(read(&crossing, usize::MAX), (vec![], Some(Ok(()))));
    });
}

#[test]
fn a_sender_that_waits_goes_on_when_the_core_has_taken_what_was_there() {
    model(|| {
        let (crossing, port) = call(1);
        let sending = crossing.clone();
        let sender = spawn(move || {
            let mut items: Vec<Bytes> = (0..2).map(item).collect();
            block_on(poll_fn(|cx| sending.poll_send(&mut items, cx)))
        });
        let (mut hand, mut wakes, mut requests) = (Hand::default(), Wakes::default(), Vec::new());
        while requests.len() < 2 {
            crossing.exchange(KEY, &mut Brought::default(), &mut hand, &mut wakes);
            wakes.give();
            if hand.is_empty() {
                block_on(poll_fn(|cx| port.poll_take(&mut Vec::new(), cx)));
            }
            requests.extend(std::iter::from_fn(|| hand.pop()).map(|item| item[0]));
        }
        assert_eq!(requests, [0, 1]);
        assert_eq!(sender.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_sender_that_waits_learns_that_the_call_has_been_left() {
    model(|| {
        let (crossing, _port) = call(1);
        let sending = crossing.clone();
        let sender = spawn(move || {
            let mut items: Vec<Bytes> = (0..2).map(item).collect();
            block_on(poll_fn(|cx| sending.poll_send(&mut items, cx)))
        });
        crossing.leave();
        assert_eq!(sender.join().unwrap(), Err(Over));
        assert!(crossing.take_opening().is_none(), "it need not be begun");
    });
}

/// A core that answers a call with one item and ends amid it.
fn ending(crossing: &Crossing, port: &Port<Key>) {
    let (mut brought, mut wakes) = (Brought::default(), Wakes::default());
    brought.items.push(item(0));
    brought.at = Some(AT);
    crossing.exchange(KEY, &mut brought, &mut Hand::default(), &mut wakes);
    wakes.give();
    port.close();
    crossing.lose(CallError::Closed, &mut wakes);
    wakes.give();
}

#[test]
fn whoever_reads_learns_that_the_core_has_ended_after_the_items_before() {
    model(|| {
        let (crossing, port) = call(1);
        let lost = crossing.clone();
        let core = spawn(move || ending(&lost, &port));
        assert_eq!(read(&crossing, 1), (vec![0], None));
        assert_eq!(crossing.at(), Some(AT), "known with the first item");
        assert_eq!(read(&crossing, usize::MAX), (vec![], Some(Err(CallError::Closed))));
        core.join().unwrap();
    });
}

#[test]
fn whoever_sends_learns_that_the_core_has_ended() {
    model(|| {
        let (crossing, port) = call(1);
        let lost = crossing.clone();
        let core = spawn(move || ending(&lost, &port));
        let mut items: Vec<Bytes> = (0..3).map(item).collect();
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_send(&mut items, cx))), Err(Over));
        core.join().unwrap();
    });
}

#[test]
fn a_request_that_is_refused_tells_its_sender() {
    model(|| {
        let (crossing, _port) = call(1);
        let refusing = crossing.clone();
        let core = spawn(move || {
            let mut wakes = Wakes::default();
            refusing.refuse(&mut wakes);
            wakes.give();
        });
        let mut items: Vec<Bytes> = (0..2).map(item).collect();
        assert_eq!(block_on(poll_fn(|cx| crossing.poll_send(&mut items, cx))), Err(Over));
        core.join().unwrap();
    });
}

#[test]
fn everything_that_is_left_at_a_port_is_taken_until_it_closes() {
    model(|| {
        let port = Arc::<Port<u8>>::default();
        let to = port.clone();
        let leaving = spawn(move || to.leave([1, 2]).is_ok() && to.leave([3]).is_ok());
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let before = taken.len();
            block_on(poll_fn(|cx| port.poll_take(&mut taken, cx)));
            assert!(taken.len() > before);
        }
        assert!(leaving.join().unwrap());
        assert_eq!(taken, [1, 2, 3]);
        assert!(port.close().is_empty());
        assert_eq!(port.leave([4]), Err([4]));
    });
}

#[test]
fn what_is_left_at_a_port_that_closes_is_taken_or_comes_back() {
    model(|| {
        let port = Arc::<Port<u8>>::default();
        let to = port.clone();
        let leaving = spawn(move || to.leave([1]).is_ok());
        let left = port.close().len();
        assert_eq!(left, usize::from(leaving.join().unwrap()));
    });
}

#[test]
fn a_call_that_is_placed_says_where_it_is_before_anything_has_come_of_it() {
    model(|| {
        let opening = (Arc::new(Known), Request::default());
        let crossing = Arc::new(Crossing::new(Arc::default(), 1, opening, true));
        assert!(crossing.is_placed() && crossing.at().is_none());
        let core = spawn({
            let crossing = crossing.clone();
            move || {
                let (mut brought, mut wakes) = (Brought { at: Some(AT), ..Brought::default() }, Wakes::default());
                crossing.exchange(KEY, &mut brought, &mut Hand::default(), &mut wakes);
                wakes.give();
            }
        });
        core.join().unwrap();
        assert_eq!(crossing.at(), Some(AT));
    });
}

#[test]
fn a_core_that_is_asked_to_look_hears_of_it_and_says_where_the_call_is_by_then() {
    model(|| {
        let (crossing, port) = call(1);
        let (mut hand, mut wakes) = (Hand::default(), Wakes::default());
        crossing.exchange(KEY, &mut Brought::default(), &mut hand, &mut wakes);
        let core = spawn({
            let crossing = crossing.clone();
            move || {
                let mut heard = Vec::new();
                block_on(poll_fn(|cx| port.poll_take(&mut heard, cx)));
                let (mut brought, mut wakes) = (Brought { at: Some(AT), ..Brought::default() }, Wakes::default());
                crossing.exchange(KEY, &mut brought, &mut Hand::default(), &mut wakes);
                heard
            }
        });
        crossing.look();
        assert_eq!(core.join().unwrap(), [KEY]);
        assert_eq!(crossing.at(), Some(AT));
    });
}
