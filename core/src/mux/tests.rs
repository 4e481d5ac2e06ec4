//! Two connections back to back: every rule that takes two.

use alloc::string::ToString;
use alloc::sync::Arc;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::send_queue::SendQueue;
use crate::buf::slab::Key;
use crate::id::StreamId;
use crate::mux::config::Config;
use crate::mux::connection::{Connection, State};
use crate::mux::event::{Ending, Event, Opening, Recv, Role};
use crate::protocol::{Closing, Fault};
use crate::time::{Instant, Reason};
use crate::wire::class::Class;
use crate::wire::mux::frame::{Head, Kind, Preface, flags};
use crate::wire::mux::message::{CancelMode, RejectCode, Status};

pub(super) const CALLER: usize = 0;
pub(super) const WORKER: usize = 1;

/// Two connections, a wire between them, and everything they have said.
pub(super) struct Pair {
    pub(super) sides: [Connection; 2],
    pub(super) events: [Vec<Event>; 2],
    pub(super) faults: [Option<Fault>; 2],
    pub(super) opened: BTreeMap<u64, Key>,
    pub(super) now: Instant,
    pub(super) tags: u64,
}

impl Pair {
    pub(super) fn new(config: Config) -> Self {
        let now = Instant::ZERO;
        let mut pair = Self {
            sides: [Connection::new(Role::Dialer, config, now), Connection::new(Role::Acceptor, config, now)],
            events: [vec![], vec![]],
            faults: [None, None],
            opened: BTreeMap::new(),
            now,
            tags: 1000,
        };
        pair.pump();
        pair.take_events(CALLER);
        pair.take_events(WORKER);
        pair
    }

    /// Moves bytes in both directions until both sides are quiet.
    pub(super) fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the pair never comes to rest");
            let mut moved = false;
            for from in [CALLER, WORKER] {
                let bytes = self.written(from);
                moved |= !bytes.is_empty();
                if !bytes.is_empty() {
                    self.deliver(1 - from, &bytes);
                }
            }
            if !moved {
                return;
            }
        }
    }

    pub(super) fn written(&mut self, side: usize) -> Vec<u8> {
        let mut queue = SendQueue::new(64 << 10);
        let now = self.now;
        self.sides[side].poll_transmit(&mut queue, now);
        let mut slices = [&[][..]; 4096];
        let used = queue.slices(&mut slices);
        let bytes = slices[..used].concat();
        assert_eq!(bytes.len(), queue.len());
        self.sides[side].handle_sent(bytes.len(), now);
        bytes
    }

    pub(super) fn deliver(&mut self, side: usize, bytes: &[u8]) {
        if let Err(fault) = self.sides[side].handle_recv(bytes, self.now) {
            self.faults[side].get_or_insert(fault);
        }
        while let Some(event) = self.sides[side].poll_event() {
            if let Event::Opened(key) = event {
                self.tags += 1;
                self.sides[side].set_tag(key, self.tags);
                self.opened.insert(self.tags, key);
            }
            self.events[side].push(event);
        }
    }

    pub(super) fn take_events(&mut self, side: usize) -> Vec<Event> {
        while let Some(event) = self.sides[side].poll_event() {
            self.events[side].push(event);
        }
        std::mem::take(&mut self.events[side])
    }

    pub(super) fn open(&mut self, tag: u64) -> Key {
        let opening = Opening { path: "1/a/b/c".into(), request_id: "r".to_string(), ..Opening::default() };
        self.sides[CALLER].open(tag, Arc::new(opening)).expect("the connection is up")
    }

    /// Opens a stream and returns both sides' keys.
    pub(super) fn call(&mut self, tag: u64) -> (Key, Key) {
        let ours = self.open(tag);
        self.pump();
        let theirs = *self.opened.last_key_value().unwrap().1;
        (ours, theirs)
    }

    pub(super) fn drain(&mut self, side: usize, key: Key) -> (Vec<Bytes>, Option<Ending>) {
        let mut items = vec![];
        loop {
            match self.sides[side].recv(key) {
                Recv::Item(item) => items.push(item),
                Recv::Pending => return (items, None),
                Recv::End(ending) => return (items, Some(ending)),
            }
        }
    }

    pub(super) fn assert_idle(&self) {
        for side in &self.sides {
            assert_eq!(side.streams(), 0);
            assert_eq!((side.held(), side.reserved()), (0, 0));
        }
    }
}

