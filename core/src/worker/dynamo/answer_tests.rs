//! A worker and a Dynamo caller written out by hand: requests, acks, dials and what comes home.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{assert, assert_eq, assert_ne, format, vec};

use bytes::Bytes;

use crate::buf::send_queue::SendQueue;
use crate::id::ConnId;
use crate::mux::event::{Ending, Recv};
use crate::protocol::{Action, CloseReason, Protocol};
use crate::tests::net::{millis, secs};
use crate::time::Instant;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::ack::{Ack, OVERLOADED};
use crate::wire::dynamo::annotated::Annotated;
use crate::wire::dynamo::control::{
    CallHome, ConnectionInfo, Control, Prologue, RequestType, ResponseType, StreamType,
};
use crate::wire::dynamo::envelope::Envelope;
use crate::wire::dynamo::request::Request;
use crate::wire::dynamo::two_part::TwoPart;
use crate::wire::dynamo::typed_failure::Public;
use crate::wire::dynamo::word::Word;
use crate::wire::parse::{Format, Limits, Parse};
use crate::worker::config::{Config, Prefix};
use crate::worker::job::{Cause, Event, JobId};
use crate::worker::machine::Worker;

pub(super) const PATH: &str = "2a/ns/backend/generate";
const REQUESTS: ConnId = ConnId::accepted(1);

pub(super) struct World {
    pub(super) worker: Worker,
    pub(super) now: Instant,
    written: BTreeMap<ConnId, Vec<u8>>,
    pub(super) actions: Vec<Action>,
    pub(super) events: Vec<Event>,
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        let mut worker = Worker::new(config);
        worker.serve(PATH, 7);
        let mut world =
            Self { worker, now: Instant::ZERO, written: BTreeMap::new(), actions: Vec::new(), events: Vec::new() };
        world.worker.handle_open(REQUESTS, "10.0.0.9:4000".parse().ok(), world.now);
        world
    }

    pub(super) fn drain(&mut self) {
        while let Some(event) = self.worker.poll_event() {
            self.events.push(event);
        }
        while let Some(conn) = self.worker.poll_ready() {
            // As drivers do: the connection is asked again once a write has completed.
            loop {
                let mut queue = SendQueue::new(1 << 20);
                while self.worker.poll_transmit(conn, &mut queue, self.now) {}
                if queue.is_empty() {
                    break;
                }
                let mut slices = [&[][..]; 64];
                let used = queue.slices(&mut slices);
                let bytes = slices[..used].concat();
                self.worker.handle_sent(conn, bytes.len(), self.now);
                self.written.entry(conn).or_default().extend(bytes);
            }
        }
        while let Some(action) = self.worker.poll_action() {
            self.actions.push(action);
        }
        while let Some(event) = self.worker.poll_event() {
            self.events.push(event);
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.worker.handle_recv(REQUESTS, bytes, self.now);
        self.drain();
    }

    /// The texts of the acks written so far, taken.
    pub(super) fn acks(&mut self) -> Vec<String> {
        let bytes = self.written.remove(&REQUESTS).unwrap_or_default();
        let (mut rest, mut texts) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let Ok(Parse::Complete { value, used }) = Ack::parse(rest, &Limits::default()) else { panic!("{rest:?}") };
            texts.push(String::from_utf8(value.text().to_vec()).unwrap());
            rest = &rest[used..];
        }
        texts
    }

    /// The next dial, which succeeds.
    pub(super) fn dialed(&mut self) -> (ConnId, SocketAddr) {
        let at = self.actions.iter().position(|action| matches!(action, Action::Connect { .. })).expect("a dial");
        let Action::Connect { conn, addr } = self.actions.remove(at) else { unreachable!() };
        (conn, addr)
    }

    pub(super) fn open_home(&mut self) -> ConnId {
        let (conn, _) = self.dialed();
        self.worker.handle_open(conn, None, self.now);
        self.drain();
        conn
    }

    pub(super) fn home(&self, conn: ConnId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut rest, mut frames) = (self.written.get(&conn).map_or(&[][..], Vec::as_slice), Vec::new());
        while !rest.is_empty() {
            let Ok(Parse::Complete { value, used }) = TwoPart::parse(rest, &Limits::default()) else { panic!() };
            frames.push((value.header.to_vec(), value.body.to_vec()));
            rest = &rest[used..];
        }
        frames
    }

    pub(super) fn refusal(&mut self) -> Prologue {
        let conn = self.open_home();
        let frames = self.home(conn);
        assert_eq!(Word::read(&frames[2].0), Ok(Word::Sentinel));
        Prologue::read(&frames[1].0).unwrap()
    }

    pub(super) fn job(&mut self) -> JobId {
        let at = self.events.iter().position(|event| matches!(event, Event::Request { .. })).expect("a request");
        let Event::Request { job, endpoint: 7 } = self.events.remove(at) else { panic!() };
        job
    }

    pub(super) fn finish(&mut self, job: JobId, ending: Ending) {
        self.worker.finish(job, ending, self.now);
        self.drain();
    }

    pub(super) fn close(&mut self, conn: ConnId, why: CloseReason) {
        self.worker.handle_close(conn, why, self.now);
        self.drain();
    }

    pub(super) fn wait(&mut self, by: core::time::Duration) {
        self.now = self.now + by;
        self.worker.handle_timeout(self.now);
        self.drain();
    }

    pub(super) fn assert_empty(&mut self) {
        self.close(REQUESTS, CloseReason::Eof);
        let footprint = self.worker.footprint();
        assert_eq!((footprint.connections, footprint.jobs, self.worker.refusals), (0, 0, 0));
        assert_eq!((footprint.held, self.worker.partials.frames()), (0, 0));
        assert_eq!((self.worker.load(), self.worker.timers()), ((0, 0), 0));
    }
}

