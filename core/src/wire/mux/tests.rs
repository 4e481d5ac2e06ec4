//! The mux frames: what is written reads back, what is torn, flipped or too long does not.

use std::vec;
use std::vec::Vec;

use crate::id::StreamId;
use crate::wire::checksum::Crc32c;
use crate::wire::class::Class;
use crate::wire::mux::frame::*;
use crate::wire::mux::message::*;
use crate::wire::parse::{Error, ErrorKind, Format, Limits, Parse};

const CRC: Crc32c = Crc32c::PORTABLE;

fn frame(kind: Kind, flags: u8, stream: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head::seal(kind, flags, StreamId(stream), header, body, CRC).unwrap();
    [&head, header, body].concat()
}

fn complete(bytes: &[u8]) -> Frame<'_> {
    match Frame::parse(bytes, &Limits::default()).unwrap() {
        Parse::Complete { value, used } => {
            assert_eq!(used, bytes.len());
            value
        }
        Parse::Incomplete { needed } => panic!("incomplete, {needed} more"),
    }
}

fn open_header(open: &Open<'_>, metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut header = Vec::new();
    open.write(metadata.iter().copied(), |bytes| header.extend_from_slice(bytes)).unwrap();
    header
}

#[test]
fn an_item_frame_is_taken_apart() {
    let bytes = frame(Kind::Item, flags::LAST, 5, &[], b"body");
    let view = complete(&bytes);
    assert_eq!(view.head.kind(), Some(Kind::Item));
    assert!(view.head.has(flags::LAST) && !view.head.has(flags::MORE));
    assert_eq!((view.head.stream, view.body), (StreamId(5), b"body".as_slice()));
    assert_eq!(view.meaning(), Ok(Meaning::Item { total: None }));
}

#[test]
fn a_frame_is_put_together_again() {
    let bytes = frame(Kind::Item, flags::MORE, 7, &9_u64.to_be_bytes(), b"part");
    let view = complete(&bytes);
    let mut out = vec![0; view.emitted_len()];
    assert_eq!(view.emit(&mut out), Ok(bytes.len()));
    assert_eq!(out, bytes);
    assert_eq!(view.meaning(), Ok(Meaning::Item { total: Some(9) }));
}

#[test]
fn lengths_beyond_the_limits_are_refused_from_the_head_alone() {
    let limits = Limits { max_fragment: 3, max_mux_header: 2, ..Limits::default() };
    let body = frame(Kind::Item, 0, 1, &[], b"four");
    assert!(matches!(
        Frame::parse(&body[..HEAD_LEN], &limits),
        Err(Error { kind: ErrorKind::TooLarge { declared: 4, limit: 3 }, offset: 8 })
    ));
    let header = frame(Kind::Ping, 0, 0, &[0; 8], &[]);
    assert!(matches!(
        Frame::parse(&header[..HEAD_LEN], &limits),
        Err(Error { kind: ErrorKind::TooLarge { declared: 8, limit: 2 }, offset: 2 })
    ));
}

#[test]
fn every_flipped_bit_is_detected() {
    let bytes = frame(Kind::Item, 0, 3, b"headhead", b"body of it");
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let outcome = Frame::parse(&broken, &Limits::default());
        assert!(matches!(outcome, Err(Error { kind: ErrorKind::Checksum, .. })), "bit {bit}: {outcome:?}");
    }
}

#[test]
fn a_short_frame_says_how_much_is_missing() {
    let bytes = frame(Kind::Item, 0, 3, b"headhead", b"body");
    for cut in 0..bytes.len() {
        let Ok(Parse::Incomplete { needed }) = Frame::parse(&bytes[..cut], &Limits::default()) else {
            panic!("cut at {cut} is not incomplete");
        };
        let expected = if cut < HEAD_LEN { HEAD_LEN - cut } else { bytes.len() - cut };
        assert_eq!(needed, expected);
    }
}

#[test]
fn an_unknown_kind_is_an_error_unless_it_is_optional() {
    for (flag, known) in [(0, false), (flags::OPTIONAL, true)] {
        let mut head = Head::seal(Kind::Ping, flag, StreamId(0), &[], &[], CRC).unwrap();
        head[0] = 99;
        let crc = CRC.of(&head[..16]).to_be_bytes();
        head[16..].copy_from_slice(&crc);
        let outcome = Frame::parse(&head, &Limits::default());
        if known {
            assert_eq!(complete(&head).meaning(), Ok(Meaning::Unknown));
        } else {
            assert_eq!(outcome, Err(Error::new(ErrorKind::Unknown(99), 0)));
        }
    }
}

#[test]
fn only_items_may_have_a_body() {
    let bytes = frame(Kind::Ping, 0, 0, &[0; 8], b"x");
    assert_eq!(Frame::parse(&bytes, &Limits::default()), Err(Error::new(ErrorKind::Unexpected, 8)));
}

