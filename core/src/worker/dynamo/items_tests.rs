//! A worker and a Dynamo caller whose request is a stream: two dials, items in, and every way it can end.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{assert, assert_eq, matches, vec};

use bytes::Bytes;

use crate::dynamo::items::receiver;
use crate::id::ConnId;
use crate::mux::event::{Ending, Recv};
use crate::protocol::{Action, CloseReason, Closing, Protocol};
use crate::tests::net::millis;
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::annotated::Annotated;
use crate::wire::dynamo::control::{CallHome, ConnectionInfo, Control, Handshake, Prologue, RequestType, StreamType};
use crate::wire::dynamo::envelope::Envelope;
use crate::wire::dynamo::two_part::TwoPart;
use crate::wire::dynamo::word::Word;
use crate::wire::parse::Format;
use crate::worker::config::Config;
use crate::worker::dynamo::answer_tests::{PATH, World, control, frame};
use crate::worker::job::{Cause, Event, JobId};

fn many() -> Control {
    let feed = CallHome {
        address: "10.0.0.9:5001".to_string(),
        subject: "feed".to_string(),
        context: "call-1".to_string(),
        stream_type: StreamType::Request,
    };
    let info = ConnectionInfo::new(&feed).unwrap();
    Control { request_type: RequestType::ManyIn, request_stream_connection_info: Some(info), ..control() }
}

fn request(control: &Control) -> Vec<u8> {
    frame(PATH, "", &control.write().unwrap(), b"")
}

fn part(header: &[u8], body: &[u8]) -> Vec<u8> {
    let part = TwoPart::new(header, body);
    let mut bytes = vec![0; part.emitted_len()];
    part.emit(&mut bytes).unwrap();
    bytes
}

fn item(body: &[u8]) -> Vec<u8> {
    part(b"", body)
}

fn word(word: Word) -> Vec<u8> {
    part(word.header(), b"")
}

/// A call that runs, and its two connections, both up.
fn running(config: Config) -> (World, JobId, ConnId, ConnId) {
    let mut world = World::new(config);
    world.send(&request(&many()));
    assert_eq!(world.acks(), [""]);
    let job = world.job();
    let (feed, home) = (world.open_home(), world.open_home());
    (world, job, feed, home)
}

impl World {
    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let _ = self.worker.handle_recv(conn, bytes, self.now);
        self.drain();
    }

    fn eof(&mut self, conn: ConnId) {
        assert!(self.worker.handle_eof(conn, self.now));
        self.drain();
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.actions.contains(&Action::Close { conn, how: Closing::Flush })
    }

    /// The failure that the call at `home` ends with: in the prologue, or as its last item.
    fn failure(&self, home: ConnId) -> (Class, String) {
        let frames = self.home(home);
        assert_eq!(Word::read(&frames.last().unwrap().0), Ok(Word::Sentinel));
        let failure = match Prologue::read(&frames[1].0).unwrap().typed_error {
            Some(failure) => failure,
            None => {
                let body = &frames[frames.len() - 3].1;
                let data = Envelope::read(Codec::Msgpack, body).unwrap().data.unwrap();
                Annotated::read(Codec::Msgpack, data).unwrap().failure().unwrap()
            }
        };
        (failure.class(), failure.key().name().to_string())
    }
}

