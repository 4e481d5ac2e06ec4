//! Failures read, built and written in both forms, and their bounds.

use alloc::string::String;
use alloc::vec::Vec;

use crate::wire::class::Class;
use crate::wire::dynamo::control::Prologue;
use crate::wire::dynamo::failure::{Backend, Type};
use crate::wire::dynamo::failure_key::Key;
use crate::wire::dynamo::two_part::TwoPart;
use crate::wire::dynamo::typed_failure::{Failure, MAX_CAUSES, MAX_TEXT, Public, cut};
use crate::wire::parse::{Format as _, Limits, Parse};

const WIRE: &str = concat!(
    r#"{"error_type":{"Backend":"InvalidArgument"},"class":"InvalidRequest","reason":"backend.invalid_argument","#,
    r#""message":"ValueError: no","diagnostic":"ValueError: no","public":{"type":"size_limit","limit":9,"#,
    r#""actual":null},"caused_by":{"error_type":"CannotConnect","class":"Unavailable","#,
    r#""reason":"transport.cannot_connect","message":""}}"#
);

fn sample() -> Failure {
    Failure::of(Type::Backend(Backend::InvalidArgument), "ValueError: no")
        .with_public(Public::SizeLimit { limit: 9, actual: None })
        .with_cause(Failure::of(Type::CannotConnect, ""))
}

fn read(json: &str) -> Failure {
    Failure::from_json(json.as_bytes()).unwrap()
}

#[test]
fn a_failure_comes_apart_into_its_fields() {
    let failure = read(WIRE);
    assert_eq!(failure.kind(), Type::Backend(Backend::InvalidArgument));
    assert_eq!((failure.class(), failure.key()), (Class::InvalidRequest, Key::BackendInvalidArgument));
    assert_eq!(failure.diagnostic(), Some("ValueError: no"));
    assert_eq!(failure.public(), Some(&Public::SizeLimit { limit: 9, actual: None }));
    assert_eq!(failure.caused_by().map(Failure::kind), Some(Type::CannotConnect));
    assert_eq!(std::format!("{failure}"), "InvalidRequest: ValueError: no");
    assert_eq!(std::format!("{}", failure.caused_by().unwrap()), "Unavailable: transport.cannot_connect");
}

#[test]
fn a_failure_is_built_from_its_fields_and_written_as_dynamo_writes_it() {
    assert_eq!(sample(), read(WIRE));
    assert_eq!(sample().to_json(), Ok(WIRE.as_bytes().to_vec()));
    let overload = read(&String::from_utf8(Failure::of(Type::WorkerOverloaded, "").to_json().unwrap()).unwrap());
    assert_eq!((overload.kind(), overload.key()), (Type::ResourceExhausted, Key::WorkerOverloaded));
}

