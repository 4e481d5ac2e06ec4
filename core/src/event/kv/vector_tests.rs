//! All vectors: batches of every release, read and written again, and the frames of every framing.

use alloc::string::String;
use alloc::vec::Vec;
use std::vec;

use bytes::Bytes;
use serde_json::Value;

use crate::event::kv::batch::{Batch, EventError};
use crate::event::kv::event::{Event, Stored, Tokens};
use crate::event::kv::frames::{self, Answer, FrameError, Live};
use crate::event::kv::limits::Limits;
use crate::event::kv::write::{self, Form, Hashes, Layout, Style};
use crate::wire::msgpack;
use crate::wire::parse::ErrorKind;

macro_rules! vectors {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_bytes!(concat!("../../../tests/vectors/kv-events/", $name)).as_slice())),+]
    };
}

/// Every batch there is.
const BATCHES: [(&str, &[u8]); 21] = vectors![
    "a01-vllm-0.9.0.bin",
    "a02-vllm-0.9.1.bin",
    "a03-vllm-0.10.2.bin",
    "a04-vllm-0.14.bin",
    "a05-vllm-0.17.bin",
    "a06-vllm-0.20.bin",
    "a07-vllm-0.22.bin",
    "a08-sglang-0.5.9.bin",
    "a09-sglang-0.5.18-salt.bin",
    "a10-array-from-the-future.bin",
    "m01-vllm-0.24.bin",
    "m02-vllm-0.33-wide-header.bin",
    "m03-vllm-0.30-all-fields.bin",
    "m04-vllm-0.33-all-fields.bin",
    "m05-vllm-bytes-hashes.bin",
    "m06-vllm-hash-only-offload.bin",
    "m07-vllm-sparse-group.bin",
    "m08-sglang-0.5.20.bin",
    "m09-sglang-bigram.bin",
    "m10-map-from-the-future.bin",
    "m11-empty-batch.bin",
];

const FRAMES: [(&str, &[u8]); 9] = vectors![
    "f01-live.frames",
    "f02-live-empty-topic.frames",
    "f03-replay-request.frames",
    "f04-replay-answer-new.frames",
    "f05-replay-answer-new-empty-topic.frames",
    "f06-replay-answer-old.frames",
    "f07-replay-end-new.frames",
    "f08-replay-end-old.frames",
    "f09-replay-request-no-delimiter.frames",
];

fn batch(name: &str) -> &'static [u8] {
    BATCHES.iter().find(|(other, _)| other.starts_with(name)).unwrap().1
}

fn read(bytes: &[u8]) -> (f64, Option<u32>, Vec<Result<Event, EventError>>) {
    let batch = Batch::read(bytes, &Limits::DEFAULT).unwrap();
    (batch.ts, batch.rank, batch.collect())
}

/// The events of a batch in which all but those of unknown types can be read.
fn known(bytes: &[u8]) -> Vec<Event> {
    let events = read(bytes).2.into_iter();
    events.filter(|event| !matches!(event, Err(EventError::Unknown(_)))).map(Result::unwrap).collect()
}

fn written(bytes: &[u8], form: Form) -> Vec<u8> {
    let (ts, rank, _) = read(bytes);
    let mut out = Vec::new();
    write::batch(ts, rank.unwrap_or(0), &known(bytes), Style { form, hashes: Hashes::Integers }, &mut out).unwrap();
    out
}

fn message(name: &str) -> Vec<Bytes> {
    let (_, mut rest) = *FRAMES.iter().find(|(other, _)| other.starts_with(name)).unwrap();
    let count = rest[0];
    rest = &rest[1..];
    let mut frames = Vec::new();
    for _ in 0..count {
        let (len, behind) = rest.split_at(4);
        let (frame, behind) = behind.split_at(u32::from_be_bytes(len.try_into().unwrap()) as usize);
        frames.push(Bytes::copy_from_slice(frame));
        rest = behind;
    }
    assert!(rest.is_empty(), "{name}");
    frames
}

/// A hash of `expected.json` as 64 bits.
fn hash(value: &Value) -> u64 {
    match value {
        Value::Object(bytes) => {
            let hex = bytes["bytes"].as_str().unwrap();
            u64::from_str_radix(&hex[hex.len() - 16..], 16).unwrap()
        }
        number => number.as_u64().unwrap_or_else(|| number.as_i64().unwrap().cast_unsigned()),
    }
}

