//! A caller and a Dynamo worker written out by hand: request frames, acks, and what comes home.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::string::ToString;
use std::vec::Vec;
use std::{assert, assert_eq, format, matches, vec};

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::send_queue::SendQueue;
use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::machine::Caller;
use crate::caller::request::{CallId, Recv, Request};
use crate::caller::target::Target;
use crate::id::{ConnId, InstanceId};
use crate::mux::event::Opening;
use crate::protocol::{Action, Blame, CloseReason, Closing, Fault, Protocol};
use crate::route::policy::any::AnyPolicy;
use crate::tests::net::{millis, secs};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::control::{Control, Prologue, RequestType};
use crate::wire::dynamo::failure_key::Key;
use crate::wire::dynamo::headers::Headers;
use crate::wire::dynamo::request;
use crate::wire::dynamo::two_part::{Head, TwoPart};
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::mux::message::{CancelMode, RejectCode};
use crate::wire::parse::{Format, Limits, Parse};

const PATH: &str = "2a/ns/backend/generate";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const LISTENER: &str = "127.0.0.1:4100";

pub(in crate::caller) struct World {
    pub(in crate::caller) caller: Caller,
    pub(in crate::caller) now: Instant,
    pub(in crate::caller) written: BTreeMap<ConnId, Vec<u8>>,
    pub(in crate::caller) actions: Vec<Action>,
    homes: u64,
    /// What the calls say their requests are written in.
    codec: Option<&'static str>,
    /// Whether the calls may run twice.
    idempotent: bool,
    pub(in crate::caller) endpoint: crate::caller::request::EndpointKey,
}

impl World {
    pub(in crate::caller) fn new(codec: Codec) -> Self {
        Self::with(codec, AnyPolicy::default())
    }

    pub(in crate::caller) fn with(codec: Codec, policy: AnyPolicy) -> Self {
        let mut caller = Caller::new(Config::default(), 7);
        let endpoint = caller.endpoint(policy);
        let addr = SocketAddr::from(([10, 0, 0, 1], 9000));
        let now = Instant::ZERO;
        let target = Target::call_home(addr, PATH, codec);
        caller.set_instances(endpoint, [(InstanceId(0x2a), target)], now);
        Self {
            caller,
            now,
            written: BTreeMap::new(),
            actions: Vec::new(),
            homes: 0,
            codec: None,
            idempotent: false,
            endpoint,
        }
    }

    pub(in crate::caller) fn drain(&mut self) {
        while self.caller.poll_event().is_some() {}
        while let Some(conn) = self.caller.poll_ready() {
            let mut queue = SendQueue::new(1 << 20);
            while self.caller.poll_transmit(conn, &mut queue, self.now) {}
            let mut slices = [&[][..]; 64];
            let used = queue.slices(&mut slices);
            let bytes = slices[..used].concat();
            self.caller.handle_sent(conn, bytes.len(), self.now);
            self.written.entry(conn).or_default().extend(bytes);
        }
        while let Some(action) = self.caller.poll_action() {
            self.actions.push(action);
        }
    }

    /// A call, its connection, and its request as the worker reads it.
    pub(in crate::caller) fn call(&mut self) -> (CallId, ConnId, Control, Vec<u8>) {
        self.call_with(Some(Bytes::from_static(b"\x93")))
    }

