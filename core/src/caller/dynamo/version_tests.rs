//! A caller and workers of other versions of Dynamo: what 1.7 says in the prologue, its bound on that, and what 1.5 leaves out.

use std::string::ToString;
use std::vec::Vec;
use std::{assert, assert_eq, assert_ne, format, matches};

use bytes::Bytes;

use crate::caller::dynamo::framed_tests::{LAST, OK, SENTINEL, SEVEN, World, ack, frame};
use crate::caller::error::{CallError, Kind};
use crate::caller::request::CallId;
use crate::caller::target::Target;
use crate::id::{ConnId, InstanceId};
use crate::protocol::{Action, CloseReason, Protocol};
use crate::tests::net::{millis, secs};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::control::Control;
use crate::wire::dynamo::two_part::TwoPart;
use crate::wire::mux::message::{CancelMode, RejectCode};
use crate::wire::parse::{Format, Limits, Parse};

const OVERLOAD: &[u8] = include_bytes!("../../../tests/vectors/dynamo-1.7/overload.home.bin");
const RANK_OVERLOAD: &[u8] = include_bytes!("../../../tests/vectors/dynamo-1.7/rank-overload.home.bin");
const RAISED: &[u8] = include_bytes!("../../../tests/vectors/dynamo-1.7/raised-overload.home.bin");
const OF_1_5: &[u8] = include_bytes!("../../../tests/vectors/dynamo-1.7/prologue-of-1.5.home.bin");
const ITEM_OF_1_5: &[u8] = include_bytes!("../../../tests/vectors/dynamo-1.7/failure-of-1.5.home.bin");

/// A recorded response behind its handshake, which has a subject of its own.
fn behind_the_handshake(recorded: &[u8]) -> &[u8] {
    let Ok(Parse::Complete { used, .. }) = TwoPart::parse(recorded, &Limits::default()) else { panic!() };
    &recorded[used..]
}

impl World {
    /// A second instance like the first.
    fn twins(codec: Codec) -> Self {
        let mut world = Self::new(codec);
        let target = |id: u64| {
            let addr = std::net::SocketAddr::from(([10, 0, 0, 1], 9000));
            (InstanceId(id), Target::call_home(addr, "2a/ns/backend/generate", codec))
        };
        world.caller.set_instances(world.endpoint, [target(0x2a), target(0x2b)], Instant::ZERO);
        world
    }

    fn instance(&self, call: CallId) -> Option<InstanceId> {
        self.caller.calls.get(call.0).and_then(|call| call.instance)
    }

    fn is_down(&self, id: InstanceId) -> bool {
        self.caller.endpoints.are_down(self.endpoint.0, |one| one == id, self.now)
    }

    /// Waits for the next try of a call and takes its request.
    fn again(&mut self, conn: ConnId) -> Control {
        for _ in 0..1000 {
            if let Some(bytes) = self.written.remove(&conn) {
                let Ok(Parse::Complete { value, .. }) =
                    crate::wire::dynamo::request::Request::parse(&bytes, &Limits::default())
                else {
                    panic!()
                };
                let Ok(Parse::Complete { value, .. }) = TwoPart::parse(value.payload, &Limits::default()) else {
                    panic!()
                };
                return Control::read(value.header).unwrap();
            }
            self.wait(millis(10));
        }
        panic!("it is not tried again");
    }
}

#[test]
fn a_worker_that_is_full_says_so_in_its_prologue_and_another_is_asked_while_it_stays_in_use() {
    for (recorded, leases) in [(OVERLOAD, 1), (RANK_OVERLOAD, 0)] {
        let mut world = World::twins(Codec::Msgpack);
        let (call, conn, control, _) = world.call();
        world.recv(conn, &ack(""));
        let first = world.instance(call).unwrap();
        let home = world.home(&control);
        world.recv(home, behind_the_handshake(recorded));
        world.close(home, CloseReason::Local);
        assert!(!world.is_down(first), "nothing is wrong with it");
        assert_eq!(world.caller.health().leases, leases, "another rank of it may be free");
        let control = world.again(conn);
        let second = world.instance(call).unwrap();
        assert_ne!(first, second);
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        let item = b"\x82\xa4data\x07\xaecomplete_final\xc3";
        world.recv(home, &[frame(OK, b""), frame(b"", item), frame(SENTINEL, b"")].concat());
        assert_eq!(world.outcome(call), (Vec::from([Bytes::from_static(b"\x07")]), Some(Ok(()))));
        assert!(!world.is_down(first) && !world.is_down(second));
    }
}