#[test]
fn the_worker_comes_for_the_items_first_and_brings_the_answer_while_they_still_come() {
    let mut world = World::new(Config::default());
    world.send(&request(&many()));
    let job = world.job();
    assert_eq!(world.worker.opening(job).unwrap().request_id, "call-1");
    assert_eq!(world.worker.recv(job), Recv::Pending);
    let ((feed, at), (home, to)) = (world.dialed(), world.dialed());
    assert_eq!((at.port(), to.port()), (5001, 5000));
    world.worker.handle_open(feed, None, world.now);
    world.drain();
    let handshake = Handshake::read(&world.home(feed)[0].0).unwrap();
    assert_eq!(handshake, Handshake { subject: "feed".to_string(), stream_type: StreamType::Request });
    world.say(feed, &item(b"\x01"));
    assert_eq!(world.events, [Event::Readable(job)]);
    assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"\x01")));
    world.worker.respond(job, Bytes::from_static(b"\x01")).unwrap();
    world.worker.handle_open(home, None, world.now);
    world.drain();
    assert_eq!(world.home(home).len(), 3, "handshake, prologue, item");
    world.say(feed, &[item(b"\x02"), word(Word::Sentinel)].concat());
    world.eof(feed);
    assert!(world.is_closed(feed));
    world.close(feed, CloseReason::Local);
    assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"\x02")), "what is here outlives its connection");
    assert_eq!(world.worker.recv(job), Recv::End(Ending::ok()));
    world.finish(job, Ending::ok());
    assert_eq!(world.home(home).len(), 5);
    assert_eq!(world.home(feed).len(), 1, "nothing follows the handshake");
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn a_request_without_items_is_one_too() {
    let (mut world, job, feed, home) = running(Config::default());
    world.say(feed, &word(Word::Sentinel));
    assert_eq!(world.worker.recv(job), Recv::End(Ending::ok()));
    world.finish(job, Ending::ok());
    assert!(!world.is_closed(feed), "the caller closes first");
    world.eof(feed);
    assert!(world.is_closed(feed));
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn a_stop_a_kill_and_whatever_else_ends_the_request_early_ends_the_answer_without_its_end() {
    type Way = (Cause, fn(&mut World, ConnId));
    let ways: [Way; 8] = [
        (Cause::Stop, |world, feed| world.say(feed, &word(Word::Stop))),
        (Cause::Kill, |world, feed| world.say(feed, &word(Word::Kill))),
        (Cause::Kill, |world, feed| world.eof(feed)),
        (Cause::Kill, |world, feed| world.say(feed, &part(b"\"stop\"", b"x"))),
        (Cause::Kill, |world, feed| world.say(feed, &item(b""))),
        (Cause::Kill, |world, feed| world.say(feed, &part(b"{}", b""))),
        (Cause::Kill, |world, feed| world.say(feed, &[0xFF; 24])),
        (Cause::Disconnected, |world, feed| world.close(feed, CloseReason::Reset)),
    ];
    for (number, (cause, way)) in ways.into_iter().enumerate() {
        let (mut world, job, feed, home) = running(Config::default());
        world.say(feed, &item(b"\x01"));
        world.events.clear();
        let before = world.home(home).len();
        way(&mut world, feed);
        assert_eq!(world.events, [Event::Cancelled(job, cause)], "way {number}");
        assert!(matches!(world.worker.recv(job), Recv::End(_)));
        assert!(world.worker.respond(job, Bytes::from_static(b"1")).is_err());
        assert!(world.is_closed(home), "way {number}");
        world.finish(job, Ending::ok());
        assert_eq!(world.home(home).len(), before, "neither final nor sentinel");
        assert_eq!(world.worker.stats().cancelled, 1);
        world.close(feed, CloseReason::Local);
        world.close(home, CloseReason::Local);
        world.assert_empty();
    }
}

#[test]
fn a_stop_that_is_here_before_the_answers_connection_is_up_still_says_whose_answer_ends() {
    let mut world = World::new(Config::default());
    world.send(&request(&many()));
    let job = world.job();
    let feed = world.open_home();
    world.say(feed, &word(Word::Stop));
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Stop)]);
    world.finish(job, Ending::ok());
    let home = world.open_home();
    assert_eq!(world.home(home).len(), 2, "handshake and prologue");
    assert!(world.is_closed(home));
    world.eof(feed);
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Local);
    world.assert_empty();
}