    /// The same; without a body the request is a stream.
    fn call_with(&mut self, body: Option<Bytes>) -> (CallId, ConnId, Control, Vec<u8>) {
        let opening = Opening {
            request_id: "call-1".into(),
            traceparent: Some(TRACE.into()),
            metadata: vec![("tenant".into(), "t1".into())],
            codec: self.codec.map(Into::into),
            priority: -2,
            tenant: Some("blue".into()),
            ..Opening::default()
        };
        let timeout = Some(secs(600));
        let request = Request { body, opening, timeout, idempotent: self.idempotent, ..Request::default() };
        let call = self.caller.call(self.endpoint, request, self.now).unwrap();
        self.drain();
        let mut conn = None;
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Connect { conn: dial, .. } => {
                    self.caller.handle_open(dial, None, self.now);
                    conn = Some(dial);
                    self.drain();
                }
                Action::Listen { .. } => self.caller.handle_listening(Ok(LISTENER.parse().unwrap()), self.now),
                Action::Close { .. } | Action::Pause { .. } | Action::Resume { .. } => {}
            }
        }
        self.drain();
        while let Some(Action::Listen { .. }) = self.actions.first() {
            self.actions.remove(0);
            self.caller.handle_listening(Ok(LISTENER.parse().unwrap()), self.now);
            self.drain();
        }
        let conn = conn.or_else(|| self.written.keys().copied().find(|conn| conn.is_dialed())).unwrap();
        let bytes = self.written.remove(&conn).unwrap();
        let Ok(Parse::Complete { value, .. }) = request::Request::parse(&bytes, &Limits::default()) else { panic!() };
        assert_eq!(value.path, PATH.as_bytes());
        let headers = Headers::read(value.headers);
        assert_eq!((headers.traceparent(), headers.request_id()), (Some(TRACE), Some("call-1")));
        assert_eq!(headers.remaining_us(), Some(600_000_000));
        assert_eq!((headers.priority(), headers.tenant()), (-2, Some("blue")));
        let Ok(Parse::Complete { value, .. }) = TwoPart::parse(value.payload, &Limits::default()) else { panic!() };
        (call, conn, Control::read(value.header).unwrap(), value.body.to_vec())
    }

    pub(in crate::caller) fn recv(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        let fine = self.caller.handle_recv(conn, bytes, self.now).is_ok();
        self.drain();
        fine
    }

    /// A worker comes home with the subject of `control`.
    pub(in crate::caller) fn home(&mut self, control: &Control) -> ConnId {
        self.come(&control.response_stream().unwrap().subject, "response")
    }

    pub(in crate::caller) fn come(&mut self, subject: &str, stream: &str) -> ConnId {
        self.homes += 1;
        let conn = ConnId::accepted_home(self.homes);
        self.caller.handle_open(conn, None, self.now);
        let hello = std::format!("{{\"subject\":\"{subject}\",\"stream_type\":\"{stream}\"}}");
        self.recv(conn, &frame(hello.as_bytes(), b""));
        conn
    }

    pub(in crate::caller) fn close(&mut self, conn: ConnId, why: CloseReason) {
        self.caller.handle_close(conn, why, self.now);
        self.drain();
    }

    pub(in crate::caller) fn outcome(&mut self, call: CallId) -> (Vec<Bytes>, Option<Result<(), CallError>>) {
        let mut items = vec![];
        loop {
            match self.caller.recv(call, self.now) {
                Recv::Item(item) => items.push(item),
                Recv::Pending => return (items, None),
                Recv::End(outcome) => return (items, Some(outcome)),
            }
        }
    }

    pub(in crate::caller) fn wait(&mut self, by: core::time::Duration) {
        self.now = self.now + by;
        self.caller.handle_timeout(self.now);
        self.drain();
    }
}

pub(in crate::caller) fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head { header_len: header.len(), body_len: body.len(), checksum: 0 };
    [&head.to_bytes()[..], header, body].concat()
}

