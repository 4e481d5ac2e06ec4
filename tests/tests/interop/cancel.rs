//! Calls that are cancelled before their worker has said anything. Later phases are scenarios of the table.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::pair::Pair;
use crate::place::Kind;

/// The ways to cancel that a caller has.
fn ways(caller: Kind) -> &'static [&'static str] {
    if caller.is_ours() { &["stop", "drop", "kill"] } else { &["stop", "drop"] }
}

/// The worker is frozen, so it can have acked nothing. Once it goes on, the next call on the same connection finds its own
/// ack, and a handler that was begun for nobody has been told.
pub(crate) fn before_the_ack(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::new(caller, worker, codec);
    served(&mut pair, "warm");
    for how in ways(caller) {
        let name = format!("{how}-before-the-ack");
        pair.worker.signal(Signal::STOP);
        pair.caller.tell(&json!({"call": name, "context": name, "request": {"n": 1000, "delay_ms": 10}}));
        pair.caller.tell(&json!({ *how: name }));
        if *how != "stop" {
            // Nobody waits for a worker to leave it.
            let (items, ending) = pair.ending(&name);
            assert!(items.is_empty() && is_cancelled(&ending), "{ending}");
        }
        pair.worker.signal(Signal::CONT);
        if *how == "stop" {
            let (items, ending) = pair.ending(&name);
            assert!(items.len() < 1000 && is_cancelled(&ending), "{ending}");
        }
        served(&mut pair, &format!("after-{how}"));
        handler_was_told(&mut pair, &name);
    }
}

/// The worker has acked the call and has no stream for it yet: a Dynamo worker because its handler is still being called,
/// ours because another call is in front.
pub(crate) fn before_the_prologue(caller: Kind, worker: Kind, codec: &'static str) {
    let limits = [("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "16")];
    let mut pair = Pair::with(caller, worker, codec, if worker.is_ours() { &limits } else { &[] });
    for how in ways(caller) {
        let (name, front) = (format!("{how}-before-the-prologue"), format!("in-front-of-{how}"));
        let request = json!({"n": 1000, "delay_ms": 10, "start_ms": 500});
        let cancelled = json!({"call": name, "context": name, "request": request});
        if worker.is_ours() {
            pair.caller.tell(&json!({"call": front, "context": front, "request": {"n": 1, "hang_at": 0}}));
            pair.worker.wait_for("event", "hanging");
            pair.caller.tell(&cancelled);
        } else {
            pair.caller.tell(&cancelled);
            pair.worker.wait_for("event", "starting");
        }
        pair.caller.tell(&json!({ *how: name }));
        let mut ending = None;
        if *how != "stop" {
            ending = Some(pair.ending(&name));
        }
        if worker.is_ours() {
            pair.caller.tell(&json!({ "stop": front }));
            pair.ending(&front);
        }
        let (items, ending) = ending.unwrap_or_else(|| pair.ending(&name));
        assert!(items.len() < 1000 && is_cancelled(&ending), "{ending}");
        served(&mut pair, &format!("after-{how}"));
        handler_was_told(&mut pair, &name);
    }
}

/// Whether a call ended because its caller wanted it to, in any of the words for it.
fn is_cancelled(ending: &Value) -> bool {
    let said = ending["error"].as_str().unwrap_or_default().to_lowercase();
    ending.get("end").is_some() || ending.get("dropped").is_some() || said.contains("cancel") || said.contains("stop")
}

fn served(pair: &mut Pair, name: &str) {
    pair.caller.tell(&json!({"call": name, "context": name, "request": {"n": 2}}));
    let (items, ending) = pair.ending(name);
    assert_eq!((items.len(), &ending["end"]), (2, &json!(2)), "{ending}");
    pair.worker.wait("end of its handler", |line| line["event"] == "ended" && line["id"] == json!(name));
}

/// The handler of a call was cancelled, if it began at all.
fn handler_was_told(pair: &mut Pair, name: &str) {
    let begun = pair.worker.seen(|line| line["event"] == "request" && line["id"] == json!(name));
    if begun {
        let end = pair.worker.wait("end of the handler", |line| line["event"] == "ended" && line["id"] == json!(name));
        assert_eq!(end["stopped"], true, "{end}");
    }
}