pub(super) fn item(len: usize, seed: u8) -> Bytes {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<_>>().into()
}

#[test]
fn a_call_streams_its_items_back_in_order_and_leaves_nothing_behind() {
    let mut pair = Pair::new(Config::default());
    let (ours, theirs) = pair.call(7);
    pair.sides[CALLER].send(ours, item(10, 1)).unwrap();
    pair.sides[CALLER].end(ours, Ending::ok());
    pair.pump();
    assert_eq!(pair.drain(WORKER, theirs), (vec![item(10, 1)], Some(Ending::ok())));
    let items: Vec<_> = [0, 1, 4096, 4097, 65_536, 65_537, 500_000].map(|len| item(len, 3)).to_vec();
    for one in &items {
        while pair.sides[WORKER].send(theirs, one.clone()).is_err() {
            pair.pump();
        }
    }
    pair.sides[WORKER].end(theirs, Ending::ok());
    pair.pump();
    assert_eq!(pair.drain(CALLER, ours), (items, Some(Ending::ok())));
    pair.sides[CALLER].release(ours);
    pair.pump();
    pair.assert_idle();
    assert_eq!(pair.faults, [None, None]);
}

#[test]
fn a_slow_reader_stops_its_own_producer_and_nobody_else() {
    let config = Config { stream_window: 100_000, connection_window: 10_000_000, ..Config::default() };
    let mut pair = Pair::new(config);
    let (_slow, slow_theirs) = pair.call(1);
    let (fast, fast_theirs) = pair.call(2);
    for _ in 0..200 {
        let _ = pair.sides[WORKER].send(slow_theirs, item(5_000, 1));
        pair.pump();
    }
    let held = pair.sides[CALLER].held();
    assert!(held <= 100_000, "held {held}");
    let mut got = 0;
    for _ in 0..200 {
        pair.sides[WORKER].send(fast_theirs, item(5_000, 2)).unwrap();
        pair.pump();
        got += pair.drain(CALLER, fast).0.len();
    }
    assert_eq!(got, 200);
    assert!(matches!(pair.sides[WORKER].send(slow_theirs, item(300_000, 1)), Err(SendError::Blocked(_))));
}

#[test]
fn many_items_larger_than_the_window_share_a_small_pool_without_deadlock() {
    let config = Config {
        stream_window: 70_000,
        connection_window: 140_000,
        max_item: 400_000,
        reserve_pool: 400_000,
        send_buffer: 1,
        ..Config::default()
    };
    let mut pair = Pair::new(config);
    let keys: Vec<_> = (0..20).map(|tag| pair.call(tag)).collect();
    for (_, theirs) in &keys {
        pair.sides[WORKER].send(*theirs, item(400_000, 9)).unwrap();
        pair.sides[WORKER].end(*theirs, Ending::ok());
    }
    let mut open = keys;
    while !open.is_empty() {
        pair.pump();
        assert!(pair.sides[CALLER].reserved() <= 400_000);
        let before = open.len();
        open.retain(|(ours, _)| {
            let (items, end) = pair.drain(CALLER, *ours);
            assert!(items.iter().all(|one| *one == item(400_000, 9)));
            if end.is_some() {
                pair.sides[CALLER].release(*ours);
            }
            end.is_none()
        });
        assert!(open.len() < before, "{before} calls are stuck");
    }
    pair.pump();
    pair.assert_idle();
}

