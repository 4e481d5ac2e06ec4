//! A caller whose requests a carrier brings, and the carrier written out by hand.

use std::net::SocketAddr;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{assert, assert_eq, matches, panic, vec};

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::caller::config::Config;
use crate::caller::dynamo::carrier::{self, Answer};
use crate::caller::error::{CallError, Missing};
use crate::caller::machine::Caller;
use crate::caller::request::{CallId, EndpointKey, Event, Recv, Request};
use crate::caller::target::{Target, Transport};
use crate::id::{ConnId, InstanceId};
use crate::mux::event::Opening;
use crate::protocol::{Action, CloseReason, Protocol};
use crate::retry::backoff;
use crate::route::policy::any::AnyPolicy;
use crate::tests::net::secs;
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::ack::SHUTTING_DOWN;
use crate::wire::dynamo::control::{Control, RequestType};
use crate::wire::dynamo::two_part::{Head, TwoPart};
use crate::wire::mux::message::{CancelMode, RejectCode};
use crate::wire::parse::{Format, Limits, Parse};

const LISTENER: &str = "127.0.0.1:4100";
const ACCEPTED: Answer = Answer::Ack(Bytes::new());

struct World {
    caller: Caller,
    now: Instant,
    /// Requests that the carrier has taken.
    posted: Vec<carrier::Request>,
    endpoint: EndpointKey,
    homes: u64,
}

impl World {
    fn new(config: Config, transport: Transport) -> Self {
        let mut caller = Caller::new(config, 7);
        let endpoint = caller.endpoint(AnyPolicy::default());
        let addr = SocketAddr::from(([0, 0, 0, 0], 0));
        let target = Target { transport, ..Target::call_home(addr, "2a/ns/backend/generate", Codec::Json) };
        caller.set_instances(endpoint, [(InstanceId(0x2a), target)], Instant::ZERO);
        Self { caller, now: Instant::ZERO, posted: vec![], endpoint, homes: 0 }
    }

    fn nats() -> Self {
        Self::new(Config::default(), subject("MyNs", Some("myns")))
    }

    fn drain(&mut self) {
        loop {
            let mut idle = true;
            while let Some(event) = self.caller.poll_event() {
                idle = false;
                if let Event::Outgoing(call) = event {
                    self.posted.extend(self.caller.outgoing(call, self.now));
                }
            }
            while let Some(action) = self.caller.poll_action() {
                idle = false;
                match action {
                    Action::Listen { .. } => self.caller.handle_listening(Ok(LISTENER.parse().unwrap()), self.now),
                    Action::Connect { .. } => panic!("a carrier needs no connection"),
                    Action::Close { .. } | Action::Pause { .. } | Action::Resume { .. } => {}
                }
            }
            if idle {
                return;
            }
        }
    }

    fn call(&mut self, request: Request) -> CallId {
        let call = self.caller.call(self.endpoint, request, self.now).unwrap();
        self.drain();
        call
    }

    fn answer(&mut self, request: &carrier::Request, answer: Answer) {
        self.caller.handle_answer(request.ticket, answer, self.now);
        self.drain();
    }

    fn wait(&mut self, by: core::time::Duration) {
        self.now = self.now + by;
        self.caller.handle_timeout(self.now);
        self.drain();
    }

    /// The answer to every try, up to the outcome.
    fn always(&mut self, call: CallId, answer: &Answer) -> CallError {
        for _ in 0..100 {
            for request in std::mem::take(&mut self.posted) {
                self.answer(&request, answer.clone());
            }
            if let Some(outcome) = self.outcome(call).1 {
                return outcome.unwrap_err();
            }
            self.wait(secs(1));
        }
        panic!("no outcome");
    }

    fn outcome(&mut self, call: CallId) -> (Vec<Bytes>, Option<Result<(), CallError>>) {
        let mut items = vec![];
        loop {
            match self.caller.recv(call, self.now) {
                Recv::Item(item) => items.push(item),
                Recv::Pending => return (items, None),
                Recv::End(outcome) => return (items, Some(outcome)),
            }
        }
    }