pub(super) fn control() -> Control {
    control_of("call-1")
}

fn control_of(id: &str) -> Control {
    let home = CallHome {
        address: "10.0.0.9:5000".to_string(),
        subject: "subject".to_string(),
        context: id.to_string(),
        stream_type: StreamType::Response,
    };
    Control {
        id: id.to_string(),
        request_type: RequestType::SingleIn,
        response_type: ResponseType::ManyOut,
        payload_codec: Codec::Msgpack,
        connection_info: ConnectionInfo::new(&home).unwrap(),
        metadata: [("tenant".to_string(), "t1".to_string())].into(),
        frontend_send_ts_ns: None,
        request_stream_connection_info: None,
    }
}

pub(super) fn frame(path: &str, headers: &str, header: &[u8], body: &[u8]) -> Vec<u8> {
    let part = TwoPart::new(header, body);
    let mut payload = vec![0; part.emitted_len()];
    part.emit(&mut payload).unwrap();
    raw(path, headers, &payload)
}

fn raw(path: &str, headers: &str, payload: &[u8]) -> Vec<u8> {
    let request = Request { path: path.as_bytes(), headers: headers.as_bytes(), payload };
    let mut bytes = vec![0; request.emitted_len()];
    request.emit(&mut bytes).unwrap();
    bytes
}

fn request() -> Vec<u8> {
    frame(PATH, "", &control().write().unwrap(), b"\xC0")
}

#[test]
fn a_request_reaches_the_application_like_one_over_mux_and_its_answer_goes_home() {
    let mut world = World::new(Config::default());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ours = "\"x-ringplane-remaining-us\":\"5000000\",\"x-ringplane-attempts\":\"2\"";
    let headers = format!("{{\"traceparent\":\"{trace}\",{ours}}}");
    world.send(&frame(PATH, &headers, &control().write().unwrap(), b"\x93"));
    assert_eq!(world.acks(), [""]);
    let job = world.job();
    let open = world.worker.opening(job).unwrap();
    assert_eq!((open.path, open.request_id, open.traceparent, open.attempts), (PATH, "call-1", Some(trace), 2));
    assert_eq!(world.worker.stats().repeated, 1);
    assert_eq!((open.codec, open.metadata().collect::<Vec<_>>()), (Some("msgpack"), vec![("tenant", "t1")]));
    assert_eq!(world.worker.deadline(job), Some(world.now + secs(5)));
    assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"\x93")));
    assert_eq!(world.worker.recv(job), Recv::End(Ending::ok()));
    world.worker.respond(job, Bytes::from_static(b"\x01")).unwrap();
    world.finish(job, Ending::ok());
    let conn = world.open_home();
    let frames = world.home(conn);
    assert_eq!(frames.len(), 5);
    assert_eq!(Envelope::read(Codec::Msgpack, &frames[2].1), Ok(Envelope::item(b"\x01")));
    assert!(world.worker.handle_eof(conn, world.now));
    world.drain();
    assert!(world.actions.contains(&Action::Close { conn, how: crate::protocol::Closing::Flush }));
    world.close(conn, CloseReason::Local);
    world.assert_empty();
}

