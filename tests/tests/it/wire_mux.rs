//! The laws of our own frames: one of each kind, cut everywhere, changed anywhere.

use ringplane_core::id::StreamId;
use ringplane_core::wire::mux::{
    CancelMode, End, Frame, GoAway, HEAD_LEN, Head, Hello, Kind, Load, MAX_FRAGMENT, Open, Preface, Reject, RejectCode,
    Status, flags, goaway,
};
use ringplane_core::wire::{Class, Crc32c, Error, ErrorKind, Format, Limits, Parse};
use ringplane_tests::fuzz;
use ringplane_tests::wire_laws;

fn sealed(kind: Kind, flag: u8, stream: u32, header: &[u8], body: &[u8]) -> Vec<u8> {
    let head = Head::seal(kind, flag, StreamId(stream), header, body, Crc32c::PORTABLE).unwrap();
    [&head, header, body].concat()
}

fn header(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut |bytes| out.extend_from_slice(bytes));
    out
}

/// A frame of every kind, and items of every form.
fn samples() -> Vec<(Kind, Vec<u8>)> {
    let hello = Hello { stream_window: 1 << 21, connection_window: 1 << 26, max_item: 1 << 26, max_streams: 16_384 };
    let open = Open {
        path: "1a/ns/comp/ep",
        request_id: "r-1",
        remaining_us: Some(1_500_000),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: Some("a=b"),
        codec: Some("msgpack"),
        ..Open::default()
    };
    let open = header(|put| open.write([("k", "v"), ("", "")].into_iter(), put).unwrap());
    let end = End { class: Some(Class::Unavailable), reason: "backend.unavailable", message: "gone" };
    let reject = Reject { code: RejectCode::Overloaded, retry_after_ms: 250, message: "full" };
    let load = Load::new(3, 1, 4);
    let goaway = GoAway { code: goaway::DRAIN, last: StreamId(7), message: "" };
    let frames = [
        (Kind::Hello, 0, 0, hello.to_bytes().to_vec(), &b""[..]),
        (Kind::Open, 0, 1, open, b""),
        (Kind::Item, 0, 1, vec![], b"one item"),
        (Kind::Item, flags::MORE, 1, 9_u64.to_be_bytes().to_vec(), b"part "),
        (Kind::Item, flags::CONT | flags::LAST, 1, vec![], b"rest"),
        (Kind::Item, flags::CONT | flags::RESERVED, 1, vec![], b""),
        (Kind::End, 0, 1, header(|put| end.write(put)), b""),
        (Kind::Cancel, 0, 1, vec![CancelMode::Kill as u8], b""),
        (Kind::Credit, flags::RESERVED, 1, 70_000_u32.to_be_bytes().to_vec(), b""),
        (Kind::Status, 0, 1, Status::Queued(3).to_bytes().to_vec(), b""),
        (Kind::Reject, 0, 1, header(|put| reject.write(put)), b""),
        (Kind::Ping, flags::OPTIONAL, 0, 7_u64.to_be_bytes().to_vec(), b""),
        (Kind::Pong, 0, 0, 7_u64.to_be_bytes().to_vec(), b""),
        (Kind::GoAway, 0, 0, header(|put| goaway.write(put)), b""),
        (Kind::Load, flags::OPTIONAL, 0, header(|put| load.write([("kv", 7), ("", 0)].into_iter(), put)), b""),
    ];
    frames.into_iter().map(|(kind, flag, id, header, body)| (kind, sealed(kind, flag, id, &header, body))).collect()
}

#[test]
fn a_frame_of_every_kind_is_read_and_written_back_and_its_beginnings_are_incomplete() {
    let limits = Limits::default();
    let samples = samples();
    assert!(Kind::ALL.iter().all(|kind| samples.iter().any(|(sample, _)| sample == kind)));
    for (kind, bytes) in &samples {
        let (frames, end) = wire_laws::frames::<Frame<'_>>(bytes, &limits);
        assert_eq!((frames.len(), end), (1, wire_laws::End::Clean), "{kind:?}");
        assert_eq!(frames[0].head.kind(), Some(*kind));
        assert!(frames[0].meaning().is_ok(), "{kind:?}");
        wire_laws::prefixes_are_incomplete::<Frame<'_>>(bytes, &limits);
    }
    let preface = Preface::OURS.to_bytes();
    wire_laws::frames::<Preface>(&preface, &limits);
    wire_laws::prefixes_are_incomplete::<Preface>(&preface, &limits);
}

#[test]
fn frames_in_three_pieces_are_the_same_frames_wherever_the_cuts_are() {
    let limits = Limits::default();
    for pair in samples().windows(2) {
        wire_laws::cuts_do_not_matter::<Frame<'_>>(&[&pair[0].1[..], &pair[1].1].concat(), &limits);
    }
    let all: Vec<u8> = samples().into_iter().flat_map(|(_, bytes)| bytes).collect();
    wire_laws::cuts_do_not_matter::<Frame<'_>>(&all, &limits);
    wire_laws::cuts_do_not_matter::<Preface>(&Preface::OURS.to_bytes(), &limits);
}

#[test]
fn lengths_beyond_the_limits_are_refused_from_the_head_alone_and_the_limits_pass() {
    let large = sealed(Kind::Item, 0, 1, &[0; 8], &vec![7; MAX_FRAGMENT]);
    let (frames, _) = wire_laws::frames::<Frame<'_>>(&large, &Limits::default());
    assert_eq!(frames.len(), 1);
    wire_laws::prefixes_are_incomplete::<Frame<'_>>(&large, &Limits::default());
    let larger = sealed(Kind::Item, 0, 1, &[], &vec![7; MAX_FRAGMENT + 1]);
    let error = ErrorKind::TooLarge { declared: 65_537, limit: 65_536 };
    assert_eq!(Frame::parse(&larger[..HEAD_LEN], &Limits::default()), Err(Error::new(error, 8)));
}

#[test]
fn random_changes_are_survived_and_never_taken_for_a_frame_that_was_sent() {
    for (seed, (kind, bytes)) in (1..).zip(samples()) {
        println!("{kind:?} seed {seed}");
        wire_laws::mutations_are_survived(&bytes, seed, 300, |changed| {
            fuzz::mux(changed);
            if let Ok(Parse::Complete { value, used }) = Frame::parse(changed, &Limits::default()) {
                assert!(used == bytes.len() && changed[..used] == bytes[..], "{value:?} was never sent");
            }
        });
    }
}

#[test]
fn a_stream_of_frames_changed_at_random_is_cut_alike_whole_and_in_pieces() {
    let mut stream = vec![1, 9];
    samples().iter().for_each(|(_, bytes)| stream.extend_from_slice(bytes));
    wire_laws::mutations_are_survived(&stream, 5, 500, fuzz::deframer);
}
