//! An answer that comes home: its prologue, its items, its end, and what is refused.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::buf::closing::Closing;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::response::receiver::{Config, Piece, Receiver};
use crate::protocol::Fault;
use crate::time::{Instant, Reason};
use crate::wire::class::Class;
use crate::wire::codec::Codec;
use crate::wire::dynamo::annotated::Annotated;
use crate::wire::dynamo::control::StreamType;
use crate::wire::dynamo::failure_key::Key;
use crate::wire::dynamo::two_part::{Head, frame};
use crate::wire::dynamo::typed_failure::Failure;

const T0: Instant = Instant::ZERO;
const HELLO: &[u8] = br#"{"subject":"e28a2fb1-ce9f-4c44-b324-4c357816aa2d","stream_type":"response"}"#;
const OK: &[u8] = br#"{"error":null}"#;
const LAST: &[u8] = br#"{"complete_final":true}"#;

fn read_all(receiver: &mut Receiver, mut bytes: &[u8], seen: &mut Vec<Piece>) -> Result<(), Fault> {
    while let Some(piece) = receiver.next(&mut bytes, T0)? {
        if matches!(piece, Piece::Subject(..)) {
            receiver.claim(Codec::Json);
        }
        seen.push(piece);
    }
    Ok(())
}

fn started() -> Receiver {
    let mut receiver = Receiver::new(Config::default(), T0);
    read_all(&mut receiver, &[frame(HELLO, b""), frame(OK, b"")].concat(), &mut Vec::new()).unwrap();
    receiver
}

fn written(receiver: &mut Receiver) -> Vec<u8> {
    let mut queue = SendQueue::new(1 << 16);
    receiver.poll_transmit(&mut queue);
    let mut slices = [&[][..]; 8];
    let used = queue.slices(&mut slices);
    slices[..used].concat()
}

