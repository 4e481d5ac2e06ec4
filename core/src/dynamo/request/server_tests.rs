//! Requests taken in order, their acks, and what ends the connection.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::buf::closing::Closing;
use crate::buf::gate::{BURST, Flow};
use crate::buf::send_queue::SendQueue;
use crate::dynamo::request::server::{Config, Server, State};
use crate::protocol::Fault;
use crate::time::{Instant, Reason};
use crate::wire::dynamo::ack::Ack;
use crate::wire::dynamo::ack::{OVERLOADED, UNKNOWN_ENDPOINT};
use crate::wire::dynamo::request::Request;
use crate::wire::parse::{Format, Limits, Parse};

const T0: Instant = Instant::ZERO;

fn frame(path: &[u8], headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let request = Request { path, headers, payload };
    let mut out = vec![0; request.emitted_len()];
    request.emit(&mut out).unwrap();
    out
}

fn feed(server: &mut Server, mut bytes: &[u8], seen: &mut Vec<Vec<u8>>) -> Result<(), Fault> {
    while let Some(frame) = server.next(&mut bytes, T0)? {
        seen.push([frame.path(), b"|", frame.headers(), b"|", &frame.payload()].concat());
        server.answer(&Ack::Accepted, T0);
    }
    Ok(())
}

fn acks(server: &mut Server) -> Vec<u8> {
    let mut queue = SendQueue::new(1 << 20);
    server.poll_transmit(&mut queue);
    let mut slices = [&[][..]; 8];
    let used = queue.slices(&mut slices);
    slices[..used].concat()
}

#[test]
fn frames_come_out_whole_however_the_bytes_are_cut() {
    let bytes = [frame(b"a/b/c/d", b"{}", b"payload"), frame(b"", b"", b""), frame(b"x", b"", b"zz")].concat();
    let expected = [b"a/b/c/d|{}|payload".to_vec(), b"||".to_vec(), b"x||zz".to_vec()];
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let (mut server, mut seen) = (Server::new(Config::default(), T0), Vec::new());
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                feed(&mut server, part, &mut seen).unwrap();
            }
            assert_eq!(seen, expected, "cut at {first} and {second}");
            assert_eq!(acks(&mut server), [0; 12]);
            assert_eq!((server.held(), server.wanted()), (0, 0));
        }
    }
}

#[test]
fn acks_leave_in_the_order_of_their_requests() {
    let mut server = Server::new(Config::default(), T0);
    let bytes = [frame(b"a", b"", b""), frame(b"b", b"", b""), frame(b"c", b"", b"")].concat();
    let mut rest = bytes.as_slice();
    let unknown = [UNKNOWN_ENDPOINT, "b"].concat();
    for text in ["", &unknown, OVERLOADED] {
        server.next(&mut rest, T0).unwrap().unwrap();
        server.answer(&Ack::from_text(text.as_bytes()), T0);
    }
    let out = acks(&mut server);
    let mut at = 0;
    for text in ["", &unknown, OVERLOADED] {
        let Parse::Complete { value, used } = Ack::parse(&out[at..], &Limits::default()).unwrap() else { panic!() };
        assert_eq!(value.text(), text.as_bytes());
        at += used;
    }
    assert_eq!(at, out.len());
}

#[test]
fn a_frame_too_large_is_refused_by_its_lengths_and_one_of_the_limit_is_taken() {
    let config = Config { max_message: 64, ..Config::default() };
    let (mut server, mut seen) = (Server::new(config, T0), Vec::new());
    feed(&mut server, &frame(b"p", b"", &[7; 55]), &mut seen).unwrap();
    assert_eq!(seen.len(), 1);
    acks(&mut server);
    let large = frame(b"p", b"", &[7; 56]);
    let outcome = feed(&mut server, &large[..9], &mut seen);
    assert!(matches!(outcome, Err(Fault::Wire(_))));
    assert!(acks(&mut server)[4..].starts_with(b"Server unavailable: message too large: 65 bytes"));
    assert_eq!(server.poll_close(T0), Some(Closing::Flush));
    assert_eq!(server.poll_close(T0), None);
}

#[test]
fn requests_wait_while_acks_are_unread_and_all_are_answered_as_they_are_read() {
    let config = Config { max_acks: 400, ..Config::default() };
    let (mut server, mut seen) = (Server::new(config, T0), Vec::new());
    let burst = frame(b"path", b"", b"x").repeat(1000);
    // Cut inside a frame, and the peer is done before it reads.
    feed(&mut server, &burst[..4001], &mut seen).unwrap();
    feed(&mut server, &burst[4001..], &mut seen).unwrap();
    server.handle_eof(T0);
    assert_eq!((seen.len(), server.state()), (101, State::Open));
    let mut read = 0;
    while read < 4000 {
        assert!(!server.can_go_on() && server.held() > 0 || seen.len() == 1000);
        assert_ne!(server.poll_timeout().unwrap().why, Reason::RequestFrame);
        let len = acks(&mut server).len();
        server.handle_sent(len, T0);
        read += len;
        feed(&mut server, &[], &mut seen).unwrap();
    }
    assert_eq!((seen.len(), read, server.held()), (1000, 4000, 0));
    assert_eq!((server.state(), server.poll_close(T0)), (State::Closing, Some(Closing::Flush)));
}