#[test]
fn the_request_connection_may_close_while_its_calls_go_on() {
    let mut world = World::new(Config::default());
    world.send(&request());
    assert!(world.worker.handle_eof(REQUESTS, world.now));
    world.drain();
    world.close(REQUESTS, CloseReason::Local);
    let (job, conn) = (world.job(), world.open_home());
    world.finish(job, Ending::ok());
    assert_eq!(world.home(conn).len(), 4);
    world.close(conn, CloseReason::Reset);
    assert!(world.events.is_empty());
    world.assert_empty();
}

#[test]
fn what_says_where_to_bring_an_answer_is_refused_there_and_the_rest_in_the_ack() {
    let mut world = World::new(Config::default());
    let good = String::from_utf8(control().write().unwrap()).unwrap();
    let home = [
        (good.replace("\"msgpack\"", "\"cbor\""), &b"\xC0"[..], Class::InvalidRequest),
        (good.clone(), b"", Class::InvalidRequest),
    ];
    for (header, body, class) in home {
        world.send(&frame(PATH, "", header.as_bytes(), body));
        assert_eq!(world.acks(), [""]);
        let failure = world.refusal().typed_error.unwrap();
        assert_eq!(failure.class(), class, "{header}");
    }
    let stranger = good.replace("10.0.0.9", "10.0.0.8");
    let named = good.replace("10.0.0.9", "localhost");
    let quic = good.replace("tcp_server", "quic-response");
    let mixed = good.replacen("call-1", "call-2", 1);
    for header in ["{", &stranger, &named, &mixed] {
        world.send(&frame(PATH, "", header.as_bytes(), b"\xC0"));
        let acks = world.acks();
        assert!(acks.len() == 1 && acks[0].starts_with("Server unavailable: "), "{header}: {acks:?}");
    }
    world.send(&frame(PATH, "", quic.as_bytes(), b"\xC0"));
    let acks = world.acks();
    assert!(acks[0].starts_with("Server unavailable: responses over QUIC are not supported here"), "{acks:?}");
    world.send(&raw(PATH, "", b"short"));
    world.send(&frame("2a/ns/backend/other", "", good.as_bytes(), b"\xC0"));
    assert_eq!(
        world.acks(),
        ["Server unavailable: truncated payload", "Server unavailable: unknown endpoint 2a/ns/backend/other"]
    );
    assert!(world.events.is_empty() && !world.actions.iter().any(|action| matches!(action, Action::Connect { .. })));
}

#[test]
fn a_response_transport_nobody_here_speaks_is_refused_in_the_ack_by_its_name() {
    let good = String::from_utf8(control().write().unwrap()).unwrap();
    for (name, shown) in [("velo_response", "velo_response"), ("carrier\\u001b[2J\\npigeon", "carrier?[2J?pigeon")] {
        let mut world = World::new(Config::default());
        world.send(&frame(PATH, "", good.replace("tcp_server", name).as_bytes(), b"\xC0"));
        assert_eq!(world.acks(), [format!("Server unavailable: response transport {shown} not supported")]);
        assert_eq!((world.worker.load(), world.worker.stats().refused, world.worker.stats().dials), ((0, 0), 1, 0));
        assert!(world.events.is_empty() && world.actions.is_empty());
        world.assert_empty();
    }
}