pub(in crate::caller) fn ack(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

pub(in crate::caller) const OK: &[u8] = br#"{"error":null}"#;
pub(in crate::caller) const SEVEN: &[u8] = br#"{"data":7,"complete_final":false}"#;
pub(in crate::caller) const LAST: &[u8] = br#"{"complete_final":true}"#;
pub(in crate::caller) const SENTINEL: &[u8] = br#""sentinel""#;

#[test]
fn a_call_is_sent_as_dynamo_sends_it_and_its_items_come_home_before_or_after_the_ack() {
    for ack_first in [true, false] {
        let mut world = World::new(Codec::Json);
        let (call, conn, control, body) = world.call();
        assert_eq!((control.id.as_str(), control.payload_codec, body), ("call-1", Codec::Json, vec![0x93]));
        let pairs = [("tenant", "t1"), ("x-ringplane-remaining-us", "600000000")];
        assert_eq!(control.metadata, pairs.map(|(key, value)| (key.to_string(), value.to_string())).into());
        let home = control.response_stream().unwrap();
        assert_eq!((home.address.as_str(), home.context.as_str()), (LISTENER, "call-1"));
        if ack_first {
            world.recv(conn, &ack(""));
        }
        let home = world.home(&control);
        assert!(world.recv(home, &[frame(OK, b""), frame(b"", SEVEN), frame(b"", SEVEN)].concat()));
        if !ack_first {
            world.recv(conn, &ack(""));
        }
        let seven = Bytes::from_static(b"7");
        assert_eq!(world.outcome(call), (vec![seven.clone(), seven], None));
        world.close(conn, CloseReason::Reset);
        assert!(world.recv(home, &[frame(b"", LAST), frame(SENTINEL, b"")].concat()));
        assert_eq!(world.outcome(call), (vec![], Some(Ok(()))), "the request connection no longer matters");
        assert!(matches!(world.actions[..], [Action::Close { .. }]));
        world.close(home, CloseReason::Local);
        world.caller.release(call, world.now);
        let footprint = world.caller.footprint();
        assert_eq!((footprint.connections, footprint.calls), (0, 0));
        assert!(world.caller.call_home.is_idle());
    }
}

#[test]
fn the_codec_that_is_named_is_the_one_the_request_is_written_in() {
    for (written_in, named) in [(None, Codec::Msgpack), (Some("json"), Codec::Json), (Some("cbor"), Codec::Msgpack)] {
        let mut world = World::new(Codec::Msgpack);
        world.codec = written_in;
        let (call, conn, control, _) = world.call();
        assert_eq!(control.payload_codec, named, "{written_in:?}");
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        let item = if named == Codec::Json { SEVEN } else { b"\x82\xa4data\x07\xaecomplete_final\xc2" };
        world.recv(home, &[frame(OK, b""), frame(b"", item)].concat());
        let seven = if named == Codec::Json { &b"7"[..] } else { b"\x07" };
        assert_eq!(world.outcome(call).0, [seven], "{written_in:?}");
    }
}

#[test]
fn a_call_that_waited_at_a_worker_that_leaves_goes_to_another_at_once() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    let home = world.home(&control);
    let other = SocketAddr::from(([10, 0, 0, 2], 9000));
    world.caller.add_instance(world.endpoint, InstanceId(0x2b), Target::call_home(other, PATH, Codec::Json), world.now);
    world.recv(home, &unavailable("Server unavailable: the worker is leaving"));
    assert_eq!(world.outcome(call).1, None);
    let dialed = world.actions.iter().any(|action| matches!(action, Action::Connect { addr, .. } if *addr == other));
    assert!(dialed, "{:?}", world.actions);
    assert_eq!(world.caller.stats().retries, 0, "which costs it no try");
}

fn unavailable(text: &str) -> Vec<u8> {
    let failure = Failure::new(Key::WorkerUnavailable, text);
    let prologue = Prologue { error: Some(text.into()), typed_error: Some(failure) };
    frame(&prologue.write().unwrap(), b"")
}

#[test]
fn a_handler_whose_own_worker_is_unavailable_has_run_and_its_call_is_not_made_again() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    let home = world.home(&control);
    let other = SocketAddr::from(([10, 0, 0, 2], 9000));
    world.caller.add_instance(world.endpoint, InstanceId(0x2b), Target::call_home(other, PATH, Codec::Json), world.now);
    world.recv(home, &unavailable("no decode worker is left"));
    let Some(Err(error)) = world.outcome(call).1 else { panic!("it goes on") };
    assert!(matches!(&error, CallError::Failed { class: Class::Unavailable, .. }), "{error:?}");
    assert!(error.is_migratable() && !error.is_retryable());
}