#[test]
fn a_worker_that_stays_full_is_an_overload_that_names_the_rank_where_the_worker_does() {
    let json = |typed: &str| {
        let text = "Generate Error: CapacityExhausted: Server overloaded: worker at capacity";
        let typed = if typed.is_empty() { typed.to_string() } else { format!(",\"typed_error\":{typed}") };
        frame(format!("{{\"error\":\"{text}\"{typed}}}").as_bytes(), b"")
    };
    let whole = "Generate Error: CapacityExhausted: Server overloaded: worker at capacity";
    let rows = [
        (behind_the_handshake(OVERLOAD).to_vec(), "Server overloaded: worker at capacity"),
        (behind_the_handshake(RANK_OVERLOAD).to_vec(), "Server overloaded: DP rank at capacity (rank 0)"),
        // A relay keeps the text only.
        (json(""), whole),
        // As Dynamo 1.5 classifies it: a type and a message.
        (json(r#"{"error_type":"ResourceExhausted","message":"full"}"#), "full"),
        (json(r#"{"error_type":"WorkerOverloaded","message":"full"}"#), "full"),
        // Newer names, as long as class or reason are known; without both the text decides.
        (
            json(
                r#"{"error_type":"WorkerRankOverloaded","reason":"capacity.worker_overloaded","class":"CapacityExhausted"}"#,
            ),
            whole,
        ),
        (json(r#"{"error_type":"WorkerRankOverloaded","dp_rank":1}"#), whole),
    ];
    for (bytes, message) in rows {
        let mut world = World::new(Codec::Json);
        let (call, conn, mut control, _) = world.call();
        loop {
            world.recv(conn, &ack(""));
            let home = world.home(&control);
            world.recv(home, &bytes);
            world.close(home, CloseReason::Local);
            if let Some(outcome) = world.outcome(call).1 {
                let Err(CallError::Rejected { code, message: said, .. }) = &outcome else { panic!("{outcome:?}") };
                assert_eq!((*code, &**said), (RejectCode::Overloaded, message));
                let error = outcome.unwrap_err();
                assert_eq!((error.class(), error.kind()), (Class::CapacityExhausted, Kind::NoRoom));
                break;
            }
            control = world.again(conn);
        }
        assert!(!world.is_down(InstanceId(0x2a)));
    }
}

#[test]
fn other_failures_in_a_prologue_and_an_overload_within_the_stream_are_the_calls_outcome() {
    let internal = r#"{"error":"x Server overloaded: y","typed_error":{"class":"Internal","reason":"runtime.internal","message":"m"}}"#;
    let internal = frame(internal.as_bytes(), b"");
    for (bytes, class, reason, message) in [
        (&internal[..], Class::Internal, "runtime.internal", "m"),
        // Dynamo 1.5: class and reason follow from the type.
        (behind_the_handshake(OF_1_5), Class::Internal, "runtime.unclassified", "ValueError: boom from worker"),
        (
            behind_the_handshake(ITEM_OF_1_5),
            Class::InvalidRequest,
            "backend.invalid_argument",
            "ValueError: boom from worker",
        ),
        // A handler that ran may have had an effect.
        (behind_the_handshake(RAISED), Class::CapacityExhausted, "capacity.worker_overloaded", "boom from worker"),
    ] {
        let mut world = World::new(Codec::Msgpack);
        let (call, conn, control, _) = world.call();
        world.recv(conn, &ack(""));
        let home = world.home(&control);
        world.recv(home, bytes);
        let expected = CallError::Failed { class, reason: reason.into(), message: message.into() };
        assert_eq!(world.outcome(call).1, Some(Err(expected)));
    }
}

/// A call that a worker has acked, with Dynamo 1.7's bound of two seconds if there is one.
fn acked(bound: Option<core::time::Duration>) -> (World, CallId, Control) {
    let mut world = World::new(Codec::Json);
    world.caller.config.call_home.establish_timeout = bound;
    let (call, conn, control, _) = world.call();
    // The time until the ack does not count.
    world.wait(secs(3));
    world.recv(conn, &ack(""));
    (world, call, control)
}

#[test]
fn a_worker_that_acks_and_does_not_come_home_or_says_nothing_there_is_avoided_where_that_is_asked_for() {
    for (bound, comes_home, late) in
        [(Some(secs(2)), false, secs(2)), (Some(secs(2)), true, secs(2)), (None, true, secs(60))]
    {
        let (mut world, call, control) = acked(bound);
        let home = comes_home.then(|| world.home(&control));
        world.wait(late - millis(1));
        assert_eq!(world.outcome(call).1, None);
        world.wait(millis(2));
        assert_eq!(world.outcome(call).1, Some(Err(CallError::NoResponse)));
        assert_eq!(world.is_down(InstanceId(0x2a)), bound.is_some(), "a queue at the worker is no fault of its own");
        if let Some(home) = home {
            assert_eq!(world.written.remove(&home), Some(frame(br#""kill""#, b"")));
            assert!(world.actions.iter().any(|action| matches!(action, Action::Close { conn, .. } if *conn == home)));
        } else {
            // It comes too late.
            let home = world.home(&control);
            assert!(world.actions.iter().any(|action| matches!(action, Action::Close { conn, .. } if *conn == home)));
            assert!(world.written.get(&home).is_none_or(Vec::is_empty));
        }
    }
}

#[test]
fn the_bound_on_the_first_word_ends_with_it_however_late_the_first_item_is() {
    let (mut world, call, control) = acked(Some(secs(2)));
    let home = world.home(&control);
    world.wait(secs(1));
    world.recv(home, &frame(OK, b""));
    world.wait(secs(100));
    world.recv(home, &[frame(b"", SEVEN), frame(b"", LAST), frame(SENTINEL, b"")].concat());
    assert_eq!(world.outcome(call), (Vec::from([Bytes::from_static(b"7")]), Some(Ok(()))));
    assert!(!world.is_down(InstanceId(0x2a)));
}

#[test]
fn a_path_of_another_version_is_sent_as_the_record_has_it() {
    let mut world = World::new(Codec::Msgpack);
    let addr = std::net::SocketAddr::from(([10, 0, 0, 1], 9000));
    let target = Target::call_home(addr, "5eebc1395f3e8882/generate", Codec::Msgpack);
    world.caller.set_instances(world.endpoint, [(InstanceId(0x2a), target)], Instant::ZERO);
    let request = crate::caller::request::Request { body: Some(Bytes::from_static(b"\xC0")), ..Default::default() };
    let call = world.caller.call(world.endpoint, request, world.now).unwrap();
    world.drain();
    let dial = world.actions.iter().find_map(|action| match action {
        Action::Connect { conn, .. } => Some(*conn),
        _ => None,
    });
    let conn = dial.unwrap();
    world.caller.handle_open(conn, None, world.now);
    world.drain();
    world.caller.handle_listening(Ok("127.0.0.1:4100".parse().unwrap()), world.now);
    world.drain();
    let bytes = &world.written[&conn];
    let Ok(Parse::Complete { value, .. }) = crate::wire::dynamo::request::Request::parse(bytes, &Limits::default())
    else {
        panic!()
    };
    assert_eq!(value.path, b"5eebc1395f3e8882/generate");
    world.caller.cancel(call, CancelMode::Kill, world.now);
}