#[test]
fn a_broken_control_message_is_answered_with_the_field_that_is_wrong() {
    let good = String::from_utf8(control().write().unwrap()).unwrap();
    for (from, to, words) in [
        ("\"msgpack\"", "\"cbor\"", "`payload_codec` is \"cbor\", not json or msgpack"),
        ("\"msgpack\"", "null", "`payload_codec` is null, not json or msgpack"),
        ("\"response_type\":\"many_out\",", "", "`response_type` is missing"),
        ("{\"tenant\":\"t1\"}", "[]", "`metadata` is [], not an object of texts"),
    ] {
        let mut world = World::new(Config::default());
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good);
        world.send(&frame(PATH, "", broken.as_bytes(), b"\xC0"));
        assert_eq!(world.acks(), [""]);
        assert_eq!(world.refusal().error, Some(format!("control message: {words}")));
        // Where nobody can be told at home, the ack says it.
        let nowhere = broken.replace("connection_info", "nothing");
        world.send(&frame(PATH, "", nowhere.as_bytes(), b"\xC0"));
        let acks = world.acks();
        assert!(acks[0].starts_with("Server unavailable: control message: `"), "{acks:?}");
    }
}

#[test]
fn a_queued_call_comes_home_at_once_and_has_its_prologue_when_it_runs_before_any_item() {
    let mut world = World::new(Config { max_running: 1, ..Config::default() });
    (0..2).for_each(|_| world.send(&request()));
    let (first, one, two) = (world.job(), world.open_home(), world.open_home());
    // Nothing has been answered: the one that runs has its prologue all the same, the other has come home and waits.
    assert_eq!((world.home(one).len(), world.home(two).len()), (2, 1));
    world.finish(first, Ending::ok());
    let second = world.job();
    let prologue = world.home(two)[1].0.clone();
    assert_eq!((world.home(two).len(), Prologue::read(&prologue)), (2, Ok(Prologue::default())));
    world.finish(second, Ending::ok());
    for conn in [one, two] {
        world.close(conn, CloseReason::Eof);
    }
    world.assert_empty();
}

#[test]
fn a_caller_that_has_given_up_before_it_is_dialed_costs_its_call_and_nothing_else() {
    for why in [CloseReason::Refused, CloseReason::Reset] {
        let mut world = World::new(Config { max_running: 1, ..Config::default() });
        (0..2).for_each(|_| world.send(&request()));
        let (first, one) = (world.job(), world.open_home());
        let (late, _) = world.dialed();
        if why == CloseReason::Reset {
            // The listener is there, and knows the subject no more.
            world.worker.handle_open(late, None, world.now);
            world.drain();
        }
        world.close(late, why);
        assert_eq!((world.worker.load(), world.events.len()), ((1, 0), 0), "the queued call is gone, unheard of");
        world.finish(first, Ending::ok());
        world.close(one, CloseReason::Eof);
        world.assert_empty();
    }
}

#[test]
fn what_is_wrong_with_a_request_carries_words_for_its_sender_and_other_failures_carry_none() {
    let public = |text: &str| Some(Public::Message { message: text.to_string() });
    for (class, reason, words) in [
        (Class::InvalidRequest, "backend.invalid_argument", public("no such mode")),
        (Class::InvalidRequest, "", public("no such mode")),
        (Class::Internal, "backend.unknown", None),
        (Class::CapacityExhausted, "capacity.worker_overloaded", None),
    ] {
        let mut world = World::new(Config::default());
        world.send(&request());
        let (job, conn) = (world.job(), world.open_home());
        world.finish(job, Ending::failed(class, reason, "no such mode"));
        let item = &world.home(conn)[2].1;
        let item = Envelope::read(Codec::Msgpack, item).unwrap().data.unwrap();
        let failure = Annotated::read(Codec::Msgpack, item).unwrap().failure().unwrap();
        assert_eq!((failure.class(), failure.public().cloned()), (class, words), "{reason}");
    }
    // A request that is refused is the sender's to mend, too.
    let mut world = World::new(Config::default());
    world.send(&frame(PATH, "", &control().write().unwrap(), b""));
    assert_eq!(world.acks(), [""]);
    let said = world.refusal().typed_error.unwrap();
    assert_eq!(said.public().cloned(), public("the request has no body"));
}

