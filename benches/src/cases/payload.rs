//! Rows of what frames carry: envelopes, annotated items, typed failures, MessagePack.

use std::hint::black_box;

use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::annotated::Annotated;
use ringplane_core::wire::dynamo::envelope::Envelope;
use ringplane_core::wire::dynamo::failure_key::Key;
use ringplane_core::wire::dynamo::typed_failure::{Failure, Public};
use ringplane_core::wire::msgpack::{self, Sink, Token};
use ringplane_core::wire::parse::Reader;

use crate::cases::case::Case;
use crate::inputs::fixed;

const ITEM_JSON: &[u8] = br#"{"token_ids":[1532],"tokens":[" the"],"text":" the","finish_reason":null,"index":0}"#;

/// All of `wire::envelope`, `annotated`, `typed_failure` and `msgpack`.
pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        Codec::ALL.into_iter().flat_map(|codec| envelope(codec).into_iter().chain(annotated(codec))).collect();
    cases.extend(failures());
    cases.extend(tokens());
    cases
}

fn envelope(codec: Codec) -> [Case; 2] {
    let name = codec.name();
    [
        Case::new(format!("envelope/read {name}"), move |_| {
            let bytes = enveloped(codec);
            move || Envelope::read(codec, black_box(bytes))
        }),
        Case::new(format!("envelope/write {name}"), move |_| {
            let envelope = Envelope::item(item(codec));
            let mut out = vec![0; envelope.emitted_len(codec)];
            move || black_box(envelope).emit(codec, black_box(&mut out))
        }),
    ]
}

fn annotated(codec: Codec) -> [Case; 4] {
    let name = codec.name();
    [
        Case::new(format!("annotated/read data {name}"), move |_| {
            let bytes = fixed(Annotated::of(item(codec)).write(codec).expect("an item"));
            move || Annotated::read(codec, black_box(bytes))
        }),
        Case::new(format!("annotated/write data {name}"), move |_| {
            let annotated = Annotated::of(item(codec));
            move || black_box(&annotated).write(codec)
        }),
        Case::new(format!("annotated/read failure {name}"), move |_| {
            let bytes = fixed(Annotated::failed(failure()).write(codec).expect("a failure"));
            move || Annotated::read(codec, black_box(bytes))
        }),
        Case::new(format!("annotated/write failure {name}"), move |_| {
            let annotated = Annotated::failed(failure());
            move || black_box(&annotated).write(codec)
        }),
    ]
}

fn failures() -> [Case; 4] {
    [
        Case::new("failure/read json", |_| {
            let bytes = fixed(failure().to_json().expect("short"));
            move || Failure::from_json(black_box(bytes))
        }),
        Case::new("failure/write json", |_| {
            let failure = failure();
            move || black_box(&failure).to_json()
        }),
        Case::new("failure/read msgpack", |_| {
            let mut bytes = Vec::new();
            failure().put_msgpack(&mut bytes).expect("a vector takes any bytes");
            let bytes = fixed(bytes);
            move || Failure::from_msgpack(black_box(bytes))
        }),
        Case::new("failure/write msgpack", |_| {
            let failure = failure();
            let mut out = Vec::with_capacity(1024);
            move || {
                out.clear();
                black_box(&failure).put_msgpack(&mut out)
            }
        }),
    ]
}

fn tokens() -> [Case; 4] {
    [
        Case::new("msgpack/token", |_| || msgpack::token(&mut Reader::new(black_box(b"\xCE\x00\x01\x00\x00")))),
        Case::new("msgpack/skip a value", |_| {
            let bytes = item(Codec::Msgpack);
            move || msgpack::value(&mut Reader::new(black_box(bytes)))
        }),
        Case::new("msgpack/write as json", |_| {
            let bytes = item(Codec::Msgpack);
            let mut out = String::with_capacity(1024);
            move || {
                out.clear();
                msgpack::write_json(black_box(bytes), &mut out)
            }
        }),
        Case::new("msgpack/write tokens", |_| {
            let mut out = Vec::with_capacity(1024);
            move || {
                out.clear();
                put_item(black_box(&mut out));
                out.len()
            }
        }),
    ]
}

/// A failure with everything a failure can have.
pub(super) fn failure() -> Failure {
    let cause = Failure::new(Key::BackendDisconnected, "the engine's socket closed");
    Failure::new(Key::WorkerOverloaded, "worker at capacity: 64 running, 128 queued")
        .with_public(Public::RateLimit { limit: Some(64), remaining: Some(0) })
        .with_cause(cause)
}

fn enveloped(codec: Codec) -> &'static [u8] {
    let envelope = Envelope::item(item(codec));
    let mut out = vec![0; envelope.emitted_len(codec)];
    envelope.emit(codec, &mut out).expect("the buffer has the envelope's length");
    fixed(out)
}

/// One token of an answer, as an engine sends it.
fn item(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Json => ITEM_JSON,
        Codec::Msgpack => {
            let mut out = Vec::new();
            put_item(&mut out);
            fixed(out)
        }
    }
}

fn put_item(out: &mut Vec<u8>) {
    let tokens = [
        Token::Map(5),
        Token::Str(b"token_ids"),
        Token::Array(1),
        Token::Uint(1532),
        Token::Str(b"tokens"),
        Token::Array(1),
        Token::Str(b" the"),
        Token::Str(b"text"),
        Token::Str(b" the"),
        Token::Str(b"finish_reason"),
        Token::Nil,
        Token::Str(b"index"),
        Token::Uint(0),
    ];
    tokens.into_iter().try_for_each(|token| out.token(token)).expect("a vector takes any bytes");
}