#[test]
fn the_messagepack_form_says_the_same_as_the_json_form() {
    let publics = [
        Public::Message { message: "m".into() },
        Public::SizeLimit { limit: 9, actual: None },
        Public::ContextLength { limit: u64::MAX, actual: Some(3) },
        Public::RateLimit { limit: None, remaining: Some(0) },
    ];
    for failure in publics.map(|public| sample().with_public(public)) {
        let mut bytes = Vec::new();
        failure.put_msgpack(&mut bytes).unwrap();
        assert_eq!(Failure::from_msgpack(&bytes).as_ref(), Ok(&failure));
        assert_eq!(Failure::from_json(&failure.to_json().unwrap()), Ok(failure));
        for cut in 0..bytes.len() {
            assert!(Failure::from_msgpack(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn texts_and_causes_are_bounded() {
    let failure = read(&std::format!(r#"{{"message":"{}"}}"#, "ä".repeat(3000)));
    let diagnostic = failure.diagnostic().unwrap();
    assert!(diagnostic.len() <= MAX_TEXT && diagnostic.ends_with("ä...[truncated]"), "{}", diagnostic.len());
    assert_eq!(cut(&"x".repeat(MAX_TEXT)).len(), MAX_TEXT);
    assert_eq!(cut(&"x".repeat(MAX_TEXT + 1)).len(), MAX_TEXT);
    let deep = std::format!("{}{{}}{}", r#"{"caused_by":"#.repeat(100), "}".repeat(100));
    assert_eq!(read(&deep).chain().count(), 1 + MAX_CAUSES);
    let deeper = std::format!("{}{{}}{}", r#"{"caused_by":"#.repeat(200), "}".repeat(200));
    assert!(Failure::from_json(deeper.as_bytes()).is_err());
    let built =
        (0..50).fold(Failure::new(Key::Internal, "0"), |cause, _| Failure::new(Key::Internal, "").with_cause(cause));
    assert_eq!(built.chain().count(), 1 + MAX_CAUSES);
}

#[test]
fn missing_keys_have_defaults_and_older_spellings_are_understood() {
    let empty = read("{}");
    assert_eq!((empty.class(), empty.key(), empty.diagnostic()), (Class::Internal, Key::Unclassified, None));
    assert_eq!(read(r#"{"message":"a","diagnostic":"b"}"#).diagnostic(), Some("b"));
    let older = read(r#"{"error_type":"Disconnected","public_details":{"type":"rate_limit","limit":1,"remaining":2}}"#);
    assert_eq!((older.kind(), older.key()), (Type::Disconnected, Key::Disconnected));
    assert_eq!(older.public(), Some(&Public::RateLimit { limit: Some(1), remaining: Some(2) }));
    assert_eq!(read(r#"{"error_type":"Martian"}"#).key(), Key::Unclassified);
    assert_eq!(read(r#"{"error_type":{"Backend":"Martian"}}"#).key(), Key::Unclassified);
    assert_eq!(read(r#"{"class":"NotFound"}"#).key(), Key::NotFound);
    let disagree = read(r#"{"error_type":"Disconnected","class":"Conflict","reason":"request.conflict"}"#);
    assert_eq!(disagree.kind(), Type::Class(Class::Conflict));
}

#[test]
fn what_contradicts_itself_fails_closed() {
    let cases = [
        r#"{"class":"Martian","public":{"type":"message","message":"m"}}"#,
        r#"{"class":"NotFound","reason":"request.exploded","public":{"type":"message","message":"m"}}"#,
        r#"{"class":"NotFound","reason":"request.conflict","public":{"type":"message","message":"m"}}"#,
        r#"{"class":"NotFound","error_type":"Unknown","public":{"type":"message","message":"m"}}"#,
    ];
    for case in cases {
        let failure = read(case);
        assert_eq!((failure.class(), failure.key()), (Class::Internal, Key::InvalidError), "{case}");
        assert_eq!(failure.public(), None, "{case}");
    }
    assert!(Failure::from_json(b"1").is_err());
}

/// The header of the `at`-th frame of a recorded conversation.
fn frame(mut bytes: &[u8], at: usize) -> &[u8] {
    for _ in 0..at {
        let Ok(Parse::Complete { used, .. }) = TwoPart::parse(bytes, &Limits::default()) else { panic!() };
        bytes = &bytes[used..];
    }
    let Ok(Parse::Complete { value, .. }) = TwoPart::parse(bytes, &Limits::default()) else { panic!() };
    value.header
}

#[test]
fn the_rank_that_is_full_is_read_from_what_dynamo_1_7_writes_and_written_as_its_last_key() {
    let of_rank = include_bytes!("../../../tests/vectors/dynamo-1.7/rank-overload.home.bin");
    let of_worker = include_bytes!("../../../tests/vectors/dynamo-1.7/overload.home.bin");
    for (recorded, rank) in [(&of_rank[..], Some(0)), (&of_worker[..], None)] {
        let prologue = Prologue::read(frame(recorded, 1)).unwrap();
        let failure = prologue.typed_error.as_ref().unwrap();
        assert_eq!((failure.kind(), failure.key()), (Type::ResourceExhausted, Key::WorkerOverloaded));
        assert_eq!(failure.dp_rank(), rank);
        assert_eq!(prologue.write().unwrap(), frame(recorded, 1), "to the byte");
    }
    let failure = sample().with_dp_rank(7);
    let mut bytes = Vec::new();
    failure.put_msgpack(&mut bytes).unwrap();
    assert_eq!(Failure::from_msgpack(&bytes).as_ref(), Ok(&failure));
    assert!(bytes.ends_with(b"\xa7dp_rank\x07"));
    assert_eq!(Failure::from_json(&failure.to_json().unwrap()), Ok(failure));
}

#[test]
fn what_is_no_rank_is_ignored_at_every_depth_and_so_are_keys_nobody_knows() {
    let odd = [r#""x""#, "null", "-1", "0.5", "4294967296", "true", "[0]", r#"{"rank":{"of":[1,{}]}}"#];
    for value in odd {
        let inner = std::format!(r#""class":"Conflict","dp_rank":{value},"later":{{"a":[{value}]}}"#);
        let failure = read(&std::format!(r#"{{"class":"NotFound","dp_rank":{value},"caused_by":{{{inner}}}}}"#));
        assert_eq!((failure.key(), failure.dp_rank()), (Key::NotFound, None), "{value}");
        let cause = failure.caused_by().unwrap();
        assert_eq!((cause.key(), cause.dp_rank()), (Key::Conflict, None), "{value}");
    }
    let deep = read(r#"{"class":"NotFound","caused_by":{"class":"Conflict","dp_rank":4294967295}}"#);
    assert_eq!((deep.dp_rank(), deep.caused_by().unwrap().dp_rank()), (None, Some(u32::MAX)));
}

#[test]
fn class_and_reason_decide_where_the_older_name_is_unknown_and_it_does_where_they_are_missing() {
    let full = [
        ("error_type", r#""WorkerRankOverloaded""#),
        ("class", r#""CapacityExhausted""#),
        ("reason", r#""capacity.worker_overloaded""#),
        ("message", r#""m""#),
        ("diagnostic", r#""d""#),
        ("dp_rank", "3"),
    ];
    let without = |name: &str| {
        let kept = full.iter().filter(|(key, _)| *key != name).map(|(key, value)| std::format!(r#""{key}":{value}"#));
        read(&std::format!("{{{}}}", kept.collect::<Vec<_>>().join(",")))
    };
    let overloaded = (Class::CapacityExhausted, Key::WorkerOverloaded);
    for name in ["", "error_type", "message", "diagnostic", "dp_rank"] {
        let failure = without(name);
        assert_eq!((failure.class(), failure.key()), overloaded, "without {name}");
        assert_eq!(failure.dp_rank(), (name != "dp_rank").then_some(3), "without {name}");
    }
    assert_eq!(without("class").key(), Key::WorkerOverloaded);
    assert_eq!(without("reason").key(), Key::CapacityExhausted);
    // Dynamo 1.5 writes a name and a message, and nothing else.
    let older = |name: &str| read(&std::format!(r#"{{"error_type":{name},"message":"m"}}"#)).key();
    assert_eq!(older(r#""ResourceExhausted""#), Key::PoolExhausted);
    assert_eq!(older(r#""WorkerOverloaded""#), Key::WorkerOverloaded);
    assert_eq!(older(r#"{"Backend":"InvalidArgument"}"#), Key::BackendInvalidArgument);
    assert_eq!(older(r#""WorkerRankOverloaded""#), Key::Unclassified);
}