#[test]
fn a_path_is_matched_byte_for_byte() {
    let near =
        ["2A/ns/backend/generate", "2a/ns/backend/generate/", "/2a/ns/backend/generate", "2a%2Fns/backend/generate"];
    for path in near.into_iter().chain(["2a/ns/backend", ""]) {
        let mut world = World::new(Config::default());
        world.send(&frame(path, "", &control().write().unwrap(), b"\xC0"));
        assert_eq!(world.acks(), [format!("Server unavailable: unknown endpoint {path}")]);
    }
}

#[test]
fn headers_that_are_empty_or_no_json_do_not_matter() {
    for headers in ["", "{}", "no json", "[1]", "{\"a\":", "\0"] {
        let mut world = World::new(Config::default());
        world.send(&frame(PATH, headers, &control().write().unwrap(), b"\xC0"));
        assert_eq!(world.acks(), [""], "{headers:?}");
    }
}

#[test]
fn a_long_unknown_path_is_not_echoed_whole() {
    let mut world = World::new(Config::default());
    world.send(&raw(&"p".repeat(60_000), "", b""));
    assert!(world.acks()[0].len() < 400);
}

#[test]
fn a_worker_dials_requesters_of_this_host_anywhere_others_at_home_and_whom_it_is_told_to() {
    let allowed = Prefix { addr: "192.168.0.0".parse().unwrap(), bits: 16 };
    let mut config = Config::default();
    let may = |config: &Config, addr: &str, peer: &str| config.may_dial(addr.parse().unwrap(), peer.parse().ok());
    assert!(may(&config, "10.0.0.9", "10.0.0.9") && may(&config, "10.0.0.9", "::ffff:10.0.0.9"));
    assert!(!may(&config, "10.0.0.8", "10.0.0.9") && may(&config, "10.0.0.8", "127.0.0.1"));
    assert!(may(&config, "::1", "::ffff:127.0.0.1") && may(&config, "::ffff:127.0.0.1", "::1"));
    assert!(!may(&config, "127.0.0.1", "10.0.0.9") && !may(&config, "::1", "::ffff:10.0.0.9"));
    assert!(!may(&config, "192.168.3.4", "10.0.0.9") && !may(&config, "10.0.0.9", "unknown"));
    config.call_home[0] = Some(allowed);
    assert!(may(&config, "192.168.3.4", "10.0.0.9") && may(&config, "192.168.3.4", "unknown"));
}