#[test]
fn many_partial_items_within_the_window_never_deadlock_the_connection() {
    let config = Config { stream_window: 140_000, connection_window: 200_000, ..Config::default() };
    let mut pair = Pair::new(config);
    let keys: Vec<_> = (0..50).map(|tag| pair.call(tag)).collect();
    for (_, theirs) in &keys {
        pair.sides[WORKER].send(*theirs, item(130_000, 4)).unwrap();
        pair.sides[WORKER].end(*theirs, Ending::ok());
    }
    let mut finished = 0;
    for _ in 0..200 {
        pair.pump();
        for (ours, _) in &keys {
            let (items, end) = pair.drain(CALLER, *ours);
            finished += items.len();
            if end.is_some() {
                pair.sides[CALLER].release(*ours);
            }
        }
    }
    assert_eq!(finished, 50);
    pair.pump();
    pair.assert_idle();
}

#[test]
fn cancel_overtakes_data_and_a_killed_stream_gives_its_credit_back() {
    let mut pair = Pair::new(Config::default());
    let (ours, theirs) = pair.call(1);
    for _ in 0..10 {
        pair.sides[WORKER].send(theirs, item(20_000, 1)).unwrap();
    }
    pair.pump();
    assert!(pair.sides[CALLER].held() > 0);
    assert!(!pair.sides[CALLER].cancel(ours, CancelMode::Kill));
    pair.sides[CALLER].release(ours);
    assert_eq!(pair.sides[CALLER].held(), 0);
    pair.pump();
    let tag = *pair.opened.last_key_value().unwrap().0;
    assert_eq!(pair.take_events(WORKER).last(), Some(&Event::Cancelled(tag, CancelMode::Kill)));
    pair.sides[WORKER].abort(theirs, Ending::failed(Class::Cancelled, "request.cancelled", ""));
    pair.pump();
    pair.assert_idle();
    assert_eq!(pair.take_events(CALLER).iter().filter(|e| !matches!(e, Event::Readable(1))).count(), 0);
}

#[test]
fn a_call_cancelled_before_it_was_written_never_reaches_the_peer() {
    let mut pair = Pair::new(Config::default());
    let ours = pair.open(1);
    assert!(!pair.sides[CALLER].was_written(ours));
    assert!(pair.sides[CALLER].cancel(ours, CancelMode::Stop));
    pair.pump();
    assert!(pair.opened.is_empty());
    pair.assert_idle();
}

#[test]
fn a_killed_request_in_the_middle_of_a_large_item_leaves_nothing_behind() {
    let config = Config { stream_window: 70_000, ..Config::default() };
    let mut pair = Pair::new(config);
    for size in [60_000, 69_000, 900_000] {
        let (ours, theirs) = pair.call(1);
        pair.sides[WORKER].send(theirs, item(size, 1)).unwrap();
        let bytes = pair.written(WORKER);
        pair.deliver(CALLER, &bytes[..bytes.len().min(30)]);
        pair.sides[CALLER].cancel(ours, CancelMode::Kill);
        pair.sides[CALLER].release(ours);
        pair.deliver(CALLER, &bytes[bytes.len().min(30)..]);
        pair.pump();
        pair.sides[WORKER].abort(theirs, Ending::failed(Class::Cancelled, "", ""));
        pair.pump();
        pair.assert_idle();
    }
}

#[test]
fn an_error_in_the_middle_of_an_item_is_the_outcome() {
    let mut pair = Pair::new(Config::default());
    let (ours, theirs) = pair.call(1);
    pair.sides[WORKER].send(theirs, item(10, 1)).unwrap();
    pair.sides[WORKER].send(theirs, item(200_000, 2)).unwrap();
    let mut queue = SendQueue::new(1000);
    pair.sides[WORKER].poll_transmit(&mut queue, Instant::ZERO);
    let mut slices = [&[][..]; 64];
    let used = queue.slices(&mut slices);
    pair.deliver(CALLER, &slices[..used].concat());
    let failure = Ending::failed(Class::Internal, "backend.unknown", "boom");
    pair.sides[WORKER].abort(theirs, failure.clone());
    pair.pump();
    assert_eq!(pair.drain(CALLER, ours), (vec![item(10, 1)], Some(failure)));
    pair.sides[CALLER].release(ours);
    pair.pump();
    pair.assert_idle();
}

