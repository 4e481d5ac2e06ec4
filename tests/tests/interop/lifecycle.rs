//! Scenarios in which a process dies, stops, drains or is replaced: each has peers of its own.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::pair::Pair;
use crate::place::{ENDPOINT, Kind, Place};
use crate::process::Peer;
use crate::{cancel, load};

/// A scenario's name and what runs it.
pub(crate) type Lifecycle = (&'static str, fn(Kind, Kind, &'static str));

/// All of them.
pub(crate) const ALL: &[Lifecycle] = &[
    ("worker_killed_mid_stream", worker_killed_mid_stream),
    ("worker_that_freezes_mid_stream", worker_that_freezes_mid_stream),
    ("graceful_drain", graceful_drain),
    ("unknown_endpoint", unknown_endpoint),
    ("overload", overload),
    ("mixed_load_without_a_leak", load::seconds_of_mixed_load),
    ("cancelled_before_the_ack", cancel::before_the_ack),
    ("cancelled_before_the_prologue", cancel::before_the_prologue),
];

fn hang(name: &str) -> Value {
    json!({"call": name, "context": name, "request": {"n": 5, "hang_at": 2}})
}

/// Two items are read and the handler is silent.
fn two_items(pair: &mut Pair, name: &str) {
    pair.caller.tell(&hang(name));
    pair.worker.wait_for("event", "hanging");
    for i in 0..2 {
        let line = pair.caller.wait("item", |line| line["call"] == json!(name) && line.get("item").is_some());
        assert_eq!(line["item"]["i"], i, "{line}");
    }
}

/// A caller that reads nothing for longer than it takes to fill everything in between: the worker waits, and nothing is lost.
pub(crate) fn a_reader_that_pauses(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::new(caller, worker, codec);
    // More than a caller of ours takes unread, its socket and the worker's queue together.
    let items = 112;
    pair.caller.tell(&json!({
        "call": "pauses", "request": {"mode": "big", "n": items, "size": 1 << 20},
        "repeat": 1, "rest_ms": 5000, "timeout": 60,
    }));
    let (_, ending) = pair.ending("pauses");
    assert_eq!((&ending["failed"], &ending["items"]), (&json!(0), &json!(items)), "{ending}");
}

fn worker_killed_mid_stream(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::new(caller, worker, codec);
    two_items(&mut pair, "killed");
    pair.worker.signal(Signal::KILL);
    let (_, ending) = pair.ending("killed");
    assert_eq!(ending["after"], 2, "{ending}");
    let said = ending["error"].as_str().unwrap_or_default();
    if caller.is_ours() {
        assert_eq!(ending["class"], "Unavailable", "{ending}");
    } else {
        assert_eq!(said, "Unavailable: Stream ended before generation completed", "{ending}");
    }
}

/// Nobody hears of a process that freezes: only a bound ends the call. A Dynamo caller has one if it is asked for.
fn worker_that_freezes_mid_stream(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::with(caller, worker, codec, &[("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", "2")]);
    two_items(&mut pair, "frozen");
    pair.worker.signal(Signal::STOP);
    let (_, ending) = pair.ending("frozen");
    assert_eq!(ending["after"], 2, "{ending}");
    if caller.is_ours() {
        // Ours hears nothing from the peer, or misses the next item, whichever bound is shorter.
        let class = ending["class"].as_str().unwrap_or_default();
        assert!(["BackendProtocol", "DeadlineExceeded"].contains(&class), "{ending}");
    } else {
        let said = ending["error"].as_str().unwrap_or_default();
        assert!(said.contains("inactivity timeout"), "{ending}");
    }
    pair.worker.signal(Signal::CONT);
}

/// A worker that is asked to end finishes what it has begun, and leaves.
fn graceful_drain(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::new(caller, worker, codec);
    let request = json!({"n": 20, "delay_ms": 50});
    pair.caller.tell(&json!({"call": "drained", "request": request}));
    pair.caller.wait("first item", |line| line["item"]["i"] == 0);
    pair.worker.signal(Signal::TERM);
    let (items, ending) = pair.ending("drained");
    assert_eq!((items.len(), &ending["end"]), (19, &json!(20)), "{ending}");
    let out = pair.worker.wait_for("event", "out");
    assert_ne!(out["clean"], false, "{out}");
    assert_eq!(pair.worker.end(), Some(0));
}

/// A record that leads to a worker which does not serve that endpoint.
fn unknown_endpoint(caller: Kind, worker: Kind, codec: &'static str) {
    // A caller that has seen the instance proves that its record is there.
    let pair = Pair::new(caller, worker, codec);
    let (place, gone) = (&pair.place, "interop.backend.gone");
    forge(&place.discovery());
    let mut calling = place.caller(caller, gone, 1, &[]);
    calling.tell(&json!({"call": "lost", "request": {"n": 1}}));
    let ending = calling.wait("end of the call", |line| line["call"] == "lost" && line.get("item").is_none());
    if caller.is_ours() {
        assert_eq!(ending["class"], "Unavailable", "{ending}");
    } else {
        let said = ending["error"].as_str().unwrap_or_default();
        assert!(said.contains("Server unavailable: unknown endpoint"), "{ending}");
    }
}

/// Copies the record of `generate` to the name `gone`, path included.
fn forge(discovery: &Path) {
    let record = one_file(discovery).expect("the worker's record");
    let forged = PathBuf::from(record.to_string_lossy().replace("generate", "gone"));
    let text = std::fs::read_to_string(&record).unwrap().replace("generate", "gone");
    std::fs::create_dir_all(forged.parent().unwrap()).unwrap();
    std::fs::write(forged, text).unwrap();
}