    fn home(&mut self, control: &Control, frames: &[&[u8]]) {
        self.homes += 1;
        let conn = ConnId::accepted_home(self.homes);
        self.caller.handle_open(conn, None, self.now);
        let subject = control.response_stream().unwrap().subject;
        let hello = std::format!("{{\"subject\":\"{subject}\",\"stream_type\":\"response\"}}");
        let bytes = [frame(hello.as_bytes(), b""), frames.concat()].concat();
        self.caller.handle_recv(conn, &bytes, self.now).unwrap();
        self.drain();
    }

    /// Nothing of any call is left.
    fn is_clean(&mut self, call: CallId) -> bool {
        self.caller.release(call, self.now);
        self.caller.call_home.is_idle() && self.caller.window.is_idle() && self.caller.footprint().calls == 0
    }
}

fn subject(raw: &str, slug: Option<&str>) -> Transport {
    Transport::Nats { subject: raw.to_string(), slug: slug.map(ToString::to_string) }
}

fn request() -> Request {
    let opening = Opening { request_id: "call-1".into(), ..Opening::default() };
    Request { body: Some(Bytes::from_static(b"[7]")), opening, ..Request::default() }
}

fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head { header_len: header.len(), body_len: body.len(), checksum: 0 };
    [&head.to_bytes()[..], header, body].concat()
}

/// What the worker reads.
fn control(request: &carrier::Request) -> (Control, Vec<u8>) {
    let payload = [&request.head[..], &request.body].concat();
    let Ok(Parse::Complete { value, used }) = TwoPart::parse(&payload, &Limits::default()) else { panic!() };
    assert_eq!(used, payload.len());
    (Control::read(value.header).unwrap(), value.body.to_vec())
}