#[test]
fn a_refused_stream_is_gone_on_both_sides_with_its_reason() {
    let mut pair = Pair::new(Config::default());
    let (_, theirs) = pair.call(5);
    pair.sides[WORKER].reject(theirs, RejectCode::Overloaded, 250, "full");
    pair.pump();
    let message = "full".into();
    let expected = Event::Rejected { tag: 5, code: RejectCode::Overloaded, retry_after_ms: 250, message };
    assert_eq!(pair.take_events(CALLER), vec![expected]);
    pair.assert_idle();
}

#[test]
fn a_status_is_told_unless_an_item_says_it_better() {
    let mut pair = Pair::new(Config::default());
    let (_, theirs) = pair.call(5);
    pair.sides[WORKER].status(theirs, Status::Queued(3));
    pair.pump();
    assert_eq!(pair.take_events(CALLER), vec![Event::Status(5, Status::Queued(3))]);
    pair.sides[WORKER].status(theirs, Status::Running);
    pair.sides[WORKER].send(theirs, item(1, 1)).unwrap();
    pair.pump();
    assert_eq!(pair.take_events(CALLER), vec![Event::Readable(5)]);
}

#[test]
fn a_writer_that_was_turned_away_hears_of_room() {
    let config = Config { send_buffer: 10_000, ..Config::default() };
    let mut pair = Pair::new(config);
    let (ours, _) = pair.call(5);
    pair.sides[CALLER].send(ours, item(9_000, 1)).unwrap();
    let Err(SendError::Blocked(back)) = pair.sides[CALLER].send(ours, item(9_000, 1)) else { panic!("not blocked") };
    assert_eq!(back, item(9_000, 1));
    pair.pump();
    assert_eq!(pair.take_events(CALLER), vec![Event::Writable(5)]);
}

#[test]
fn draining_refuses_new_streams_finishes_old_ones_and_then_closes_both_sides() {
    let mut pair = Pair::new(Config::default());
    let (ours, theirs) = pair.call(1);
    pair.sides[WORKER].go_away();
    let late = pair.open(2);
    pair.pump();
    let events = pair.take_events(CALLER);
    assert!(events.contains(&Event::GoingAway), "{events:?}");
    let refused = |event: &Event| matches!(event, Event::Rejected { tag: 2, code: RejectCode::Draining, .. });
    assert_eq!(events.iter().filter(|event| refused(event)).count(), 1, "{events:?}");
    assert!(!pair.sides[CALLER].was_written(late));
    assert!(!pair.sides[CALLER].can_open());
    assert_eq!(pair.sides[WORKER].poll_close(pair.now), None);
    pair.sides[WORKER].send(theirs, item(3, 3)).unwrap();
    pair.sides[WORKER].end(theirs, Ending::ok());
    pair.pump();
    assert_eq!(pair.drain(CALLER, ours), (vec![item(3, 3)], Some(Ending::ok())));
    pair.sides[CALLER].release(ours);
    for side in [CALLER, WORKER] {
        assert_eq!(pair.sides[side].poll_close(pair.now), Some(Closing::Flush));
        assert_eq!(pair.sides[side].poll_close(pair.now), None, "told once");
    }
}

#[test]
fn streams_the_leaving_peer_never_saw_are_refused_as_not_run() {
    let mut pair = Pair::new(Config::default());
    pair.sides[WORKER].go_away();
    let goodbye = pair.written(WORKER);
    pair.open(2);
    pair.written(CALLER);
    pair.deliver(CALLER, &goodbye);
    let message = "the worker is leaving".into();
    let refused = Event::Rejected { tag: 2, code: RejectCode::Draining, retry_after_ms: 0, message };
    assert_eq!(pair.take_events(CALLER), vec![refused, Event::GoingAway]);
}

