//! Rows of Dynamo's frames and of the JSON in them.

use std::collections::BTreeMap;
use std::hint::black_box;

use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::ack::{Ack, OVERLOADED};
use ringplane_core::wire::dynamo::control::{
    CallHome, ConnectionInfo, Control, Handshake, Prologue, RequestType, ResponseType, StreamType,
};
use ringplane_core::wire::dynamo::headers::Headers;
use ringplane_core::wire::dynamo::request::{self, Request};
use ringplane_core::wire::dynamo::two_part::{self, TwoPart};
use ringplane_core::wire::dynamo::word::Word;
use ringplane_core::wire::parse::{Format, Limits};

use crate::cases::case::{Case, Work};
use crate::cases::mux::complete;
use crate::cases::payload::failure;
use crate::inputs::{SIZES, body, fixed};

const ID: &str = "0d4bb1f6-6a0e-4d4f-93a4-0d6a1f6e7c55";
const PATH: &str = "5f1a9c02/bench/backend/generate";

/// All of `wire::request`, `ack`, `two_part`, `word`, `control` and `headers`.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = small_frames();
    cases.extend(SIZES.into_iter().flat_map(of_size));
    cases.extend(control());
    cases.extend(handshake_and_prologue());
    cases.extend(headers());
    cases
}

fn small_frames() -> Vec<Case> {
    vec![
        Case::new("request/head parse", |_| {
            let bytes = request(1400);
            move || request::Head::parse(black_box(bytes), &Limits::default())
        }),
        Case::new("request/head write", |_| {
            let head = complete(request::Head::parse(request(1400), &Limits::default()));
            let mut out = vec![0; head.emitted_len()];
            move || black_box(&head).emit(black_box(&mut out))
        }),
        Case::new("ack/parse accepted", |_| || Ack::parse(black_box(&[0; 4]), &Limits::default())),
        Case::new("ack/parse refused", |_| {
            let bytes = emitted(&Ack::from_text(OVERLOADED.as_bytes()));
            move || Ack::parse(black_box(bytes), &Limits::default())
        }),
        Case::new("ack/write refused", |_| {
            let mut out = [0; 64];
            move || black_box(Ack::from_text(OVERLOADED.as_bytes())).emit(black_box(&mut out))
        }),
        Case::new("ack/refusal of an unknown text", |_| || black_box(Ack::Other(b"Unknown endpoint: x")).refusal()),
        Case::new("two-part/head parse", |_| {
            let bytes = fixed(TwoPart::new(b"{}", b"data").head().to_bytes());
            move || two_part::Head::parse(black_box(bytes), &Limits::default())
        }),
        Case::new("two-part/head write", |_| || black_box(TwoPart::new(b"{}", b"data").head()).to_bytes()),
        Case::new("word/read sentinel", |_| || Word::read(black_box(b"\"sentinel\""))),
    ]
}

fn of_size(len: usize) -> [Case; 6] {
    let rows = [
        Case::new(format!("request/parse/{len}"), move |_| {
            let bytes = request(len);
            move || Request::parse(black_box(bytes), &Limits::default())
        }),
        Case::new(format!("request/write/{len}"), move |_| {
            let request = complete(Request::parse(request(len), &Limits::default()));
            writes(request)
        }),
        Case::new(format!("two-part/parse/{len}"), move |_| {
            let bytes = emitted(&TwoPart::new(&[], fixed(body(len))));
            move || TwoPart::parse(black_box(bytes), &Limits::default())
        }),
        Case::new(format!("two-part/parse with checksum/{len}"), move |_| {
            let bytes = emitted(&TwoPart::with_checksum(b"{}", fixed(body(len))));
            move || TwoPart::parse(black_box(bytes), &Limits::default())
        }),
        Case::new(format!("two-part/write/{len}"), move |_| writes(TwoPart::new(b"{}", fixed(body(len))))),
        Case::new(format!("two-part/write with checksum/{len}"), move |_| {
            let body = fixed(body(len));
            let mut out = vec![0; TwoPart::new(b"{}", body).emitted_len()];
            move || TwoPart::with_checksum(b"{}", black_box(body)).emit(black_box(&mut out))
        }),
    ];
    rows.map(|case| case.of(Work::Bytes(len as u64)).counted_if(len == 64))
}