fn one_file(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()? {
        let path = entry.ok()?.path();
        let found = if path.is_dir() { one_file(&path) } else { Some(path) };
        let named = |path: &PathBuf| path.to_string_lossy().contains("generate");
        if found.as_ref().is_some_and(named) {
            return found;
        }
    }
    None
}

/// With room for a few calls, many at once: some are refused, every one of them by name, and the others are served.
pub(crate) fn overload(caller: Kind, worker: Kind, codec: &'static str) {
    let limits = [("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "1")];
    let mut pair = Pair::with(caller, worker, codec, &limits);
    let request = json!({"n": 2, "delay_ms": 20});
    pair.caller.tell(&json!({"call": "crowd", "request": request, "repeat": 100, "parallel": 100}));
    let (_, ending) = pair.ending("crowd");
    let (failed, items) = (ending["failed"].as_u64().unwrap_or(0), ending["items"].as_u64());
    assert!((1..100).contains(&failed), "{ending}");
    assert_eq!(items, Some((100 - failed) * 2), "{ending}");
    for error in ending["errors"].as_array().into_iter().flatten() {
        // A Dynamo caller that has just been refused says so of itself, in other words (1.5 and 1.6 differ).
        let said = error.to_string().to_lowercase();
        let words = ["overload", "capacityexhausted", "resourceexhausted"];
        assert!(words.iter().any(|word| said.contains(word)), "{ending}");
    }
}

fn merged(left: &Value, right: &Value) -> Value {
    let parts = [left, right].into_iter().filter_map(Value::as_object);
    Value::Object(parts.flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Items of a request come back one by one while the request is still open, and its end ends the answer.
pub(crate) fn bidirectional_items(caller: Kind, worker: Kind, codec: &'static str) {
    bidirectional_with(caller, worker, codec, &[]);
}

/// The same with more environment for both.
pub(crate) fn bidirectional_with(caller: Kind, worker: Kind, codec: &'static str, env: &[(&str, &str)]) {
    let place = Place::new(codec);
    let _worker = place.bidirectional(worker, ENDPOINT, env);
    let mut calling = place.caller(caller, ENDPOINT, 1, env);
    for items in [vec![], vec![json!({"a": 1})], (0..500).map(|i| json!({ "i": i })).collect::<Vec<_>>()] {
        let call = format!("items-{}", items.len());
        calling.tell(&json!({"call": call, "items": items}));
        let mut wanted: Vec<_> = items.iter().enumerate().map(|(k, item)| json!({"k": k, "item": item})).collect();
        wanted.push(json!({"items": items.len()}));
        for wanted in wanted {
            let line = calling.wait("item", |line| line["call"] == json!(call));
            assert_eq!(line["item"], wanted, "{line}");
        }
        let ending = calling.wait("end", |line| line["call"] == json!(call));
        assert_eq!(ending["end"], json!(items.len() + 1), "{ending}");
    }
}

/// Three workers of one kind are replaced by three of another under a running caller, which loses no call. A
/// Dynamo caller gives up a call whose stream is not there yet when its worker leaves discovery: that one it makes again.
pub(crate) fn rolling_replacement(caller: Kind, old: Kind, new: Kind, codec: &'static str) {
    let place = Place::new(codec);
    let mut olds: Vec<_> = (0..3).map(|_| place.worker(old, ENDPOINT, &[])).collect();
    let mut calling = place.caller(caller, ENDPOINT, 3, &[]);
    let request = json!({"n": 5, "delay_ms": 5});
    let mut part = 0;
    let mut lanes = |calling: &mut Peer| {
        part += 1;
        let call = format!("part-{part}");
        let load = json!({"repeat": 200, "parallel": 8, "pause_ms": 5, "retry": true});
        calling.tell(&merged(&json!({"call": call, "request": request}), &load));
        call
    };
    let mut calls = vec![lanes(&mut calling)];
    let mut news = Vec::new();
    for old in &mut olds {
        news.push(place.worker(new, ENDPOINT, &[]));
        calls.push(lanes(&mut calling));
        old.signal(Signal::TERM);
        old.wait_for("event", "out");
        assert_eq!(old.end(), Some(0));
    }
    calls.push(lanes(&mut calling));
    for call in calls {
        let ending = calling.wait("summary", |line| line["call"] == json!(call));
        assert_eq!((&ending["failed"], &ending["items"]), (&json!(0), &json!(1000)), "{ending}");
    }
    // The last part was served by the new ones.
    assert!(news.iter_mut().any(|new| new.wait_for("event", "request").is_object()));
}

/// Answers over QUIC are Dynamo's own: ours says so to a caller that wants them, and tells what a worker set to them says.
pub(crate) fn answers_over_quic_are_refused(caller: Kind, worker: Kind, codec: &'static str) {
    let quic: &[(&str, &str)] = &[("DYN_RESPONSE_PLANE", "quic")];
    let none: &[(&str, &str)] = &[];
    let (calls_with, serves_with) = if caller.is_ours() { (none, quic) } else { (quic, none) };
    let place = Place::new(codec);
    let _worker = place.worker(worker, ENDPOINT, serves_with);
    let mut calling = place.caller(caller, ENDPOINT, 1, calls_with);
    calling.tell(&json!({"call": "quic", "request": {"n": 1}}));
    let ending = calling.wait("end of the call", |line| line["call"] == "quic" && line.get("item").is_none());
    let said = ending["error"].as_str().unwrap_or_default().to_lowercase();
    let names_it = if caller.is_ours() { "response plane mismatch" } else { "quic are not supported here" };
    assert!(said.contains(names_it), "{ending}");
}