#[test]
fn every_flipped_bit_ends_the_connection_with_a_fault_on_both_sides() {
    let mut reference = Pair::new(Config::default());
    let key = reference.open(1);
    reference.sides[CALLER].send(key, item(20, 5)).unwrap();
    let len = reference.written(CALLER).len();
    for bit in 0..len * 8 {
        let mut pair = Pair::new(Config::default());
        let key = pair.open(1);
        pair.sides[CALLER].send(key, item(20, 5)).unwrap();
        let mut bytes = pair.written(CALLER);
        bytes[bit / 8] ^= 1 << (bit % 8);
        pair.deliver(WORKER, &bytes);
        assert!(matches!(pair.faults[WORKER], Some(Fault::Wire(_))), "bit {bit}: {:?}", pair.faults[WORKER]);
        pair.pump();
        assert!(matches!(pair.faults[CALLER], Some(Fault::Told(_))), "bit {bit}: {:?}", pair.faults[CALLER]);
        for side in [CALLER, WORKER] {
            assert_eq!(pair.sides[side].state(), State::Closing);
            assert_eq!(pair.sides[side].poll_close(pair.now), Some(Closing::Flush));
        }
    }
}

pub(super) fn raw(kind: Kind, flag: u8, stream: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head::seal(kind, flag, StreamId(stream), header, body, Config::default().crc).unwrap();
    [&head, header, body].concat()
}

#[test]
fn frames_out_of_place_are_faults() {
    let total = 9_u64.to_be_bytes();
    let cases: Vec<(&str, Vec<u8>, Fault)> = vec![
        ("item of an unknown stream", raw(Kind::Item, 0, 9, &[], b"x"), Fault::State),
        ("item of the connection", raw(Kind::Item, 0, 0, &[], b"x"), Fault::State),
        ("open with our parity", raw(Kind::Open, 0, 2, &[1, 0, 0, 2, 0, 0], b""), Fault::State),
        ("second hello", raw(Kind::Hello, 0, 0, &[0; 20], b""), Fault::State),
        ("pong nobody asked for", raw(Kind::Pong, 0, 0, &[0; 8], b""), Fault::State),
        ("continuation of nothing", raw(Kind::Item, flags::CONT, 1, &[], b"x"), Fault::State),
        ("first part without length", raw(Kind::Item, flags::MORE, 1, &[], b"x"), Fault::State),
        ("whole item with length", raw(Kind::Item, 0, 1, &total, b"x"), Fault::State),
        ("reserved from the start", raw(Kind::Item, flags::RESERVED, 1, &[], b"x"), Fault::State),
        ("cancel of the acceptor's own", raw(Kind::Cancel, 0, 2, &[1], b""), Fault::State),
        ("credit without end", raw(Kind::Credit, 0, 1, &[0xFF; 4], b""), Fault::Credit),
    ];
    for (name, bytes, fault) in cases {
        let mut pair = Pair::new(Config::default());
        pair.call(1);
        for _ in 0..100_000 {
            pair.deliver(WORKER, &bytes);
            if pair.faults[WORKER].is_some() || !name.starts_with("credit") {
                break;
            }
        }
        assert_eq!(pair.faults[WORKER], Some(fault), "{name}");
    }
}