fn control() -> [Case; 4] {
    [
        Case::new("control/read", |_| {
            let bytes = control_bytes();
            move || Control::read(black_box(bytes))
        }),
        Case::new("control/write", |_| {
            let control = control_message();
            move || black_box(&control).write()
        }),
        Case::new("control/response stream", |_| {
            let control = control_message();
            move || black_box(&control).response_stream()
        }),
        Case::new("control/connection info write", |_| {
            let call_home = call_home();
            move || ConnectionInfo::new(black_box(&call_home))
        }),
    ]
}

fn handshake_and_prologue() -> [Case; 6] {
    let handshake = || Handshake { subject: ID.into(), stream_type: StreamType::Response };
    let failed = || Prologue { error: Some("no room".into()), typed_error: Some(failure()) };
    [
        Case::new("handshake/read", move |_| {
            let bytes = fixed(handshake().write().expect("short"));
            move || Handshake::read(black_box(bytes))
        }),
        Case::new("handshake/write", move |_| {
            let handshake = handshake();
            move || black_box(&handshake).write()
        }),
        Case::new("prologue/read accepted", |_| {
            let bytes = fixed(Prologue::default().write().expect("short"));
            move || Prologue::read(black_box(bytes))
        }),
        Case::new("prologue/write accepted", |_| || black_box(Prologue::default()).write()),
        Case::new("prologue/read failed", move |_| {
            let bytes = fixed(failed().write().expect("short"));
            move || Prologue::read(black_box(bytes))
        }),
        Case::new("prologue/write failed", move |_| {
            let prologue = failed();
            move || black_box(&prologue).write()
        }),
    ]
}

fn headers() -> [Case; 3] {
    [
        Case::new("headers/read", |_| {
            let bytes = header_bytes();
            move || Headers::read(black_box(bytes))
        }),
        Case::new("headers/write", |_| {
            let headers = Headers::read(header_bytes());
            move || black_box(&headers).write()
        }),
        Case::new("headers/send time", |_| {
            let headers = Headers::read(header_bytes());
            move || black_box(&headers).send_time_ns()
        }),
    ]
}

/// The control message of a call with a call-home stream and metadata.
pub(super) fn control_bytes() -> &'static [u8] {
    fixed(control_message().write().expect("short"))
}

/// One request frame with headers, a control message, and a body of `len` bytes.
pub(super) fn request(len: usize) -> &'static [u8] {
    let payload = emitted(&TwoPart::new(control_bytes(), fixed(body(len))));
    emitted(&Request { path: PATH.as_bytes(), headers: header_bytes(), payload })
}

/// The frame's bytes.
pub(super) fn emitted<'a>(frame: &impl Format<'a>) -> &'static [u8] {
    let mut out = vec![0; frame.emitted_len()];
    frame.emit(&mut out).expect("the buffer has the frame's length");
    fixed(out)
}

fn writes(frame: impl Format<'static>) -> impl FnMut() -> usize {
    let mut out = vec![0; frame.emitted_len()];
    move || black_box(&frame).emit(black_box(&mut out)).expect("the buffer has the frame's length")
}

fn control_message() -> Control {
    Control {
        id: ID.into(),
        request_type: RequestType::SingleIn,
        response_type: ResponseType::ManyOut,
        payload_codec: Codec::Msgpack,
        connection_info: ConnectionInfo::new(&call_home()).expect("short"),
        metadata: BTreeMap::from([("tenant".into(), "blue".into())]),
        frontend_send_ts_ns: Some(1_767_225_600_000_000_000),
        request_stream_connection_info: None,
    }
}

fn call_home() -> CallHome {
    CallHome {
        address: "10.0.0.7:41233".into(),
        subject: "e2a7a1a6-9f0d-4be2-8e10-35fd2a3a2f6e".into(),
        context: ID.into(),
        stream_type: StreamType::Response,
    }
}

fn header_bytes() -> &'static [u8] {
    let mut headers = Headers::new();
    headers.push("request-id", ID);
    headers.push("x-frontend-send-ts-ns", "1767225600000000000");
    headers.push("x-endpoint-path", PATH);
    headers.push("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    fixed(headers.write().expect("short"))
}