/// The field of an event of `expected.json`, in either encoding.
fn field<'a>(event: &'a Value, at: usize, name: &str) -> &'a Value {
    event.get(at).or_else(|| event.get(name)).unwrap_or(&Value::Null)
}

fn compare(stored: &Stored, expected: &Value) {
    let hashes: Vec<u64> = field(expected, 1, "block_hashes").as_array().unwrap().iter().map(hash).collect();
    assert_eq!(stored.block_hashes, hashes);
    let parent = field(expected, 2, "parent_block_hash");
    assert_eq!(stored.parent_block_hash, (!parent.is_null()).then(|| hash(parent)));
    let tokens = field(expected, 3, "token_ids");
    match &stored.token_ids {
        Tokens::Plain(plain) => assert_eq!(serde_json::to_value(plain).unwrap(), *tokens),
        Tokens::Pairs(pairs) => assert_eq!(serde_json::to_value(pairs).unwrap(), *tokens),
        Tokens::Other { .. } => panic!("all of the vectors are numbers"),
    }
    assert_eq!(Value::from(stored.block_size), *field(expected, 4, "block_size"));
    let name = field(expected, 7, "lora_name");
    assert_eq!(stored.lora_name.as_deref(), name.as_str());
    let salt = if name.is_object() { &name["cache_salt"] } else { field(expected, 14, "cache_salt") };
    assert_eq!(stored.cache_salt.as_deref(), salt.as_str());
    for (at, key, text) in [
        (6, "medium", &stored.medium),
        (10, "kv_cache_spec_kind", &stored.kv_cache_spec_kind),
        (12, "locality", &stored.locality),
        (99, "ownership", &stored.ownership),
        (99, "session_id", &stored.session_id),
    ] {
        assert_eq!(text.as_deref(), field(expected, at, key).as_str(), "{key}");
    }
    for (at, key, number) in
        [(9, "group_idx", stored.group_idx), (11, "kv_cache_spec_sliding_window", stored.kv_cache_spec_sliding_window)]
    {
        assert_eq!(number.map(u64::from), field(expected, at, key).as_u64(), "{key}");
    }
    for (at, key, raw) in
        [(8, "extra_keys", &stored.extra_keys), (99, "lookahead_token_ids", &stored.lookahead_token_ids)]
    {
        let mut text = String::new();
        let json = raw.as_ref().map(|raw| msgpack::write_json(raw, &mut text).unwrap().unwrap());
        let value = json.map_or(Value::Null, |_| serde_json::from_str(&text).unwrap());
        assert_eq!(value, *field(expected, at, key), "{key}");
    }
}

#[test]
fn every_vector_reads_as_what_was_written() {
    let expected: Value =
        serde_json::from_slice(include_bytes!("../../../tests/vectors/kv-events/expected.json")).unwrap();
    for (name, bytes) in BATCHES {
        let expected = &expected[name.trim_end_matches(".bin")];
        let (ts, rank, events) = read(bytes);
        assert_eq!((Value::from(ts), rank.map(u64::from)), (expected[0].clone(), expected[2].as_u64()), "{name}");
        let wanted = expected[1].as_array().unwrap();
        assert_eq!(events.len(), wanted.len(), "{name}");
        for (event, wanted) in events.iter().zip(wanted) {
            match (field(wanted, 0, "type").as_str().unwrap(), event) {
                ("BlockStored", Ok(Event::Stored(stored))) => compare(stored, wanted),
                ("BlockRemoved", Ok(Event::Removed(removed))) => {
                    let hashes = field(wanted, 1, "block_hashes").as_array().unwrap().iter().map(hash);
                    assert!(removed.block_hashes.iter().copied().eq(hashes), "{name}");
                    assert_eq!(removed.medium.as_deref(), field(wanted, 2, "medium").as_str(), "{name}");
                    assert_eq!(removed.group_idx.map(u64::from), field(wanted, 3, "group_idx").as_u64(), "{name}");
                }
                ("AllBlocksCleared", Ok(Event::Cleared)) => {}
                (tag, Err(EventError::Unknown(found))) => assert_eq!(tag, found, "{name}"),
                (tag, event) => panic!("{name}: {tag} read as {event:?}"),
            }
        }
    }
}