#[test]
fn a_request_goes_by_the_leg_and_its_answer_comes_home_before_or_after_the_ack() {
    for ack_first in [true, false] {
        let mut world = World::nats();
        let call = world.call(Request { timeout: Some(secs(600)), ..request() });
        let sent = world.posted.remove(0);
        assert_eq!((&sent.transport, sent.timeout), (&subject("MyNs", Some("myns")), secs(10)));
        let remaining = ("x-ringplane-remaining-us", "600000000".to_string());
        let id = |name| (name, "call-1".to_string());
        assert_eq!(sent.headers, [id("request-id"), remaining, id("x-dynamo-request-id")]);
        let (control, body) = control(&sent);
        assert_eq!(
            (control.payload_codec, control.response_stream().unwrap().address.as_str()),
            (Codec::Json, LISTENER)
        );
        assert_eq!(body, b"[7]");
        if ack_first {
            world.answer(&sent, ACCEPTED);
        }
        let item = frame(b"", br#"{"data":7,"complete_final":false}"#);
        let last = [frame(b"", br#"{"complete_final":true}"#), frame(br#""sentinel""#, b"")].concat();
        world.home(&control, &[&frame(br#"{"error":null}"#, b""), &item]);
        // Whatever becomes of the ack, the call has come home.
        world.answer(&sent, if ack_first { ACCEPTED } else { Answer::Lost(CloseReason::Reset) });
        assert_eq!(world.outcome(call), (vec![Bytes::from_static(b"7")], None));
        let conn = ConnId::accepted_home(world.homes);
        world.caller.handle_recv(conn, &last, world.now).unwrap();
        assert_eq!(world.outcome(call), (vec![], Some(Ok(()))));
        world.caller.handle_close(conn, CloseReason::Eof, world.now);
        assert!(world.is_clean(call));
    }
}

#[test]
fn the_codec_that_is_named_is_the_one_the_request_is_written_in() {
    for (named, said) in [(None, Codec::Json), (Some("msgpack"), Codec::Msgpack)] {
        let mut world = World::nats();
        let opening = Opening { codec: named.map(Into::into), ..request().opening };
        world.call(Request { opening, ..request() });
        assert_eq!(control(&world.posted[0]).0.payload_codec, said);
    }
}

#[test]
fn what_a_leg_reports_is_an_outcome_of_its_own() {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let rejected = |wanted: RejectCode| move |error: &CallError| matches!(error, CallError::Rejected { code, .. } if *code == wanted);
    type Check = std::boxed::Box<dyn Fn(&CallError) -> bool>;
    let is = |wanted: CallError| -> Check { std::boxed::Box::new(move |error| *error == wanted) };
    let not_equipped = CallError::NotEquipped { transport: "nats", missing: Missing::Feature };
    let no_broker = |delivered| CallError::NoBroker { delivered };
    let rows: Vec<(Answer, Check)> = vec![
        (Answer::Ack(text("Server overloaded: full")), std::boxed::Box::new(rejected(RejectCode::Overloaded))),
        (Answer::Ack(text("Server unavailable: x")), std::boxed::Box::new(rejected(RejectCode::Other))),
        (Answer::Ack(text(SHUTTING_DOWN)), std::boxed::Box::new(rejected(RejectCode::Draining))),
        (Answer::Http(404, text("Endpoint not found")), std::boxed::Box::new(rejected(RejectCode::UnknownEndpoint))),
        (Answer::Http(503, text("")), std::boxed::Box::new(rejected(RejectCode::Overloaded))),
        (
            Answer::Http(404, text("Server unavailable: unknown endpoint")),
            std::boxed::Box::new(rejected(RejectCode::UnknownEndpoint)),
        ),
        (Answer::Http(503, text("Server unavailable: x")), std::boxed::Box::new(rejected(RejectCode::Other))),
        (Answer::Http(503, text(SHUTTING_DOWN)), std::boxed::Box::new(rejected(RejectCode::Draining))),
        (Answer::Http(413, text("")), std::boxed::Box::new(rejected(RejectCode::TooLarge))),
        (
            Answer::Http(500, text("?")),
            std::boxed::Box::new(|error| matches!(error, CallError::Failed { class: Class::BackendProtocol, .. })),
        ),
        (Answer::NoResponders, is(CallError::NoResponders)),
        (Answer::NoBroker { sent: false }, is(no_broker(false))),
        (Answer::NoBroker { sent: true }, is(no_broker(true))),
        (Answer::TimedOut, is(CallError::NotAccepted)),
        (Answer::TooLarge(5), is(CallError::TooLarge { limit: 5 })),
        (Answer::Full, is(CallError::Overloaded)),
        (Answer::NotEquipped(Missing::Feature), is(not_equipped)),
    ];
    for (answer, fits) in rows {
        let mut world = World::nats();
        let call = world.call(request());
        let error = world.always(call, &answer);
        assert!(fits(&error), "{answer:?}: {error:?}");
        assert!(world.is_clean(call), "{answer:?}");
    }
}

#[test]
fn where_nobody_listens_the_other_spelling_is_tried_at_once_and_remembered_while_the_instance_stays() {
    let mut world = World::nats();
    let subject_of = |request: &carrier::Request| match &request.transport {
        Transport::Nats { subject, .. } => subject.clone(),
        _ => String::new(),
    };
    world.call(request());
    let first = world.posted.remove(0);
    world.answer(&first, Answer::NoResponders);
    assert_eq!(subject_of(&world.posted[0]), "myns", "no time has passed");
    assert_eq!(world.caller.stats().retries, 0);
    let second = world.posted.remove(0);
    world.answer(&second, ACCEPTED);
    world.call(request());
    assert_eq!(subject_of(&world.posted[0]), "myns");
    // Whoever serves it next may listen on the other one again.
    let third = world.posted.remove(0);
    world.answer(&third, Answer::NoResponders);
    world.wait(secs(1));
    assert_eq!(subject_of(&world.posted[0]), "MyNs");
    world.caller.set_instances(world.endpoint, [], world.now);
    assert_eq!(world.caller.endpoints.sums().2, 0);
}

#[test]
fn an_ack_that_comes_after_the_bound_means_nothing() {
    for (transport, bound) in [(subject("a", None), 10), (Transport::Http("http://1.2.3.4:5/x".to_string()), 5)] {
        let mut world = World::new(Config::default(), transport);
        let call = world.call(request());
        let sent = world.posted.remove(0);
        world.wait(secs(bound - 1));
        assert_eq!(world.outcome(call), (vec![], None));
        world.wait(secs(2));
        assert_eq!(world.outcome(call).1, Some(Err(CallError::NotAccepted)));
        world.answer(&sent, ACCEPTED);
        assert_eq!(world.outcome(call).1, Some(Err(CallError::NotAccepted)));
        assert!(world.is_clean(call));
    }
}

#[test]
fn a_call_cancelled_before_its_ack_leaves_nothing_behind() {
    for mode in [CancelMode::Stop, CancelMode::Kill] {
        let mut world = World::nats();
        let call = world.call(request());
        let sent = world.posted.remove(0);
        world.caller.cancel(call, mode, world.now);
        world.drain();
        if mode == CancelMode::Stop {
            // The worker may have it: it is told to stop when it comes home.
            assert_eq!(world.outcome(call), (vec![], None));
            world.answer(&sent, Answer::NoBroker { sent: false });
        }
        assert_eq!(world.outcome(call).1, Some(Err(CallError::Cancelled)));
        world.answer(&sent, ACCEPTED);
        assert!(world.is_clean(call));
    }
}

#[test]
fn a_call_stopped_before_the_leg_has_taken_it_is_not_sent() {
    let mut world = World::nats();
    world.call(request());
    let call = world.caller.call(world.endpoint, request(), world.now).unwrap();
    world.caller.cancel(call, CancelMode::Stop, world.now);
    world.drain();
    assert_eq!(world.outcome(call).1, Some(Err(CallError::Cancelled)));
    assert_eq!(world.posted.len(), 1, "the first one's");
}

#[test]
fn a_call_that_may_have_run_is_tried_again_only_if_that_does_no_harm() {
    for idempotent in [true, false] {
        let mut world = World::nats();
        let call = world.call(Request { idempotent, ..request() });
        let sent = world.posted.remove(0);
        world.answer(&sent, Answer::NoBroker { sent: true });
        world.wait(secs(1));
        assert_eq!((world.posted.len(), world.outcome(call).1.is_none()), (usize::from(idempotent), idempotent));
    }
}

#[test]
fn requests_beyond_the_window_wait_and_fail_if_there_is_no_room_in_time() {
    let carriers = carrier::Config { max_unacked: 2, max_unacked_bytes: 4, ..carrier::Config::default() };
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let mut world = World::new(Config { carriers, backoff, ..Config::default() }, subject("a", None));
    let calls: Vec<_> = (0..3).map(|_| world.call(request())).collect();
    assert_eq!(world.posted.len(), 1, "two of three bytes are too many");
    let first = world.posted.remove(0);
    world.answer(&first, ACCEPTED);
    assert_eq!(world.posted.len(), 1);
    let second = world.posted.remove(0);
    world.caller.cancel(calls[1], CancelMode::Kill, world.now);
    world.drain();
    assert_eq!(world.posted.len(), 1, "a call that ends gives its room back");
    world.answer(&second, ACCEPTED);
    let stuck = world.call(request());
    world.wait(secs(6));
    assert_eq!(world.outcome(stuck).1, Some(Err(CallError::Overloaded)));
    assert_eq!(world.outcome(calls[2]).1, None, "its ack has time left");
}

#[test]
fn a_stream_of_request_items_has_no_body_and_waits_for_the_worker_to_come() {
    let mut world = World::nats();
    let call = world.call(Request { body: None, ..request() });
    let sent = world.posted.remove(0);
    let (control, body) = control(&sent);
    assert_eq!((control.request_type, body), (RequestType::ManyIn, vec![]));
    assert!(control.request_stream().is_ok());
    assert!(matches!(world.caller.send(call, Bytes::new()), Err(SendError::Blocked(_))));
}

#[test]
fn an_instance_that_left_is_not_written_to_and_a_listener_that_cannot_be_had_fails_the_call() {
    let mut world = World::nats();
    let call = world.caller.call(world.endpoint, request(), world.now).unwrap();
    while let Some(Action::Listen { .. }) = world.caller.poll_action() {}
    world.caller.handle_listening(Err(CloseReason::NoDescriptors), world.now);
    assert_eq!(world.outcome(call).1, Some(Err(CallError::CannotListen(CloseReason::NoDescriptors))));
    let call = world.call(request());
    world.posted.clear();
    let next = world.caller.call(world.endpoint, request(), world.now).unwrap();
    world.caller.set_instances(world.endpoint, [], world.now);
    world.drain();
    assert!(world.posted.is_empty());
    for _ in 0..12 {
        world.wait(secs(1));
    }
    assert_eq!(world.outcome(next).1, Some(Err(CallError::NoInstances)));
    assert_eq!(world.outcome(call).1, Some(Err(CallError::NotAccepted)));
}