#[test]
fn a_whole_stream_reads_the_same_however_the_bytes_are_cut() {
    let bytes = [
        frame(HELLO, b""),
        frame(OK, b""),
        frame(b"", br#"{"data":{"i":0},"complete_final":false}"#),
        frame(b"", b""),
        frame(b"", LAST),
        frame(br#""sentinel""#, b""),
    ]
    .concat();
    let subject = "e28a2fb1-ce9f-4c44-b324-4c357816aa2d".into();
    let item = Piece::Item(Bytes::from_static(br#"{"i":0}"#));
    let expected = vec![Piece::Subject(subject, StreamType::Response), Piece::Started, item, Piece::End];
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let (mut receiver, mut seen) = (Receiver::new(Config::default(), T0), Vec::new());
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                read_all(&mut receiver, part, &mut seen).unwrap();
            }
            assert_eq!(seen, expected, "cut at {first} and {second}");
            assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
            assert_eq!((receiver.held(), receiver.wanted()), (0, 0));
        }
    }
}

#[test]
fn every_frame_after_the_prologue_means_what_the_table_says() {
    let item = |text: &'static str| Piece::Item(Bytes::from_static(text.as_bytes()));
    type Row = (&'static [u8], &'static [u8], Result<Vec<Piece>, ()>);
    let rows: [Row; 12] = [
        (b"", br#"{"data":7,"complete_final":false}"#, Ok(vec![item("7")])),
        (b"", br#"{"data":7,"complete_final":true}"#, Ok(vec![item("7")])),
        (b"", LAST, Ok(vec![])),
        (b"", br#"{"complete_final":false}"#, Err(())),
        (b"", br#"{"data":7}"#, Err(())),
        (b"", b"no", Err(())),
        (b"", b"", Ok(vec![])),
        (br#""sentinel""#, b"", Ok(vec![Piece::Cut])),
        (br#""sentinel""#, b"x", Err(())),
        (br#""stop""#, b"", Err(())),
        (b"nonsense", b"", Err(())),
        (b"", br#"{"data":{"event":"error"},"complete_final":false}"#, Ok(vec![Piece::Failed(unknown())])),
    ];
    for (header, body, expected) in rows {
        let (mut receiver, mut seen) = (started(), Vec::new());
        let outcome = read_all(&mut receiver, &frame(header, body), &mut seen);
        assert_eq!(outcome.map(|()| seen).map_err(|_| ()), expected.clone(), "{header:?} {body:?}");
        if expected.is_err() {
            assert_eq!(written(&mut receiver), frame(br#""kill""#, b""));
            assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
        }
    }
}

/// What an error item means that says nothing.
fn unknown() -> Failure {
    Annotated::read(Codec::Json, br#"{"event":"error"}"#).unwrap().failure().unwrap()
}

#[test]
fn behind_the_final_frame_comes_the_sentinel_and_an_item_there_is_a_fault() {
    let sentinel = || frame(br#""sentinel""#, b"");
    let more = frame(b"", br#"{"data":8,"complete_final":false}"#);
    for last in [LAST, br#"{"data":7,"complete_final":true}"#] {
        let (mut receiver, mut seen) = (started(), Vec::new());
        read_all(&mut receiver, &frame(b"", last), &mut seen).unwrap();
        assert!(receiver.is_complete() && !seen.contains(&Piece::End), "not before the sentinel");
        read_all(&mut receiver, &[frame(b"", b""), sentinel()].concat(), &mut seen).unwrap();
        assert_eq!((seen.last(), receiver.poll_close(T0)), (Some(&Piece::End), Some(Closing::Flush)));

        for bad in [more.clone(), frame(b"", last), frame(b"junk", b"")] {
            let (mut receiver, mut seen) = (started(), Vec::new());
            let outcome = read_all(&mut receiver, &[frame(b"", last), bad, sentinel()].concat(), &mut seen);
            assert!(outcome.is_err() && !seen.contains(&Piece::End));
        }
    }
    let failed = frame(b"", br#"{"data":{"event":"error"},"complete_final":false}"#);
    let (mut receiver, mut seen) = (started(), Vec::new());
    read_all(&mut receiver, &[failed, frame(b"", LAST), sentinel()].concat(), &mut seen).unwrap();
    assert_eq!(seen, [Piece::Failed(unknown())], "what follows a failure is no fault and no end");
    assert!(!receiver.is_complete());
}

#[test]
fn an_error_item_ends_the_stream_with_class_and_reason() {
    let failure = Failure::new(Key::BackendInvalidArgument, "no such mode");
    let item = Annotated::failed(failure.clone()).write(Codec::Json).unwrap();
    let body = [br#"{"data":"#.as_slice(), &item, br#","complete_final":false}"#].concat();
    let (mut receiver, mut seen) = (started(), Vec::new());
    read_all(&mut receiver, &frame(b"", &body), &mut seen).unwrap();
    let [Piece::Failed(seen)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((seen.class(), seen.key()), (Class::InvalidRequest, failure.key()));
}

#[test]
fn an_error_prologue_says_why_and_the_socket_is_reset() {
    let (mut receiver, mut seen) = (Receiver::new(Config::default(), T0), Vec::new());
    let bytes = [frame(HELLO, b""), frame(br#"{"error":"boom"}"#, b""), frame(br#""sentinel""#, b"")].concat();
    read_all(&mut receiver, &bytes, &mut seen).unwrap();
    assert_eq!(seen.last(), Some(&Piece::Refused(None, "boom".into())));
    assert_eq!(receiver.poll_close(T0), Some(Closing::Abort));
}

#[test]
fn what_is_no_handshake_or_no_prologue_is_refused() {
    let neither = br#"{"subject":"x","stream_type":"both"}"#;
    for bytes in [frame(b"", b"data"), frame(b"junk", b""), frame(neither, b""), vec![0xff; 24]] {
        let mut receiver = Receiver::new(Config::default(), T0);
        assert!(read_all(&mut receiver, &bytes, &mut Vec::new()).is_err());
        assert_eq!(written(&mut receiver), b"", "nobody is told anything before the handshake");
    }
    for bytes in [frame(b"", LAST), frame(b"junk", b""), frame(OK, b"body")] {
        let mut receiver = Receiver::new(Config::default(), T0);
        assert!(read_all(&mut receiver, &[frame(HELLO, b""), bytes].concat(), &mut Vec::new()).is_err());
    }
}

#[test]
fn an_item_too_large_is_refused_by_its_lengths_alone() {
    let mut receiver = started();
    let head = Head::new(0, (32 << 20) + 1);
    let (declared, limit) = ((32 << 20) + 1, 32 << 20);
    let outcome = read_all(&mut receiver, &head.to_bytes(), &mut Vec::new());
    assert_eq!(outcome, Err(Fault::ItemTooLarge { declared, limit }));
    assert_eq!(receiver.held(), 0);
}

#[test]
fn a_handshake_is_short_or_refused_by_its_lengths_alone() {
    for (header_len, body_len) in [(4097, 0), (75, 4097), (1 << 40, 0), (1 << 62, 1 << 62)] {
        let mut receiver = Receiver::new(Config::default(), T0);
        let head = Head::new(header_len, body_len);
        assert!(read_all(&mut receiver, &head.to_bytes(), &mut Vec::new()).is_err(), "{header_len} {body_len}");
        assert_eq!(receiver.held(), 0);
    }
    let long = [HELLO.strip_suffix(b"}").unwrap(), br#","more":""#, &[b'x'; 4000], br#""}"#].concat();
    let mut receiver = Receiver::new(Config::default(), T0);
    let mut seen = Vec::new();
    read_all(&mut receiver, &frame(&long, &[0; 4096]), &mut seen).unwrap();
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_connection_that_says_nothing_is_reset_and_so_is_one_without_its_sentinel() {
    let mut receiver = Receiver::new(Config::default(), T0);
    let deadline = receiver.poll_timeout().unwrap();
    assert_eq!(deadline.why, Reason::Hello);
    receiver.handle_timeout(deadline.at);
    assert_eq!(receiver.poll_close(deadline.at), Some(Closing::Abort));
    let mut receiver = started();
    assert_eq!(receiver.poll_timeout(), None);
    read_all(&mut receiver, &frame(b"", LAST), &mut Vec::new()).unwrap();
    assert_eq!(receiver.poll_timeout().unwrap().why, Reason::CallHomeFin);
}

#[test]
fn stop_is_said_and_the_stream_goes_on_while_kill_closes_behind_itself() {
    let mut receiver = started();
    receiver.stop();
    assert_eq!(written(&mut receiver), frame(br#""stop""#, b""));
    assert_eq!(receiver.poll_close(T0), None);
    receiver.kill(T0);
    assert_eq!(receiver.poll_close(T0), None, "the word goes first");
    assert_eq!(written(&mut receiver), frame(br#""kill""#, b""));
    assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
}
