//! Rows of our own frames: preface, head, whole frames, and the header of every kind both ways.

use std::hint::black_box;

use ringplane_core::id::StreamId;
use ringplane_core::wire::class::Class;
use ringplane_core::wire::mux::{
    CancelMode, End, Frame, GoAway, Head, Hello, Kind, Load, Meaning, Open, Preface, Reject, RejectCode, Status, goaway,
};
use ringplane_core::wire::parse::{Format, Limits, Parse};

use crate::cases::case::{Case, Work};
use crate::inputs::{SIZES, body, fixed, frame, item, no_crc};

const HELLO: Hello =
    Hello { stream_window: 2 << 20, connection_window: 64 << 20, max_item: 64 << 20, max_streams: 16_384 };
const OPEN: Open<'static> = Open {
    path: "5f1a9c02/bench/backend/generate",
    request_id: "0d4bb1f6-6a0e-4d4f-93a4-0d6a1f6e7c55",
    remaining_us: Some(30_000_000),
    traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    tracestate: Some("vendor=00f067aa0ba902b7"),
    codec: Some("msgpack"),
    priority: 0,
    tenant: None,
    attempts: 0,
    x_request_id: None,
    fields: &[],
};
const METADATA: [(&str, &str); 2] = [("tenant", "blue"), ("priority", "7")];
const END: End<'static> =
    End { class: Some(Class::Internal), reason: "engine.failed", message: "the engine gave up after 12 tokens" };
const REJECT: Reject<'static> =
    Reject { code: RejectCode::Overloaded, retry_after_ms: 250, message: "worker at capacity" };
const GOAWAY: GoAway<'static> = GoAway { code: goaway::DRAIN, last: StreamId(77), message: "leaving" };

/// All of `wire::mux`.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = whole();
    cases.extend(SIZES.into_iter().flat_map(of_size));
    cases.extend(Kind::ALL.into_iter().map(parse_header));
    cases.extend(write_headers());
    cases
}

fn whole() -> Vec<Case> {
    vec![
        Case::new("mux/preface parse", |_| {
            let bytes = fixed(Preface::OURS.to_bytes());
            move || Preface::parse(black_box(bytes), &Limits::default())
        }),
        Case::new("mux/preface write", |_| {
            let mut out = [0; 8];
            move || black_box(Preface::OURS).emit(black_box(&mut out))
        }),
        Case::new("mux/head parse", |crc| {
            let bytes = fixed(item(64, crc));
            move || Head::parse(black_box(bytes), &Limits::default(), crc)
        }),
        Case::new("mux/open metadata", |_| {
            let bytes = fixed(frame(Kind::Open, &open(), &[], no_crc()));
            move || open_of(black_box(bytes)).metadata().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        }),
    ]
}

fn of_size(len: usize) -> [Case; 3] {
    let rows = [
        // With the counted checksum the body is not looked at: one size says it all.
        Case::new(format!("mux/head seal/{len}"), move |crc| {
            let body = fixed(body(len));
            move || Head::seal(Kind::Item, 0, StreamId(1), &[], black_box(body), crc)
        })
        .counted_if(len == 64),
        Case::new(format!("mux/frame parse/{len}"), move |_| {
            let bytes = fixed(item(len, Default::default()));
            move || Frame::parse(black_box(bytes), &Limits::default())
        })
        .counted_if(len == 64),
        Case::new(format!("mux/frame write/{len}"), move |_| {
            let bytes = fixed(item(len, Default::default()));
            let frame = complete(Frame::parse(bytes, &Limits::default()));
            let mut out = vec![0; bytes.len()];
            move || black_box(&frame).emit(black_box(&mut out))
        })
        .counted_if(len == 64),
    ];
    rows.map(|case| case.of(Work::Bytes(len as u64)))
}

fn parse_header(kind: Kind) -> Case {
    Case::new(format!("mux/{} parse", name(kind)), move |_| {
        let header = fixed(header(kind));
        let bytes = frame(kind, header, &[], no_crc());
        let head = complete(Head::parse(&bytes, &Limits::default(), no_crc()));
        move || Meaning::parse(black_box(&head), black_box(header))
    })
    // A report is not on the way of a call.
    .counted_if(kind != Kind::Load)
}

fn write_headers() -> Vec<Case> {
    vec![
        Case::new("mux/hello write", |_| || black_box(HELLO).to_bytes()),
        Case::new("mux/status write", |_| || black_box(Status::Queued(12)).to_bytes()),
        writes("open", |out| {
            let metadata = black_box(&METADATA).iter().copied();
            black_box(&OPEN).write(metadata, |bytes| out.extend_from_slice(bytes)).expect("short fields");
        }),
        writes("end", |out| black_box(&END).write(|bytes| out.extend_from_slice(bytes))),
        writes("reject", |out| black_box(&REJECT).write(|bytes| out.extend_from_slice(bytes))),
        writes("goaway", |out| black_box(&GOAWAY).write(|bytes| out.extend_from_slice(bytes))),
    ]
}

fn writes(what: &str, write: fn(&mut Vec<u8>)) -> Case {
    Case::new(format!("mux/{what} write"), move |_| {
        let mut out = Vec::with_capacity(1024);
        move || {
            out.clear();
            write(&mut out);
            out.len()
        }
    })
}

fn name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// A header of this kind with all its fields.
fn header(kind: Kind) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    match kind {
        Kind::Hello => put(&HELLO.to_bytes()),
        Kind::Open => return open(),
        Kind::Item => put(&(1u64 << 20).to_be_bytes()),
        Kind::End => END.write(put),
        Kind::Cancel => put(&[CancelMode::Stop as u8]),
        Kind::Credit => put(&65_536u32.to_be_bytes()),
        Kind::Status => put(&Status::Queued(12).to_bytes()),
        Kind::Reject => REJECT.write(put),
        Kind::Ping | Kind::Pong => put(&42u64.to_be_bytes()),
        Kind::GoAway => GOAWAY.write(put),
        Kind::Load => Load::new(12, 3, 64).write([("kv", 7)].into_iter(), put),
    }
    out
}

fn open() -> Vec<u8> {
    let mut out = Vec::new();
    OPEN.write(METADATA.into_iter(), |bytes| out.extend_from_slice(bytes)).expect("short fields");
    out
}

fn open_of(bytes: &'static [u8]) -> Open<'static> {
    let header = bytes.get(20..).unwrap_or_default();
    let head = complete(Head::parse(bytes, &Limits::default(), no_crc()));
    let Ok(Meaning::Open(open)) = Meaning::parse(&head, header) else { panic!("an open frame was made") };
    open
}

/// The view of an input that is a whole frame.
pub(super) fn complete<T, E>(parsed: Result<Parse<T>, E>) -> T {
    let Ok(Parse::Complete { value, .. }) = parsed else { panic!("the inputs are whole frames") };
    value
}