#[test]
fn batches_are_written_byte_by_byte_as_the_releases_do() {
    let layouts = Layout::ALL.map(Form::Array);
    for (name, form) in ["a02", "a03", "a04", "a05", "a06", "a07"].into_iter().zip(layouts) {
        assert_eq!(written(batch(name), form), batch(name), "{name}");
    }
    for name in ["m01", "m03", "m04", "m06", "m07", "m11"] {
        assert_eq!(written(batch(name), Form::Map), batch(name), "{name}");
    }
}

#[test]
fn every_vector_means_the_same_after_it_was_written_again() {
    for (name, bytes) in BATCHES {
        let again = written(bytes, Form::Map);
        assert_eq!(known(&again), known(bytes), "{name}");
        assert_eq!(written(&again, Form::Map), again, "{name}");
    }
    let mut out = Vec::new();
    let style = Style { form: Form::Map, hashes: Hashes::Bytes };
    write::batch(1.5, 3, &known(batch("m05")), style, &mut out).unwrap();
    assert_eq!(known(&out), known(batch("m05")), "bytes read as the numbers they stand for");
}

#[test]
fn a_header_that_is_wider_than_it_need_be_is_read() {
    assert_eq!(known(batch("m02")), known(batch("m01")));
}

#[test]
fn what_newer_engines_add_is_skipped_and_the_rest_applies() {
    let events = read(batch("m10")).2;
    assert!(matches!(&events[..], [Ok(Event::Stored(_)), Err(EventError::Unknown(tag)), Ok(Event::Removed(_))]
        if tag == "TierBlocksCleared"));
    let Ok(Event::Stored(longer)) = &read(batch("a10")).2[0] else { panic!("a store") };
    assert_eq!((longer.locality.as_deref(), &longer.ownership), (Some("LOCAL"), &None), "no text, no owner");
}

#[test]
fn a_broken_event_spoils_itself_only() {
    // A store whose tokens are a text, a remove, a value that is no event, and a clear.
    let good = |out: &mut Vec<u8>| out.extend(b"\x92\xacBlockRemoved\x91\x05");
    let mut bytes = b"\x93\xcb\x41\xd9\x54\xfc\x40\x20\x00\x00\x94".to_vec();
    bytes.extend(b"\x95\xabBlockStored\x91\x01\xc0\xa1x\x04");
    good(&mut bytes);
    bytes.push(7);
    bytes.extend(b"\x91\xb0AllBlocksCleared\x02");
    let (_, rank, events) = read(&bytes);
    assert_eq!(rank, Some(2));
    let broken = |event: &Result<Event, EventError>| match event {
        Err(EventError::Broken(error)) => (error.kind, bytes[error.offset]),
        other => panic!("{other:?}"),
    };
    assert_eq!(broken(&events[0]), (ErrorKind::BadMsgpack, 0xA1), "the error says where");
    assert!(matches!(&events[1], Ok(Event::Removed(removed)) if removed.block_hashes == [5]));
    assert_eq!(broken(&events[2]), (ErrorKind::BadMsgpack, 7));
    assert_eq!(events[3], Ok(Event::Cleared));
}

#[test]
fn tokens_of_any_kind_are_read_and_written_again() {
    let store =
        |tokens: Tokens| Event::Stored(Stored { block_hashes: vec![1], token_ids: tokens, ..Stored::default() });
    let texts = Tokens::Other { len: 2, raw: b"\x92\x05\xa2mm".to_vec() };
    for tokens in [Tokens::Pairs(vec![[1, 70_000], [3, 4]]), Tokens::Plain(vec![u32::MAX]), texts] {
        let mut out = Vec::new();
        write::batch(0.0, 0, &[store(tokens.clone())], Style::default(), &mut out).unwrap();
        assert_eq!(known(&out), [store(tokens)]);
    }
    let mut out = Vec::new();
    let twice = store(Tokens::Other { len: 1, raw: b"\x91\x01\x02".to_vec() });
    let error = write::batch(0.0, 0, &[twice], Style::default(), &mut out).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Trailing, "a value that is two would shift all behind it");
}