#[test]
fn a_worker_killed_between_its_ack_and_its_response_is_noticed_by_the_loss_of_the_request_connection() {
    for why in [CloseReason::Reset, CloseReason::Eof] {
        let mut world = World::new(Codec::Json);
        let grace = world.caller.config.call_home.lost_timeout;
        let (call, conn, ..) = world.call();
        world.recv(conn, &ack(""));
        world.wait(secs(10));
        world.close(conn, why);
        world.wait(grace - millis(1));
        assert_eq!(world.outcome(call).1, None, "a worker that still runs may come home");
        world.wait(millis(1));
        let Some(Err(error)) = world.outcome(call).1 else { panic!("it waits for a worker that is gone") };
        let expected = |error: &CallError| {
            matches!(error, CallError::Disconnected { reason, delivered: true, at: Some(at) } if *reason == why
                && at.instance == InstanceId(0x2a))
        };
        assert!(expected(&error) && error.is_migratable(), "{error:?}");
        assert_eq!(world.caller.health().suspected, 1);
    }
}

#[test]
fn a_worker_that_closes_its_request_connections_and_works_on_may_come_home() {
    let mut world = World::new(Codec::Json);
    let grace = world.caller.config.call_home.lost_timeout;
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    world.close(conn, CloseReason::Eof);
    world.wait(grace / 2);
    let home = world.home(&control);
    world.wait(secs(30));
    assert_eq!(world.outcome(call).1, None, "its own connection would tell of its end");
    world.recv(home, &[frame(OK, b""), frame(b"", LAST), frame(SENTINEL, b"")].concat());
    assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
    assert_eq!(world.caller.health().suspected, 0);
}

#[test]
fn a_call_that_may_run_twice_goes_elsewhere_when_its_worker_is_killed_behind_the_ack() {
    let mut world = World::new(Codec::Json);
    world.idempotent = true;
    let (call, conn, ..) = world.call();
    world.recv(conn, &ack(""));
    let other = SocketAddr::from(([10, 0, 0, 2], 9000));
    world.caller.add_instance(world.endpoint, InstanceId(0x2b), Target::call_home(other, PATH, Codec::Json), world.now);
    world.close(conn, CloseReason::Reset);
    (0..2).for_each(|_| world.wait(secs(1)));
    let dialed = world.actions.iter().any(|action| matches!(action, Action::Connect { addr, .. } if *addr == other));
    assert!(dialed, "{:?}", world.actions);
    assert_eq!((world.outcome(call).1, world.caller.attempts(call)), (None, 2));
}

#[test]
fn a_worker_that_is_late_counts_once_as_silent_or_if_the_configuration_says_so_as_lost() {
    for (establish, suspected) in [(None, 0), (Some(secs(60)), 1), (Some(secs(61)), 0), (Some(secs(5)), 1)] {
        let mut world = World::new(Codec::Json);
        world.caller.config.call_home.establish_timeout = establish;
        let (call, conn, ..) = world.call();
        world.recv(conn, &ack(""));
        world.wait(secs(60));
        assert_eq!(world.outcome(call).1, Some(Err(CallError::NoResponse)));
        let lost = world.caller.endpoints.lost(world.endpoint.0, InstanceId(0x2a));
        assert_eq!((lost, world.caller.health().suspected), (1, suspected), "{establish:?}");
    }
}