#[test]
fn an_answer_that_ends_or_is_stopped_first_leaves_the_rest_of_the_request_unread() {
    for stopped in [false, true] {
        let (mut world, job, feed, home) = running(Config::default());
        world.say(feed, &item(b"\x01"));
        world.events.clear();
        if stopped {
            world.say(home, &word(Word::Stop));
            assert_eq!(world.events, [Event::Cancelled(job, Cause::Stop)]);
        }
        world.finish(job, Ending::ok());
        assert_eq!(world.home(home).len(), if stopped { 2 } else { 4 });
        world.say(feed, &item(&[7; 4096]).repeat(4));
        assert!(!world.is_closed(feed), "the caller closes first");
        world.wait(Config::default().items.fin_timeout + millis(10));
        assert!(world.is_closed(feed), "but has its time");
        world.close(feed, CloseReason::Local);
        world.close(home, CloseReason::Local);
        world.assert_empty();
    }
}

#[test]
fn items_that_cannot_be_fetched_are_an_error_prologue_or_an_error_item() {
    for before in [true, false] {
        let mut world = World::new(Config { max_running: 1, max_queued: 1, ..Config::default() });
        world.send(&request(&many()));
        world.send(&request(&many()));
        let job = world.job();
        let (feeds, homes): (Vec<_>, Vec<_>) = (0..2).map(|_| (world.dialed().0, world.dialed().0)).unzip();
        if before {
            homes.iter().for_each(|home| world.worker.handle_open(*home, None, world.now));
            world.drain();
        }
        for feed in &feeds {
            world.close(*feed, CloseReason::Refused);
        }
        if !before {
            homes.iter().for_each(|home| world.worker.handle_open(*home, None, world.now));
            world.drain();
        }
        for home in &homes {
            let unavailable = (Class::Unavailable, "transport.cannot_connect".to_string());
            assert_eq!(world.failure(*home), unavailable);
        }
        assert_eq!(world.events, [Event::Cancelled(job, Cause::Disconnected)]);
        assert_eq!((world.worker.stats().dial_failures, world.worker.load()), (2, (1, 0)));
        world.finish(job, Ending::ok());
        for home in homes {
            world.close(home, CloseReason::Eof);
        }
        world.assert_empty();
    }
}

#[test]
fn dials_for_items_are_repeated_and_bounded_like_those_of_answers() {
    let config = Config { redials: 1, ..Config::default() };
    let mut world = World::new(config);
    world.send(&request(&many()));
    let job = world.job();
    let (feed, home) = (world.dialed().0, world.open_home());
    world.close(feed, CloseReason::NoPorts);
    world.wait(config.redial_pause + millis(10));
    let feed = world.open_home();
    world.say(feed, &[item(b"\x01"), word(Word::Sentinel)].concat());
    assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"\x01")));
    world.finish(job, Ending::ok());
    world.close(feed, CloseReason::Eof);
    world.close(home, CloseReason::Eof);

    world.events.clear();
    world.send(&request(&many()));
    let job = world.job();
    let (feed, home) = (world.dialed().0, world.open_home());
    world.wait(config.dial_timeout + millis(10));
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Disconnected)]);
    assert_eq!(world.failure(home).0, Class::Unavailable);
    world.finish(job, Ending::ok());
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn an_answer_that_cannot_be_brought_lets_go_of_the_items() {
    let mut world = World::new(Config::default());
    world.send(&request(&many()));
    let (job, feed) = (world.job(), world.open_home());
    let (home, _) = world.dialed();
    world.close(home, CloseReason::Refused);
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Disconnected)]);
    world.finish(job, Ending::ok());
    world.eof(feed);
    world.close(feed, CloseReason::Local);
    world.assert_empty();
}