#[test]
fn a_peer_that_overruns_its_credit_or_its_streams_is_cut_off() {
    let config = Config { stream_window: 70_000, connection_window: 70_000, max_streams: 2, ..Config::default() };
    let mut pair = Pair::new(config);
    pair.call(1);
    for _ in 0..2 {
        pair.deliver(WORKER, &raw(Kind::Item, 0, 1, &[], &[0; 30_000]));
        assert_eq!(pair.faults[WORKER], None);
    }
    pair.deliver(WORKER, &raw(Kind::Item, 0, 1, &[], &[0; 30_000]));
    assert_eq!(pair.faults[WORKER], Some(Fault::Credit));

    let mut pair = Pair::new(config);
    for id in [1, 3, 5] {
        pair.deliver(WORKER, &raw(Kind::Open, 0, id, &[1, 0, 1, b'p', 2, 0, 1, b'r'], b""));
    }
    assert_eq!(pair.faults[WORKER], Some(Fault::Streams));

    let mut pair = Pair::new(config);
    for token in 0_u64..40 {
        pair.deliver(WORKER, &raw(Kind::Ping, 0, 0, &token.to_be_bytes(), b""));
    }
    assert_eq!(pair.faults[WORKER], Some(Fault::Flood));
}

#[test]
fn an_item_beyond_the_limit_is_refused_here_before_it_is_sent_and_there_before_it_is_buffered() {
    let config = Config { max_item: 1000, ..Config::default() };
    let mut pair = Pair::new(config);
    let (ours, _) = pair.call(1);
    assert_eq!(pair.sides[CALLER].send(ours, item(1001, 0)), Err(SendError::TooLarge { limit: 1000 }));
    pair.sides[CALLER].send(ours, item(1000, 0)).unwrap();
    pair.pump();
    assert_eq!(pair.faults, [None, None]);
    pair.deliver(WORKER, &raw(Kind::Item, flags::MORE, 1, &1001_u64.to_be_bytes(), b""));
    assert!(matches!(pair.faults[WORKER], Some(Fault::Wire(_))));
}

#[test]
fn wrong_protocols_and_versions_are_told_apart() {
    let fault = |bytes: &[u8]| {
        let mut side = Connection::new(Role::Acceptor, Config::default(), Instant::ZERO);
        let fault = side.handle_recv(bytes, Instant::ZERO).unwrap_err();
        let mut queue = SendQueue::new(1 << 10);
        side.poll_transmit(&mut queue, Instant::ZERO);
        (fault, !queue.is_empty())
    };
    assert_eq!(fault(b"GET / HTTP/1.1\r\n"), (Fault::Dialect, false));
    let newer = Preface { newest: 9, oldest: 7 }.to_bytes();
    assert_eq!(fault(&newer), (Fault::Version { peer: 9 }, true));
}

#[test]
fn a_peer_that_never_says_hello_or_falls_silent_is_given_up_in_time() {
    let config = Config::default();
    let mut side = Connection::new(Role::Dialer, config, Instant::ZERO);
    let deadline = side.poll_timeout().unwrap();
    assert_eq!((deadline.at, deadline.why), (Instant::ZERO + config.hello_timeout, Reason::Hello));
    assert_eq!(side.handle_timeout(deadline.at), Err(Fault::Silent));

    let mut pair = Pair::new(config);
    for (expected, outcome) in [(Reason::Ping, Ok(())), (Reason::Pong, Err(Fault::Silent))] {
        let deadline = pair.sides[CALLER].poll_timeout().unwrap();
        assert_eq!(deadline.why, expected);
        pair.now = deadline.at;
        assert_eq!(pair.sides[CALLER].handle_timeout(deadline.at), outcome);
        pair.written(CALLER);
    }
    assert_eq!(pair.now, Instant::ZERO + config.ping_interval + config.ping_timeout);
}

#[test]
fn pings_are_answered_and_keep_an_idle_connection_alive() {
    let mut pair = Pair::new(Config::default());
    for _ in 0..100 {
        pair.now = pair.sides[CALLER].poll_timeout().unwrap().at;
        for side in [CALLER, WORKER] {
            assert_eq!(pair.sides[side].handle_timeout(pair.now), Ok(()));
        }
        pair.pump();
    }
    assert_eq!(pair.faults, [None, None]);
}

