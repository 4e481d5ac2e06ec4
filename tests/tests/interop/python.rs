//! The programs in Python that the README shows, as they are: each beside a peer of ours.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::json;

use crate::place::{Kind, Place};
use crate::process::Peer;
use crate::{DYNAMO, RING, TOKIO, trial, wheel};

/// What both of them name.
const WORDS: &str = "demo.backend.words";

/// All tests of them.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for ours in [RING, TOKIO] {
        let name = format!("{}_calls_dynamo::the_worker_of_the_readme", ours.name());
        trials.push(trial(name, &[DYNAMO, ours], move || the_worker(ours)));
        let name = format!("dynamo_calls_{}::the_caller_of_the_readme", ours.name());
        trials.push(trial(name, &[DYNAMO, ours], move || the_caller(ours)));
    }
    trials
}

/// A program among the examples, with what the README sets, and nothing but the loopback.
fn example(command: &mut Command, name: &str, place: &Place) -> Peer {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    command.arg(wheel::python(wheel::PINNED).unwrap()).arg(file).env("DYN_FILE_KV", place.discovery());
    command.env("DYN_TCP_RPC_HOST", "127.0.0.1").env("DYN_TCP_RESPONSE_STREAM_HOST", "lo");
    Peer::start(command.env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn the_worker(ours: Kind) {
    let place = Place::new("msgpack");
    let _worker = example(&mut Command::new("env"), "dynamo_worker.py", &place);
    let mut caller = place.caller(ours, WORDS, 1, &[]);
    caller.tell(&json!({"call": "words", "request": {"text": "one by one"}}));
    for word in ["one", "by", "one"] {
        let line = caller.wait("item", |line| line["call"] == "words");
        assert_eq!(line["item"], word, "{line}");
    }
    assert_eq!(caller.wait("end", |line| line["call"] == "words")["end"], 3);
}

/// Our worker counts for those who ask for nothing else; the program prints each item on a line.
fn the_caller(ours: Kind) {
    let place = Place::new("msgpack");
    let mut worker = place.worker(ours, WORDS, &[]);
    // What it prints are Python's values: `tr` makes JSON of them.
    let mut command = Command::new("sh");
    command.args(["-c", r#""$@" | tr "'" '"'"#, "sh"]);
    let mut caller = example(&mut command, "dynamo_caller.py", &place);
    for i in 0..5 {
        assert_eq!(caller.wait("item", |_| true), json!({ "i": i }));
    }
    worker.wait_for("event", "ended");
    assert_eq!(caller.end(), Some(0));
}