#[test]
fn calls_beyond_running_and_queue_are_overload_and_a_queued_one_starts_in_its_turn() {
    let mut world = World::new(Config { max_running: 1, max_queued: 1, ..Config::default() });
    (0..3).for_each(|_| world.send(&request()));
    assert_eq!(world.acks(), ["", "", OVERLOADED]);
    let first = world.job();
    let (one, two) = (world.open_home(), world.open_home());
    assert_eq!((world.home(one).len(), world.home(two).len()), (2, 1));
    world.finish(first, Ending::ok());
    assert_eq!(world.home(two).len(), 2);
    let second = world.job();
    world.finish(second, Ending::failed(Class::InvalidRequest, "request.invalid_argument", "no"));
    assert_eq!(world.home(two).len(), 5);
    world.close(one, CloseReason::Eof);
    world.close(two, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn one_request_connection_holds_no_more_than_its_share_and_another_gets_in() {
    let mut world = World::new(Config { max_running: 1200, ..Config::default() });
    (0..301).for_each(|_| world.send(&request()));
    let acks = world.acks();
    assert_eq!((acks.iter().filter(|ack| ack.is_empty()).count(), acks[300].as_str()), (300, OVERLOADED));
    let other = ConnId::accepted(99);
    world.worker.handle_open(other, "10.0.0.9:4001".parse().ok(), world.now);
    world.worker.handle_recv(other, &request(), world.now).unwrap();
    world.drain();
    assert_eq!(world.worker.load(), (301, 0));
    let first = world.job();
    world.finish(first, Ending::ok());
    world.send(&request());
    assert_eq!((world.acks(), world.worker.load()), (std::vec![String::new()], (301, 0)), "a place given back");
}

#[test]
fn a_stop_a_kill_and_a_lost_connection_reach_the_handler_each_by_its_name() {
    let word = |word: Word| {
        let frame = TwoPart::new(word.header(), b"");
        let mut bytes = vec![0; frame.emitted_len()];
        frame.emit(&mut bytes).unwrap();
        bytes
    };
    for (cause, bytes) in [
        (Cause::Stop, Some(word(Word::Stop))),
        (Cause::Kill, Some(word(Word::Kill))),
        (Cause::Kill, Some(word(Word::Sentinel))),
        (Cause::Disconnected, None),
    ] {
        let mut world = World::new(Config::default());
        world.send(&request());
        let (job, conn) = (world.job(), world.open_home());
        let before = world.home(conn).len();
        match bytes {
            Some(bytes) => drop(world.worker.handle_recv(conn, &bytes, world.now)),
            None => world.worker.handle_close(conn, CloseReason::Reset, world.now),
        }
        world.drain();
        assert_eq!(world.events, [Event::Cancelled(job, cause)]);
        assert!(world.worker.respond(job, Bytes::from_static(b"1")).is_err());
        world.finish(job, Ending::ok());
        assert_eq!(world.home(conn).len(), before, "neither final nor sentinel");
        world.close(conn, CloseReason::Local);
        world.assert_empty();
    }
}

#[test]
fn a_stop_of_a_queued_call_takes_it_out_of_the_queue() {
    let mut world = World::new(Config { max_running: 1, ..Config::default() });
    (0..2).for_each(|_| world.send(&request()));
    let job = world.job();
    let (one, two) = (world.open_home(), world.open_home());
    let stop = TwoPart::new(Word::Stop.header(), b"");
    let mut bytes = vec![0; stop.emitted_len()];
    stop.emit(&mut bytes).unwrap();
    world.worker.handle_recv(two, &bytes, world.now).unwrap();
    world.drain();
    assert_eq!((world.worker.load(), world.worker.stats().cancelled), ((1, 0), 1));
    world.finish(job, Ending::ok());
    world.close(one, CloseReason::Eof);
    world.close(two, CloseReason::Local);
    assert!(world.events.is_empty());
    world.assert_empty();
}

#[test]
fn a_dial_without_descriptors_or_ports_is_repeated_a_few_times_and_then_given_up() {
    let config = Config { redials: 2, ..Config::default() };
    let mut world = World::new(config);
    world.send(&request());
    let job = world.job();
    for why in [CloseReason::NoPorts, CloseReason::NoDescriptors] {
        let (conn, _) = world.dialed();
        world.close(conn, why);
        assert!(!world.actions.iter().any(|action| matches!(action, Action::Connect { .. })));
        world.wait(config.redial_pause + millis(10));
    }
    let (conn, _) = world.dialed();
    world.close(conn, CloseReason::NoPorts);
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Disconnected)]);
    assert_eq!((world.worker.stats().dials, world.worker.stats().dial_failures), (3, 1));
    world.finish(job, Ending::ok());
    world.assert_empty();
}

#[test]
fn a_dial_that_is_refused_or_takes_too_long_ends_the_call() {
    let mut world = World::new(Config::default());
    world.send(&request());
    let (job, (conn, _)) = (world.job(), world.dialed());
    world.close(conn, CloseReason::Refused);
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Disconnected)]);
    world.finish(job, Ending::ok());
    world.events.clear();

    world.send(&request());
    let (job, (conn, _)) = (world.job(), world.dialed());
    world.wait(Config::default().dial_timeout + millis(10));
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Disconnected)]);
    world.finish(job, Ending::ok());
    world.close(conn, CloseReason::Local);
    world.assert_empty();
}