#[test]
fn a_farewell_that_cannot_be_written_is_cut_short() {
    let mut pair = Pair::new(Config::default());
    pair.deliver(WORKER, b"garbage garbage garbage");
    assert_eq!(pair.sides[WORKER].poll_close(pair.now), None, "the farewell comes first");
    let deadline = pair.sides[WORKER].poll_timeout().unwrap();
    assert_eq!(deadline.why, Reason::Drain);
    assert_eq!(pair.sides[WORKER].poll_close(deadline.at), Some(Closing::Abort));
    assert_eq!(pair.sides[WORKER].poll_close(deadline.at), None);
}

#[test]
fn requests_stream_in_while_answers_stream_out() {
    let mut pair = Pair::new(Config::default());
    let (ours, theirs) = pair.call(1);
    for round in 0..20 {
        pair.sides[CALLER].send(ours, item(100, round)).unwrap();
        pair.pump();
        let (got, end) = pair.drain(WORKER, theirs);
        assert_eq!((got.len(), end), (1, None));
        pair.sides[WORKER].send(theirs, got[0].clone()).unwrap();
        pair.pump();
        assert_eq!(pair.drain(CALLER, ours).0, vec![item(100, round)]);
    }
    pair.sides[CALLER].end(ours, Ending::ok());
    pair.pump();
    assert_eq!(pair.drain(WORKER, theirs).1, Some(Ending::ok()));
    pair.sides[WORKER].end(theirs, Ending::ok());
    pair.pump();
    assert_eq!(pair.drain(CALLER, ours).1, Some(Ending::ok()));
    pair.sides[CALLER].release(ours);
    pair.assert_idle();
}

#[test]
fn an_acceptor_that_leaves_before_the_preface_introduces_itself_first() {
    let config = Config::default();
    let mut acceptor = Connection::new(Role::Acceptor, config, Instant::ZERO);
    acceptor.go_away();
    assert!(!acceptor.wants_transmit());
    let mut queue = SendQueue::new(1024);
    assert!(!acceptor.poll_transmit(&mut queue, Instant::ZERO));
    let deadline = acceptor.poll_timeout().unwrap();
    assert_eq!(deadline.why, Reason::Hello);
    assert_eq!(acceptor.handle_timeout(deadline.at), Err(Fault::Silent));
    assert!(!acceptor.wants_transmit(), "a peer that has not spoken cannot read a farewell");
    assert_eq!(acceptor.poll_close(deadline.at), Some(Closing::Flush));

    let mut pair = Pair {
        sides: [
            Connection::new(Role::Dialer, config, Instant::ZERO),
            Connection::new(Role::Acceptor, config, Instant::ZERO),
        ],
        events: [vec![], vec![]],
        faults: [None, None],
        opened: BTreeMap::new(),
        now: Instant::ZERO,
        tags: 0,
    };
    pair.sides[WORKER].go_away();
    pair.pump();
    assert_eq!(pair.faults, [None, None]);
    assert_eq!(pair.take_events(CALLER), [Event::Up, Event::GoingAway]);
}

impl Connection {
    /// As if all stream ids but the last `left` had been used.
    pub(crate) fn skip_to_last_ids(&mut self, left: u32) {
        self.next_id = u32::MAX - 2 - 2 * left;
    }
}

#[test]
fn a_writer_that_was_turned_away_hears_of_the_outcome_too() {
    let mut pair = Pair::new(Config { stream_window: 70_000, send_buffer: 70_000, ..Config::default() });
    let (ours, theirs) = pair.call(7);
    while pair.sides[CALLER].send(ours, item(60_000, 1)).is_ok() {
        pair.pump();
    }
    // An item the reader has been told of and does not take: the outcome alone is no news for it.
    pair.sides[WORKER].send(theirs, item(1, 1)).unwrap();
    pair.pump();
    assert_eq!(pair.take_events(CALLER), [Event::Readable(7)]);
    pair.sides[WORKER].end(theirs, Ending::ok());
    pair.pump();
    assert_eq!(pair.take_events(CALLER), [Event::Writable(7)]);
    assert_eq!(pair.sides[CALLER].send(ours, item(1, 1)), Err(SendError::Closed));
}