#[test]
fn items_that_lie_unread_hold_their_caller_back_until_half_of_them_are_read() {
    let fetch = receiver::Config { max_unread: 128, ..receiver::Config::default() };
    let (mut world, job, feed, home) = running(Config { items: fetch, ..Config::default() });
    world.say(feed, &item(b"1"));
    assert!(world.actions.is_empty());
    world.say(feed, &item(b"1").repeat(2));
    assert_eq!(core::mem::take(&mut world.actions), [Action::Pause { conn: feed }]);
    world.wait(Config::default().items.item_timeout * 2);
    for left in [2, 1, 0] {
        assert!(matches!(world.worker.recv(job), Recv::Item(_)));
        world.drain();
        let resumed = world.actions.contains(&Action::Resume { conn: feed });
        assert_eq!(resumed, left == 0, "{left} left");
    }
    // A caller that was held back could not speak: its silence begins anew.
    world.wait(Config::default().items.item_timeout);
    world.say(feed, &[item(b"2"), word(Word::Sentinel)].concat());
    assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"2")));
    assert_eq!(world.worker.recv(job), Recv::End(Ending::ok()));
    world.eof(feed);
    world.close(feed, CloseReason::Local);
    world.finish(job, Ending::ok());
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn an_item_too_large_ends_the_call_with_the_limit_in_an_error_item() {
    let fetch = receiver::Config { max_item: 8, ..receiver::Config::default() };
    let (mut world, job, feed, home) = running(Config { items: fetch, ..Config::default() });
    world.say(feed, &item(&[1; 9]));
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Kill)]);
    assert_eq!(world.failure(home), (Class::PayloadTooLarge, "request.payload_too_large".to_string()));
    world.finish(job, Ending::ok());
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn a_handler_that_leaves_items_unread_lets_their_caller_go_on() {
    let fetch = receiver::Config { max_unread: 128, ..receiver::Config::default() };
    let (mut world, job, feed, home) = running(Config { items: fetch, ..Config::default() });
    world.say(feed, &item(b"1").repeat(3));
    world.finish(job, Ending::ok());
    assert_eq!(world.actions[..2], [Action::Pause { conn: feed }, Action::Resume { conn: feed }]);
    world.say(feed, &item(b"1").repeat(3));
    world.eof(feed);
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn silence_and_too_much_unread_end_the_call_with_an_error_item() {
    let fetch = receiver::Config { max_unread: 128, ..receiver::Config::default() };
    let (mut world, job, feed, home) = running(Config { items: fetch, ..Config::default() });
    // Nothing pauses here: what comes beyond a burst is too much.
    let large = item(&std::vec![1; 32 << 20]);
    (0..4).for_each(|_| world.say(feed, &large));
    world.events.clear();
    assert_eq!(world.failure(home), (Class::CapacityExhausted, "capacity.exhausted".to_string()));
    world.finish(job, Ending::ok());
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();

    let (mut world, job, feed, home) = running(Config::default());
    world.wait(Config::default().items.item_timeout + millis(10));
    assert_eq!(world.events, [Event::Cancelled(job, Cause::Deadline)]);
    assert_eq!(world.failure(home), (Class::DeadlineExceeded, "request.deadline_exceeded".to_string()));
    world.finish(job, Ending::ok());
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();
}

#[test]
fn items_of_a_call_in_the_queue_wait_with_it_and_a_stop_takes_it_out() {
    let mut world = World::new(Config { max_running: 1, ..Config::default() });
    (0..3).for_each(|_| world.send(&request(&many())));
    let first = world.job();
    let pairs: Vec<_> = (0..3).map(|_| (world.open_home(), world.open_home())).collect();
    world.say(pairs[1].0, &[item(b"\x05"), word(Word::Sentinel)].concat());
    world.close(pairs[1].0, CloseReason::Eof);
    world.say(pairs[2].0, &word(Word::Stop));
    assert!(world.is_closed(pairs[2].1) && world.events.is_empty());
    assert_eq!(world.worker.load(), (1, 1));
    world.say(pairs[0].0, &word(Word::Sentinel));
    world.finish(first, Ending::ok());
    world.events.retain(|event| !matches!(event, Event::Readable(_)));
    let second = world.job();
    assert_eq!(world.worker.recv(second), Recv::Item(Bytes::from_static(b"\x05")));
    assert_eq!(world.worker.recv(second), Recv::End(Ending::ok()));
    world.finish(second, Ending::ok());
    for conn in pairs.into_iter().flat_map(|(feed, home)| [feed, home]) {
        world.close(conn, CloseReason::Local);
    }
    world.assert_empty();
}

#[test]
fn what_is_wrong_with_a_request_that_is_a_stream_is_said_at_home() {
    let info = |change: fn(&mut CallHome)| {
        let mut place = many().request_stream().unwrap();
        change(&mut place);
        Control { request_stream_connection_info: Some(ConnectionInfo::new(&place).unwrap()), ..many() }
    };
    let mut elsewhere = many();
    elsewhere.request_stream_connection_info.as_mut().unwrap().transport = "carrier-pigeon".to_string();
    let mut broken = many();
    broken.request_stream_connection_info.as_mut().unwrap().info.push('x');
    let wrong = [
        (many(), &b"\xC0"[..], "a body and a stream"),
        (Control { request_stream_connection_info: None, ..many() }, b"", "no connection info for this stream"),
        (Control { request_type: RequestType::SingleIn, ..many() }, b"", "the request has no body"),
        (info(|place| place.subject = "subject".to_string()), b"", "one subject"),
        (info(|place| place.context = "call-2".to_string()), b"", "belongs to another call"),
        (info(|place| place.stream_type = StreamType::Response), b"", "for the other stream"),
        (info(|place| place.address = "10.0.0.8:5001".to_string()), b"", "not on the allow list"),
        (info(|place| place.address = "localhost:5001".to_string()), b"", "not an IP address and port"),
        (elsewhere, b"", "request transport carrier-pigeon not supported"),
        (broken, b"", "connection info: "),
    ];
    for (control, body, text) in wrong {
        let mut world = World::new(Config::default());
        world.send(&frame(PATH, "", &control.write().unwrap(), body));
        assert_eq!(world.acks(), [""]);
        let prologue = world.refusal();
        let said = prologue.error.unwrap();
        assert!(said.contains(text), "{text}: {said}");
        assert_eq!(prologue.typed_error.unwrap().class(), Class::InvalidRequest, "{text}");
        let dials = world.actions.iter().filter(|action| matches!(action, Action::Connect { .. })).count();
        assert!(dials == 0 && world.events.is_empty(), "{text}: nothing else is dialed and nothing runs");
    }
    let stranger = String::from_utf8(many().write().unwrap()).unwrap().replace("10.0.0.9:5000", "10.0.0.8:5000");
    let mut world = World::new(Config::default());
    world.send(&frame(PATH, "", stranger.as_bytes(), b""));
    let acks = world.acks();
    assert!(acks[0].starts_with("Server unavailable: the call-home address is not the requester's"), "{acks:?}");
}

#[test]
fn a_body_without_a_place_for_more_is_one_item_whatever_the_request_calls_itself() {
    let calls = [
        Control { request_stream_connection_info: None, ..many() },
        Control { request_type: RequestType::SingleIn, ..many() },
        control(),
    ];
    for control in calls {
        let mut world = World::new(Config::default());
        world.send(&frame(PATH, "", &control.write().unwrap(), b"\x2A"));
        let job = world.job();
        assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"\x2A")));
        assert_eq!(world.worker.recv(job), Recv::End(Ending::ok()));
        world.finish(job, Ending::ok());
        assert_eq!((world.acks(), world.worker.stats().dials), (vec![String::new()], 1), "{control:?}");
    }
}

#[test]
fn a_drain_lets_a_stream_of_items_come_to_its_end() {
    let (mut world, job, feed, home) = running(Config::default());
    world.worker.drain(world.now);
    world.say(feed, &[item(b"\x01"), word(Word::Sentinel)].concat());
    world.events.clear();
    assert_eq!(world.worker.recv(job), Recv::Item(Bytes::from_static(b"\x01")));
    world.finish(job, Ending::ok());
    world.eof(feed);
    world.close(feed, CloseReason::Local);
    world.close(home, CloseReason::Eof);
    world.assert_empty();
    assert_eq!(world.events, [Event::Drained]);
}