#[test]
fn every_ack_text_is_an_outcome_of_its_own() {
    for (text, expected) in [
        ("Server overloaded: worker at capacity", Some(RejectCode::Overloaded)),
        ("Server unavailable: unknown endpoint x", Some(RejectCode::UnknownEndpoint)),
        ("Server unavailable: worker pool channel closed", Some(RejectCode::Draining)),
        ("Server unavailable: response transport velo_response not supported", Some(RejectCode::Other)),
        ("Unknown endpoint: generate", Some(RejectCode::UnknownEndpoint)),
        ("Read error: message too large: 9 bytes (max: 8 bytes)", Some(RejectCode::TooLarge)),
        ("what is this", None),
    ] {
        let mut world = World::new(Codec::Json);
        let (call, conn, ..) = world.call();
        world.recv(conn, &ack(text));
        for _ in 0..100 {
            if world.outcome(call).1.is_some() {
                break;
            }
            world.wait(secs(1));
            if world.written.remove(&conn).is_some() {
                world.recv(conn, &ack(text));
            }
        }
        match (world.outcome(call).1, expected) {
            (Some(Err(CallError::Rejected { code, message, .. })), Some(expected)) => {
                assert_eq!((code, &*message), (expected, text));
            }
            (Some(Err(CallError::Failed { class, .. })), None) => assert_eq!(class, Class::BackendProtocol),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn silence_after_the_ack_and_between_items_ends_the_call() {
    let mut world = World::new(Codec::Json);
    let (call, conn, ..) = world.call();
    world.recv(conn, &ack(""));
    world.wait(secs(61));
    assert_eq!(world.outcome(call).1, Some(Err(CallError::NoResponse)));
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    let home = world.home(&control);
    world.recv(home, &frame(OK, b""));
    world.wait(secs(121));
    assert_eq!(world.outcome(call).1, Some(Err(CallError::Idle)));
    assert_eq!(world.written[&home], frame(br#""kill""#, b""));
}

#[test]
fn a_failure_keeps_its_class_and_reason_before_and_within_the_stream() {
    let typed = r#"{"error_type":"Unknown","class":"CapacityExhausted","reason":"capacity.pool_exhausted","message":"m","diagnostic":"m"}"#;
    let prologue = std::format!("{{\"error\":\"boom\",\"typed_error\":{typed}}}");
    let item = std::format!("{{\"data\":{{\"event\":\"error\",\"error\":{typed}}},\"complete_final\":false}}");
    let rows: [Vec<u8>; 2] = [frame(prologue.as_bytes(), b""), [frame(OK, b""), frame(b"", item.as_bytes())].concat()];
    for bytes in rows {
        let mut world = World::new(Codec::Json);
        let (call, conn, control, _) = world.call();
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        world.recv(home, &bytes);
        let Some(Err(CallError::Failed { class, reason, message })) = world.outcome(call).1 else { panic!() };
        assert_eq!((class, &*reason, &*message), (Class::CapacityExhausted, "capacity.pool_exhausted", "m"));
    }
}

#[test]
fn a_stream_that_is_cut_or_breaks_the_rules_costs_its_own_call_only() {
    let rows: [(Vec<u8>, bool); 4] =
        [(frame(SENTINEL, b""), true), (vec![], true), (frame(b"junk", b""), false), (vec![0xff; 24], false)];
    for (bytes, cut) in rows {
        let mut world = World::new(Codec::Json);
        let (call, conn, control, _) = world.call();
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        world.recv(home, &[frame(OK, b""), bytes].concat());
        world.close(home, CloseReason::Eof);
        let error = world.outcome(call).1.unwrap().unwrap_err();
        match error {
            CallError::Disconnected { delivered: true, .. } => assert!(cut),
            CallError::Protocol { delivered: true, .. } => assert!(!cut),
            other => panic!("{other:?}"),
        }
        let (_, again, ..) = world.call();
        assert_eq!(again, conn, "the request connection is still in use");
    }
}

#[test]
fn a_subject_nobody_asked_for_or_used_before_is_turned_away_and_the_call_goes_on() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    let home = world.home(&control);
    let twice = world.home(&control);
    assert!(world.actions.iter().any(|action| matches!(action, Action::Close { conn, .. } if *conn == twice)));
    world.recv(home, &[frame(OK, b""), frame(b"", LAST), frame(SENTINEL, b"")].concat());
    assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
    assert_eq!(world.caller.call_home.unclaimed(), 0);
}

#[test]
fn of_too_many_that_have_not_said_whose_response_they_bring_the_oldest_goes() {
    let mut world = World::new(Codec::Json);
    world.caller.config.max_unclaimed = 2;
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    for silent in 100..110 {
        world.caller.handle_open(ConnId::accepted_home(silent), None, world.now);
        world.drain();
    }
    let closed: Vec<_> = world.actions.iter().map(|action| format!("{action:?}")).collect();
    let expected = (100..108)
        .map(|silent| format!("{:?}", Action::Close { conn: ConnId::accepted_home(silent), how: Closing::Abort }));
    assert_eq!(closed, expected.collect::<Vec<_>>());
    assert_eq!((world.caller.call_home.unclaimed(), world.caller.stats().strangers), (2, 8));
    let home = world.home(&control);
    let whole = [frame(OK, b""), frame(b"", LAST), frame(SENTINEL, b"")].concat();
    assert!(world.recv(home, &whole), "a worker gets through");
    assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
    (100..110).for_each(|silent| world.close(ConnId::accepted_home(silent), CloseReason::Local));
    assert_eq!(world.caller.call_home.unclaimed(), 0);
}

#[test]
fn an_ack_that_refuses_what_has_come_home_is_not_believed() {
    for started in [true, false] {
        let mut world = World::new(Codec::Json);
        let (call, conn, control, _) = world.call();
        let home = world.home(&control);
        if started {
            world.recv(home, &[frame(OK, b""), frame(b"", SEVEN)].concat());
            assert_eq!(world.outcome(call), (vec![Bytes::from_static(b"7")], None));
        } else {
            world.recv(home, &frame(OK, b""));
        }
        world.recv(conn, &ack("Server overloaded: worker at capacity"));
        world.wait(secs(10));
        assert!(!world.written.contains_key(&conn), "it is not tried again");
        world.recv(home, &[frame(b"", SEVEN), frame(b"", LAST), frame(SENTINEL, b"")].concat());
        assert_eq!(world.outcome(call), (vec![Bytes::from_static(b"7")], Some(Ok(()))));
    }
}

/// A call whose response has begun to come home, and what it does not read is bounded by 1 KiB: 15 items of one byte.
fn tight() -> (World, CallId, ConnId) {
    let mut world = World::new(Codec::Json);
    world.caller.config.call_home.max_unread = 1 << 10;
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    let home = world.home(&control);
    world.recv(home, &frame(OK, b""));
    world.actions.clear();
    (world, call, home)
}

#[test]
fn a_response_that_lies_unread_holds_its_worker_back_until_half_of_it_is_read() {
    let (mut world, call, home) = tight();
    assert!(world.recv(home, &frame(b"", SEVEN).repeat(15)));
    assert_eq!(world.actions, []);
    // However tiny the items are: what they take is what counts.
    assert!(world.recv(home, &frame(b"", SEVEN)));
    assert_eq!(core::mem::take(&mut world.actions), [Action::Pause { conn: home }]);
    // What had been received by then is delivered all the same.
    assert!(world.recv(home, &frame(b"", SEVEN).repeat(4)));
    for read in 1..=20 {
        assert!(matches!(world.caller.recv(call, world.now), Recv::Item(_)), "item {read}");
        world.drain();
        let resumed = world.actions.contains(&Action::Resume { conn: home });
        assert_eq!(resumed, (20 - read) * 65 <= 512, "after item {read}");
    }
    assert_eq!(world.actions.len(), 1, "it is said once");
    assert!(world.recv(home, &[frame(b"", LAST), frame(SENTINEL, b"")].concat()));
    assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
}

#[test]
fn whoever_pauses_is_not_silent_and_may_still_stop_kill_or_run_out_of_time() {
    let (mut world, call, home) = tight();
    world.recv(home, &frame(b"", SEVEN).repeat(16));
    (0..3).for_each(|_| world.wait(Config::default().item_timeout));
    assert!(world.caller.stats().failed == 0, "the reader is slow, not the worker");
    world.caller.cancel(call, CancelMode::Stop, world.now);
    world.drain();
    assert_eq!(world.written[&home], frame(br#""stop""#, b""));
    world.wait(secs(600));
    assert_eq!(world.outcome(call).1, Some(Err(CallError::DeadlineExceeded)));
    let end = [Action::Pause { conn: home }, Action::Close { conn: home, how: Closing::Flush }];
    assert_eq!(world.actions[..2], end, "the close ends the pause");

    let (mut world, call, home) = tight();
    world.recv(home, &frame(b"", SEVEN).repeat(16));
    world.close(home, CloseReason::Reset);
    let (items, end) = world.outcome(call);
    assert!(items.len() == 16 && matches!(end, Some(Err(CallError::Disconnected { delivered: true, .. }))));
    assert!(!world.actions.contains(&Action::Resume { conn: home }), "a connection that is gone asks for nothing");
}

#[test]
fn an_item_after_the_final_frame_is_a_fault_and_anything_less_than_that_an_end() {
    let seven = || vec![Bytes::from_static(b"7")];
    type Row = (&'static str, fn(&mut World, ConnId), bool);
    let ends: [Row; 7] = [
        ("the sentinel", |world, home| _ = world.recv(home, &frame(SENTINEL, b"")), true),
        ("FIN", |world, home| world.close(home, CloseReason::Eof), true),
        ("a reset", |world, home| world.close(home, CloseReason::Reset), true),
        ("silence", |world, _| world.wait(Config::default().responses.sentinel_timeout), true),
        ("the deadline", |world, _| world.wait(secs(600)), true),
        ("an item", |world, home| _ = world.recv(home, &frame(b"", SEVEN)), false),
        ("another final frame", |world, home| _ = world.recv(home, &frame(b"", LAST)), false),
    ];
    for (what, end, well) in ends {
        let (mut world, call, home) = tight();
        assert!(world.recv(home, &[frame(b"", SEVEN), frame(b"", LAST)].concat()));
        assert_eq!(world.outcome(call), (seven(), None), "{what}");
        end(&mut world, home);
        let wanted = if well { Ok(()) } else { Err(CallError::Protocol { fault: Fault::State, delivered: true }) };
        assert_eq!(world.outcome(call), (vec![], Some(wanted)), "{what}");
    }
}

#[test]
fn an_item_too_large_for_this_caller_ends_the_call_with_both_numbers() {
    let (mut world, call, home) = tight();
    let head = Head { header_len: 0, body_len: 40 << 20, checksum: 0 };
    assert!(!world.recv(home, &head.to_bytes()));
    let error = CallError::ItemTooLarge { declared: 40 << 20, limit: 32 << 20 };
    assert_eq!(
        error.to_string(),
        "an item of the response has 41943040 bytes, and this caller takes 33554432 (`max_item`)"
    );
    assert_eq!((error.class(), error.blame(), error.is_retryable()), (Class::PayloadTooLarge, Blame::Local, false));
    assert_eq!(world.outcome(call), (vec![], Some(Err(error))));
    assert_eq!(world.written[&home], frame(br#""kill""#, b""));
}

#[test]
fn a_driver_that_does_not_pause_costs_the_call_once_its_burst_is_over() {
    let (mut world, call, home) = tight();
    let body = [br#"{"data":""#, &vec![b'x'; 16 << 20][..], br#"","complete_final":false}"#].concat();
    let item = frame(b"", &body);
    (0..5).for_each(|_| _ = world.recv(home, &item));
    assert_eq!(world.caller.stats().failed, 0);
    world.recv(home, &item);
    let (items, end) = world.outcome(call);
    assert_eq!((items.len(), end), (5, Some(Err(CallError::SlowReader { limit: 1 << 10 }))));
}

#[test]
fn stop_and_kill_are_said_on_the_way_home() {
    for (mode, word) in [(CancelMode::Stop, br#""stop""#), (CancelMode::Kill, br#""kill""#)] {
        let mut world = World::new(Codec::Json);
        let (call, conn, control, _) = world.call();
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        world.recv(home, &frame(OK, b""));
        world.caller.cancel(call, mode, world.now);
        world.drain();
        assert_eq!(world.written[&home], frame(word, b""));
        world.close(home, CloseReason::Eof);
        // Who stops a stream wants the end of it; who kills it has said that there is none.
        let end = if mode == CancelMode::Stop { Ok(()) } else { Err(CallError::Cancelled) };
        assert_eq!(world.outcome(call).1, Some(end));
    }
}

#[test]
fn a_stop_waits_for_the_response_to_come_home() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call();
    world.recv(conn, &ack(""));
    world.caller.cancel(call, CancelMode::Stop, world.now);
    assert_eq!(world.outcome(call), (vec![], None));
    let home = world.home(&control);
    world.drain();
    assert_eq!(world.written[&home], frame(br#""stop""#, b""));
    world.close(home, CloseReason::Eof);
    assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
}

#[test]
fn items_of_a_request_go_out_on_a_connection_of_their_own() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, body) = world.call_with(None);
    assert_eq!((control.request_type, body), (RequestType::ManyIn, vec![]));
    let item = || Bytes::from_static(b"1");
    assert!(matches!(world.caller.send(call, item()), Err(SendError::Blocked(_))));
    assert!(!world.caller.finish(call), "nobody has come for the items");
    world.recv(conn, &ack(""));
    let feed = world.come(&control.request_stream().unwrap().subject, "request");
    let home = world.home(&control);
    assert_eq!(world.caller.send(call, item()), Ok(()));
    assert!(world.caller.finish(call));
    assert_eq!(world.caller.send(call, item()), Err(SendError::Closed));
    world.drain();
    assert_eq!(world.written[&feed], [frame(b"", b"1"), frame(br#""sentinel""#, b"")].concat());
    let closes = |action: &Action| matches!(action, Action::Close { conn, how: Closing::Flush } if *conn == feed);
    assert!(world.actions.iter().any(closes), "{:?}", world.actions);
    world.close(feed, CloseReason::Local);
    let answer = frame(b"", br#"{"data":2,"complete_final":true}"#);
    world.recv(home, &[frame(OK, b""), answer, frame(br#""sentinel""#, b"")].concat());
    assert_eq!(world.outcome(call), (vec![Bytes::from_static(b"2")], Some(Ok(()))));
    world.close(home, CloseReason::Eof);
    assert!(world.caller.call_home.is_idle());
    assert_eq!(world.caller.call_home.unclaimed(), 0);
}

#[test]
fn a_stream_under_the_others_name_is_closed() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call_with(None);
    world.recv(conn, &ack(""));
    let swapped = world.come(&control.request_stream().unwrap().subject, "response");
    assert!(world.actions.iter().any(|action| matches!(action, Action::Close { conn, .. } if *conn == swapped)));
    assert_eq!(world.outcome(call), (vec![], None));
    assert!(matches!(world.caller.send(call, Bytes::new()), Err(SendError::Blocked(_))));
}

#[test]
fn a_cancelled_stream_of_items_ends_with_the_word_that_says_how() {
    for (mode, word) in [(CancelMode::Stop, br#""stop""#), (CancelMode::Kill, br#""kill""#)] {
        let mut world = World::new(Codec::Json);
        let (call, conn, control, _) = world.call_with(None);
        world.recv(conn, &ack(""));
        let feed = world.come(&control.request_stream().unwrap().subject, "request");
        world.home(&control);
        world.caller.cancel(call, mode, world.now);
        world.drain();
        assert_eq!(world.written[&feed], frame(word, b""));
        assert!(world.caller.send(call, Bytes::new()).is_err());
    }
}

#[test]
fn a_worker_that_speaks_on_the_stream_of_items_loses_that_connection_only() {
    let mut world = World::new(Codec::Json);
    let (call, conn, control, _) = world.call_with(None);
    world.recv(conn, &ack(""));
    let feed = world.come(&control.request_stream().unwrap().subject, "request");
    assert!(!world.recv(feed, b"?"));
    world.close(feed, CloseReason::Local);
    assert_eq!(world.caller.send(call, Bytes::new()), Err(SendError::Closed));
    let home = world.home(&control);
    world.recv(home, &[frame(OK, b""), frame(b"", LAST), frame(SENTINEL, b"")].concat());
    assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
}

#[test]
fn without_a_listener_the_call_fails_at_once() {
    let mut world = World::new(Codec::Json);
    let request = Request { body: Some(Bytes::new()), ..Request::default() };
    let call = world.caller.call(world.endpoint, request, world.now).unwrap();
    world.drain();
    for action in std::mem::take(&mut world.actions) {
        if let Action::Connect { conn, .. } = action {
            world.caller.handle_open(conn, None, world.now);
        }
    }
    world.drain();
    world.caller.handle_listening(Err(CloseReason::NoDescriptors), world.now);
    assert_eq!(world.outcome(call).1, Some(Err(CallError::CannotListen(CloseReason::NoDescriptors))));
}