#[test]
fn refusals_on_their_way_home_are_bounded() {
    let mut world = World::new(Config { max_refusals: 2, ..Config::default() });
    let empty = frame(PATH, "", &control().write().unwrap(), b"");
    (0..3).for_each(|_| world.send(&empty));
    let acks = world.acks();
    assert!(acks[..2] == ["", ""] && acks[2].starts_with("Server overloaded:"));
    for _ in 0..2 {
        let (conn, _) = world.dialed();
        world.close(conn, CloseReason::Refused);
    }
    world.assert_empty();
}

#[test]
fn parts_of_requests_are_bounded_together_and_the_one_under_way_longest_is_refused() {
    let mut world = World::new(Config { max_partial: 1000, ..Config::default() });
    let part = &raw("p", "", &[0; 2000])[..400];
    let others = [ConnId::accepted(2), ConnId::accepted(3)];
    world.send(part);
    for conn in others {
        world.worker.handle_open(conn, None, world.now);
        world.worker.handle_recv(conn, part, world.now).unwrap();
        world.drain();
    }
    assert_eq!(world.acks(), ["Server overloaded: too many half-sent requests"]);
    assert!(matches!(world.actions[..], [Action::Close { conn: REQUESTS, .. }]));
    assert_eq!((world.worker.footprint().held, world.worker.stats().overloaded), (800, 1));
    // One that becomes whole makes room, and so does one that is cut.
    world.worker.handle_recv(others[0], &raw("p", "", &[0; 2000])[400..], world.now).unwrap();
    world.drain();
    assert_eq!(world.worker.footprint().held, 400);
    others.into_iter().for_each(|conn| world.close(conn, CloseReason::Reset));
    world.assert_empty();
}