#[test]
fn sizes_are_checked_before_anything_is_allocated() {
    let limits = Limits { payload: 300, events: 2, hashes: 1, tokens: 7, text: 2, raw: 1 };
    let refused = |bytes: &[u8], limits: &Limits| match Batch::read(bytes, limits) {
        Err(error) => error.kind,
        Ok(batch) => match batch.collect::<Result<Vec<_>, _>>() {
            Err(EventError::Broken(error)) => error.kind,
            other => panic!("{other:?}"),
        },
    };
    let too_large = |declared, limit| ErrorKind::TooLarge { declared, limit };
    let large = Limits::DEFAULT;
    assert_eq!(refused(batch("m04"), &limits), too_large(345, 300));
    assert_eq!(refused(batch("m01"), &limits), too_large(3, 2));
    assert_eq!(refused(batch("m01"), &Limits { hashes: 1, ..large }), too_large(2, 1));
    assert_eq!(refused(batch("m01"), &Limits { tokens: 7, ..large }), too_large(8, 7));
    assert_eq!(refused(batch("m01"), &Limits { text: 2, ..large }), too_large(3, 2));
    assert_eq!(refused(batch("m03"), &Limits { raw: 1, ..large }), too_large(28, 1));
    // Four billion hashes declared, none there.
    let bytes = b"\x93\xcb\x41\xd9\x54\xfc\x40\x20\x00\x00\x91\x92\xacBlockRemoved\xdd\xff\xff\xff\xff\x00";
    assert_eq!(refused(bytes, &large), ErrorKind::Truncated);
}

#[test]
fn live_messages_and_requests_are_those_of_the_engines() {
    for (name, topic) in [("f01", "kv@pod-1@model-a"), ("f02", "")] {
        let frames = message(name);
        let live = Live::read(&frames).unwrap();
        if name == "f02" {
            assert_eq!((live.topic.len(), live.seq), (topic.len(), 258));
        }
        assert_eq!(live.payload, batch("m01"));
        assert_eq!(live.frames().to_vec(), frames);
    }
    let asked = message("f03");
    assert_eq!(asked, frames::request(frames::read_request(&asked).unwrap()));
    assert_eq!(frames::read_request(&message("f09")), Err(FrameError::Count(1)), "no engine answers that");
    let start = |bytes: &'static [u8]| frames::read_request(&[Bytes::new(), Bytes::from_static(bytes)]);
    assert_eq!(start(&[1, 2]), Ok(258));
    assert_eq!(start(&[]), Ok(0));
    assert_eq!(start(&[0, 0, 0, 0, 0, 0, 0, 0, 7]), Ok(7));
    assert_eq!(start(&[1, 0, 0, 0, 0, 0, 0, 0, 7]), Ok(u64::MAX), "the future");
    for bad in [&frames_of(2)[..], &frames_of(4)[..]] {
        assert_eq!(Live::read(bad), Err(FrameError::Count(bad.len())));
    }
    let reserved = [Bytes::new(), Bytes::copy_from_slice(&[0xFF; 8]), Bytes::new()];
    assert_eq!(Live::read(&reserved), Err(FrameError::Reserved));
}

fn frames_of(count: usize) -> Vec<Bytes> {
    vec![Bytes::new(); count]
}

#[test]
fn answers_of_both_framings_are_read_and_the_newer_one_is_written() {
    let answer = |name: &str| Answer::read(&message(name)).unwrap();
    let Answer::Batch { seq, payload } = answer("f04") else { panic!("a batch") };
    assert_eq!(payload, batch("m01"));
    for name in ["f05", "f06"] {
        assert_eq!(answer(name), Answer::Batch { seq, payload: payload.clone() }, "{name}");
    }
    let topic = message("f04")[1].clone();
    assert_eq!(answer("f04").frames(&topic).to_vec(), message("f04"));
    assert_eq!(answer("f05").frames(&Bytes::new()).to_vec(), message("f05"));
    assert_eq!((answer("f07"), answer("f08")), (Answer::End, Answer::End));
    assert_eq!(answer("f07").frames(&topic).to_vec(), message("f07"));
    for count in [0, 1, 2, 5] {
        assert_eq!(Answer::read(&frames_of(count)), Err(FrameError::Count(count)), "{count}");
    }
    assert_eq!(Answer::read(&frames_of(3)), Err(FrameError::Number(0)));
    let full = [b"x".as_slice(), &[0; 8], b""].map(Bytes::from_static);
    assert_eq!(Answer::read(&full), Err(FrameError::Delimiter));
}
