//! The same table with requests by HTTP, which Dynamo 1.0 spoke: its wheel in both roles, and ours with ours.

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::json;

use crate::pair::Pair;
use crate::place::Kind;
use crate::table::{self, Outcome, Scenario};
use crate::{RING, TOKIO, trial};

/// The last version line with HTTP.
pub(crate) const VERSION: &str = "1.0.2";
const OLD: Kind = Kind::Dynamo(VERSION);

/// It knows JSON only; where ours meets ours, the record names the codec.
const PAIRS: [(Kind, Kind, &str); 7] = [
    (OLD, OLD, "json"),
    (OLD, RING, "json"),
    (OLD, TOKIO, "json"),
    (RING, OLD, "json"),
    (TOKIO, OLD, "json"),
    (RING, TOKIO, "msgpack"),
    (TOKIO, RING, "json"),
];

const ENV: [(&str, &str); 2] = [("DYN_REQUEST_PLANE", "http"), ("DYN_HTTP_RPC_HOST", "127.0.0.1")];

/// All tests by HTTP.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (caller, worker, codec) in PAIRS {
        let shared: Arc<Mutex<Option<Pair>>> = Arc::default();
        let prefix = format!("{}_calls_{}_by_http::{codec}", caller.name(), worker.name());
        for scenario in table::scenarios().into_iter().filter(|scenario| plays(caller, worker, scenario)) {
            let shared = Arc::clone(&shared);
            let name = format!("{prefix}::{}", scenario.name);
            trials.push(trial(name, &[caller, worker], move || {
                let mut pair = shared.lock().unwrap_or_else(PoisonError::into_inner);
                pair.get_or_insert_with(|| Pair::with(caller, worker, codec, &ENV)).play(&scenario);
            }));
        }
        if caller.is_ours() || worker.is_ours() {
            let run = move || graceful_drain(caller, worker, codec);
            trials.push(trial(format!("{prefix}::graceful_drain"), &[caller, worker], run));
        }
        if caller.is_ours() && worker.is_ours() {
            let run = move || overload(caller, worker, codec);
            trials.push(trial(format!("{prefix}::overload"), &[caller, worker], run));
            let run = move || a_worker_that_is_killed(caller, worker, codec);
            trials.push(trial(format!("{prefix}::a_worker_that_is_killed"), &[caller, worker], run));
        }
    }
    trials
}

/// Dynamo 1.0 has neither metadata nor classes of errors, and its worker refuses a body of 30 MiB with status 413.
fn plays(caller: Kind, worker: Kind, scenario: &Scenario) -> bool {
    let newer = matches!(scenario.outcome, Outcome::Context | Outcome::Failure { .. });
    let unknown = newer && (caller == OLD || worker == OLD);
    let refused = worker == OLD && scenario.name == "request_of_30_mib";
    let unasked = scenario.ours_only && !caller.is_ours();
    !(unknown || refused || unasked)
}

fn graceful_drain(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::with(caller, worker, codec, &ENV);
    pair.caller.tell(&json!({"call": "drained", "request": {"n": 20, "delay_ms": 50}}));
    pair.caller.wait("first item", |line| line["item"]["i"] == 0);
    pair.worker.signal(Signal::TERM);
    let (items, ending) = pair.ending("drained");
    assert_eq!((items.len(), &ending["end"]), (19, &json!(20)), "{ending}");
    let out = pair.worker.wait_for("event", "out");
    assert_ne!(out["clean"], false, "{out}");
}

/// The refusal is told in the response, in an ack's words.
fn overload(caller: Kind, worker: Kind, codec: &'static str) {
    let limits = [("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "0")];
    let mut pair = Pair::with(caller, worker, codec, &[&ENV[..], &limits].concat());
    pair.caller.tell(&json!({"call": "first", "request": {"n": 1, "hang_at": 0}}));
    pair.worker.wait_for("event", "hanging");
    pair.caller.tell(&json!({"call": "second", "request": {"n": 1}}));
    let (_, ending) = pair.ending("second");
    assert_eq!(ending["class"], "CapacityExhausted", "{ending}");
    pair.caller.tell(&json!({"drop": "first"}));
    pair.ending("first");
}

/// Nobody listens any more, and the record lives on: not delivered, by name.
fn a_worker_that_is_killed(caller: Kind, worker: Kind, codec: &'static str) {
    let mut pair = Pair::with(caller, worker, codec, &ENV);
    pair.caller.tell(&json!({"call": "warm", "request": {"n": 1}}));
    assert_eq!(pair.ending("warm").1["end"], 1);
    pair.worker.signal(Signal::KILL);
    pair.worker.end();
    pair.caller.tell(&json!({"call": "lost", "request": {"n": 1}}));
    let (_, ending) = pair.ending("lost");
    assert_eq!(ending["class"], "Unavailable", "{ending}");
}