#[test]
fn a_peer_far_ahead_of_its_acks_is_held_back_until_half_of_what_waits_is_answered() {
    let config = Config { max_acks: 400, max_waiting: 10_000, ..Config::default() };
    let (mut server, mut seen) = (Server::new(config, T0), Vec::new());
    let burst = frame(b"path", b"", b"x").repeat(1000);
    feed(&mut server, &burst[..8000], &mut seen).unwrap();
    assert_eq!((seen.len(), server.poll_flow()), (101, None), "what waits is below the mark");
    feed(&mut server, &burst[8000..], &mut seen).unwrap();
    assert_eq!((server.poll_flow(), server.poll_flow()), (Some(Flow::Pause), None));
    let (mut read, mut resumed) = (0, None);
    while read < 4000 {
        let len = acks(&mut server).len();
        server.handle_sent(len, T0);
        read += len;
        feed(&mut server, &[], &mut seen).unwrap();
        if let Some(flow) = server.poll_flow() {
            assert_eq!((flow, resumed), (Flow::Resume, None));
            resumed = Some(server.held());
        }
    }
    assert!(resumed.is_some_and(|left| (3500..=5000).contains(&left)), "{resumed:?}");
    assert_eq!((seen.len(), server.held(), server.state()), (1000, 0, State::Open));
    // One that leaves while it is held back is only closed.
    feed(&mut server, &burst, &mut seen).unwrap();
    server.leave(T0);
    assert_eq!(server.poll_flow(), None);
}

#[test]
fn a_peer_that_does_not_wait_is_cut_off_behind_all_that_a_driver_may_have_received() {
    let config = Config { max_acks: 400, max_waiting: 4 << 20, ..Config::default() };
    let (mut server, mut seen) = (Server::new(config, T0), Vec::new());
    let many = frame(b"p", b"", b"").repeat(100_000);
    let bound = (BURST + config.max_waiting) / many.len() + 1;
    for _ in 0..bound {
        feed(&mut server, &many, &mut seen).unwrap();
    }
    assert!(server.held() > BURST + config.max_waiting);
    assert_eq!(feed(&mut server, &many, &mut seen), Err(Fault::Flood));
    assert_eq!((seen.len(), server.held()), (101, 0));
}

#[test]
fn a_peer_that_reads_no_acks_is_given_up_after_its_bound() {
    let config = Config { max_acks: 400, max_waiting: 1000, ..Config::default() };
    let (mut server, mut seen) = (Server::new(config, T0), Vec::new());
    feed(&mut server, &frame(b"p", b"", b"").repeat(1000), &mut seen).unwrap();
    assert_eq!(server.poll_flow(), Some(Flow::Pause));
    let deadline = server.poll_timeout().unwrap();
    assert_eq!((deadline.at, deadline.why), (T0 + config.send_timeout, Reason::SendStall));
    assert_eq!(server.handle_timeout(deadline.at), Err(Fault::Stalled));
}

#[test]
fn a_frame_that_stands_still_ends_the_connection_and_an_idle_one_waits_for_ever() {
    let (mut server, mut seen) = (Server::new(Config::default(), T0), Vec::new());
    assert_eq!(server.poll_timeout(), None);
    feed(&mut server, &frame(b"p", b"", b"xyz")[..6], &mut seen).unwrap();
    let deadline = server.poll_timeout().unwrap();
    assert_eq!(deadline.why, Reason::RequestFrame);
    assert_eq!(server.handle_timeout(deadline.at), Err(Fault::Silent));
    assert_eq!(server.poll_close(deadline.at), Some(Closing::Flush));
}

#[test]
fn a_frame_that_comes_a_byte_a_second_ends_the_connection_and_one_of_two_kibibytes_a_second_does_not() {
    let whole = frame(b"p", b"", &[7; 100 << 10]);
    for (step, taken) in [(1, false), (2 << 10, true)] {
        let mut server = Server::new(Config::default(), T0);
        let (mut now, mut outcome) = (T0, Ok(None));
        for part in whole.chunks(step) {
            now = now + Duration::from_secs(1);
            outcome = server.handle_timeout(now).and_then(|()| server.next(&mut &*part, now));
            if outcome != Ok(None) {
                break;
            }
        }
        assert_eq!((outcome.is_ok(), outcome.is_err()), (taken, !taken), "{step} bytes a second");
        assert!(taken || now == T0 + Duration::from_secs(11), "{now:?}");
    }
}

#[test]
fn acks_that_stand_still_end_the_connection() {
    let (mut server, mut seen) = (Server::new(Config::default(), T0), Vec::new());
    feed(&mut server, &frame(b"p", b"", b""), &mut seen).unwrap();
    assert_eq!(acks(&mut server).len(), 4);
    let deadline = server.poll_timeout().unwrap();
    assert_eq!(deadline.why, Reason::SendStall);
    assert_eq!(server.handle_timeout(deadline.at), Err(Fault::Stalled));
    server.handle_sent(4, deadline.at);
}