#[test]
fn a_caller_far_ahead_of_its_acks_is_held_back_and_has_every_ack_in_order() {
    let mut config = Config::default();
    (config.requests.max_acks, config.requests.max_waiting) = (1000, 10_000);
    let mut world = World::new(config);
    let paths: Vec<_> = (0..2000).map(|number| format!("nobody/{number}")).collect();
    let all: Vec<u8> = paths.iter().flat_map(|path| raw(path, "", b"")).collect();
    let (mut pauses, mut most) = (0, 0);
    for portion in all.chunks(999) {
        // Nothing is written until the caller is held back.
        world.worker.handle_recv(REQUESTS, portion, world.now).unwrap();
        most = most.max(world.worker.footprint().held);
        match world.worker.poll_action() {
            None => {}
            Some(Action::Pause { conn: REQUESTS }) => {
                pauses += 1;
                world.drain();
                assert_eq!(core::mem::take(&mut world.actions), [Action::Resume { conn: REQUESTS }]);
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    world.drain();
    let acks: Vec<_> = paths.iter().map(|path| format!("Server unavailable: unknown endpoint {path}")).collect();
    assert_eq!(world.acks(), acks);
    assert!(pauses > 1 && most < 10_000 + 999 + 64, "{pauses} {most}");
    assert_eq!((world.actions.len(), world.worker.stats().faults), (0, 0));
    world.assert_empty();
}

#[test]
fn a_drain_refuses_new_calls_finishes_running_ones_and_leaves_the_callers() {
    let mut world = World::new(Config { max_running: 1, ..Config::default() });
    (0..2).for_each(|_| world.send(&request()));
    let job = world.job();
    let (one, two) = (world.open_home(), world.open_home());
    world.worker.drain(world.now);
    world.send(&request());
    assert_eq!(world.acks(), ["", "", "Server unavailable: worker pool channel closed"]);
    let prologue = Prologue::read(&world.home(two)[1].0).unwrap();
    assert_eq!(prologue.typed_error.unwrap().class(), Class::Unavailable);
    world.finish(job, Ending::ok());
    assert_eq!(world.home(one).len(), 4);
    assert!(world.actions.contains(&Action::Close { conn: REQUESTS, how: crate::protocol::Closing::Flush }));
    for conn in [one, two, REQUESTS] {
        assert!(!world.events.contains(&Event::Drained));
        world.close(conn, CloseReason::Local);
    }
    assert_eq!(world.events, [Event::Drained]);
    world.assert_empty();
}

#[test]
fn requests_for_a_drained_endpoint_are_refused_in_the_words_of_one_that_leaves() {
    let mut world = World::new(Config { max_running: 1, ..Config::default() });
    (0..2).for_each(|_| world.send(&request()));
    let job = world.job();
    let (one, two) = (world.open_home(), world.open_home());
    assert_eq!(world.worker.drain_endpoint(PATH, world.now), Some(7));
    world.drain();
    world.send(&request());
    assert_eq!(world.acks(), ["", "", "Server unavailable: worker pool channel closed"]);
    let prologue = Prologue::read(&world.home(two)[1].0).unwrap();
    assert_eq!(prologue.typed_error.unwrap().class(), Class::Unavailable);
    world.finish(job, Ending::ok());
    assert_eq!(world.events, [Event::EndpointDrained { endpoint: 7, cut_off: 0 }]);
    world.worker.resume_endpoint(PATH);
    world.send(&request());
    let job = world.job();
    let three = world.open_home();
    world.finish(job, Ending::ok());
    for conn in [one, two, three] {
        world.close(conn, CloseReason::Eof);
    }
    world.assert_empty();
}

#[test]
fn a_deadline_that_passes_is_told_at_home() {
    let mut world = World::new(Config::default());
    let headers = "{\"x-ringplane-remaining-us\":\"1000000\"}";
    world.send(&frame(PATH, headers, &control().write().unwrap(), b"\xC0"));
    let (job, conn) = (world.job(), world.open_home());
    world.wait(secs(2));
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Deadline)]);
    assert_eq!(world.home(conn).len(), 5, "an error item, the final frame and the sentinel");
    world.finish(job, Ending::ok());
    world.close(conn, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn a_request_whose_time_is_over_when_it_comes_never_runs_and_is_told_so_at_home() {
    let mut world = World::new(Config::default());
    let headers = "{\"x-ringplane-remaining-us\":\"0\"}";
    world.send(&frame(PATH, headers, &control().write().unwrap(), b"\xC0"));
    assert_eq!(world.acks(), [""]);
    let prologue = format!("{:?}", world.refusal());
    assert!(prologue.contains("key: DeadlineExceeded"), "{prologue}");
    assert!(world.events.is_empty());
    assert_eq!((world.worker.stats().expired, world.worker.load()), (1, (0, 0)));
}

#[test]
fn priorities_and_tenants_in_the_headers_order_the_queue() {
    let mut world = World::new(Config { max_running: 1, ..Config::default() });
    let rows = [
        ("{}", "runs"),
        ("{}", "c1"),
        ("{}", "c2"),
        ("{\"x-ringplane-tenant\":\"t\"}", "other"),
        ("{\"x-ringplane-priority\":\"9\"}", "urgent"),
        ("{\"x-ringplane-priority\":\"999\"}", "odd"),
    ];
    for (headers, id) in rows {
        world.send(&frame(PATH, headers, &control_of(id).write().unwrap(), b"\xC0"));
    }
    let mut order = vec![];
    for _ in 0..rows.len() {
        let job = world.job();
        order.push(world.worker.opening(job).unwrap().request_id.to_string());
        world.finish(job, Ending::ok());
    }
    assert_eq!(order, ["runs", "urgent", "c1", "other", "c2", "odd"]);
}

#[test]
fn a_deadline_in_the_metadata_alone_is_the_calls_and_no_pair_of_the_handlers() {
    let mut world = World::new(Config::default());
    let pair = ("x-ringplane-remaining-us".to_string(), "5000000".to_string());
    let metadata = control().metadata.into_iter().chain([pair]).collect();
    let control = Control { metadata, ..control() };
    world.send(&frame(PATH, "{}", &control.write().unwrap(), b"\xC0"));
    let job = world.job();
    let open = world.worker.opening(job).unwrap();
    assert_eq!((open.remaining_us, open.metadata().collect::<Vec<_>>()), (Some(5_000_000), vec![("tenant", "t1")]));
    assert_eq!(world.worker.deadline(job), Some(world.now + secs(5)));
}