#[test]
fn an_open_carries_everything_and_skips_what_it_does_not_know() {
    let open = Open {
        path: "1a/ns/comp/ep",
        request_id: "r-1",
        remaining_us: Some(1_500_000),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: Some("a=b"),
        codec: Some("msgpack"),
        priority: -7,
        tenant: Some("t-1"),
        attempts: 3,
        x_request_id: Some("x 1"),
        ..Open::default()
    };
    let metadata = [("k", "v"), ("", "empty key"), ("k", "again")];
    let mut header = vec![200, 0, 2, 1, 2];
    header.extend(open_header(&open, &metadata));
    let bytes = frame(Kind::Open, 0, 1, &header, &[]);
    let Ok(Meaning::Open(read)) = complete(&bytes).meaning() else { panic!("not an open") };
    assert_eq!((read.path, read.request_id, read.remaining_us), (open.path, open.request_id, open.remaining_us));
    assert_eq!((read.traceparent, read.tracestate, read.codec), (open.traceparent, open.tracestate, open.codec));
    assert_eq!((read.priority, read.tenant), (-7, Some("t-1")));
    assert_eq!((read.attempts, read.x_request_id), (open.attempts, open.x_request_id));
    assert_eq!(read.metadata().collect::<Vec<_>>(), metadata);
}

#[test]
fn an_open_without_path_or_id_or_with_torn_fields_is_an_error() {
    let head = |header: &[u8]| complete(&frame(Kind::Open, 0, 1, header, &[])).meaning().map(|_| ());
    assert_eq!(head(&[]), Err(Error::new(ErrorKind::Missing, 0)));
    assert_eq!(head(&[1, 0, 9, b'x']), Err(Error::new(ErrorKind::Truncated, 3)));
    assert_eq!(head(&[3, 0, 1, 0]), Err(Error::new(ErrorKind::Invalid, 0)));
    assert_eq!(head(&[6, 0, 1, 0]).unwrap_err().kind, ErrorKind::Truncated);
}

#[test]
fn outcomes_survive_the_wire_and_long_messages_are_cut_at_a_character() {
    let long = "ü".repeat(MAX_TEXT);
    let end = End { class: Some(Class::Unavailable), reason: "backend.unavailable", message: &long };
    let mut header = Vec::new();
    end.write(|bytes| header.extend_from_slice(bytes));
    let bytes = frame(Kind::End, 0, 9, &header, &[]);
    let Ok(Meaning::End(read)) = complete(&bytes).meaning() else { panic!("not an end") };
    assert_eq!((read.class, read.reason), (end.class, end.reason));
    assert_eq!(read.message.len(), MAX_TEXT);

    let reject = Reject { code: RejectCode::Overloaded, retry_after_ms: 250, message: "full" };
    let mut header = Vec::new();
    reject.write(|bytes| header.extend_from_slice(bytes));
    assert_eq!(complete(&frame(Kind::Reject, 0, 9, &header, &[])).meaning(), Ok(Meaning::Reject(reject)));

    let goaway = GoAway { code: goaway::DRAIN, last: StreamId(77), message: "" };
    let mut header = Vec::new();
    goaway.write(|bytes| header.extend_from_slice(bytes));
    assert_eq!(complete(&frame(Kind::GoAway, 0, 0, &header, &[])).meaning(), Ok(Meaning::GoAway(goaway)));
}

#[test]
fn fixed_headers_read_back_what_was_written() {
    let hello = Hello { stream_window: 1, connection_window: 2, max_item: 3, max_streams: 4 };
    let read = |kind, header: &[u8]| complete(&frame(kind, 0, 0, header, &[])).meaning().map(|m| std::format!("{m:?}"));
    assert_eq!(read(Kind::Hello, &hello.to_bytes()), Ok(std::format!("{:?}", Meaning::Hello(hello))));
    for status in [Status::Queued(7), Status::Running] {
        assert_eq!(read(Kind::Status, &status.to_bytes()), Ok(std::format!("{:?}", Meaning::Status(status))));
    }
    assert!(read(Kind::Status, &[9, 0, 0, 0, 0]).is_err());
    assert!(read(Kind::Cancel, &[3]).is_err());
    assert!(read(Kind::Credit, &[0, 1]).is_err());
}

#[test]
fn the_preface_finds_the_newest_common_version() {
    assert_eq!(Preface::OURS.common(), Some(VERSION));
    assert_eq!(Preface { newest: 9, oldest: 1 }.common(), Some(VERSION));
    assert_eq!(Preface { newest: 9, oldest: 5 }.common(), None);
    let bytes = Preface::OURS.to_bytes();
    for cut in 0..PREFACE_LEN {
        assert_eq!(
            Preface::parse(&bytes[..cut], &Limits::default()),
            Ok(Parse::Incomplete { needed: PREFACE_LEN - cut })
        );
    }
    assert_eq!(Preface::parse(&[0xFF, 0], &Limits::default()), Err(Error::new(ErrorKind::BadMagic, 1)));
    let swapped = Preface { newest: 1, oldest: 2 }.to_bytes();
    assert_eq!(Preface::parse(&swapped, &Limits::default()), Err(Error::new(ErrorKind::Invalid, 6)));
}
