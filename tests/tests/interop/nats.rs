//! The same table with requests by way of a NATS server, and what only such a server can do to them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::Trial;
use ringplane_tests::nats::NatsServer;
use rustix::process::Signal;
use serde_json::json;

use crate::pair::Pair;
use crate::place::{Kind, Place};
use crate::{DYNAMO, RING, TOKIO, table, trial_or};

/// Whoever calls by NATS is a Dynamo: ours does not yet.
const PAIRS: [(Kind, Kind, &str); 5] = [
    (DYNAMO, DYNAMO, "msgpack"),
    (DYNAMO, RING, "msgpack"),
    (DYNAMO, TOKIO, "msgpack"),
    (DYNAMO, RING, "json"),
    (DYNAMO, TOKIO, "json"),
];

/// A scenario of its own: its name and what runs it.
type Lifecycle = (&'static str, fn(Kind));

const LIFECYCLES: [Lifecycle; 4] = [
    ("a_name_that_its_slug_would_change", names_that_a_slug_would_change),
    ("overload_in_the_reply", overload),
    ("graceful_drain", graceful_drain),
    ("a_server_that_restarts", a_server_that_restarts),
];

/// The server of all tests but those that stop theirs, or why there is none.
static SERVER: OnceLock<Result<Mutex<Option<NatsServer>>, String>> = OnceLock::new();

fn server() -> Result<String, String> {
    let server = SERVER.get_or_init(|| NatsServer::start().map(|server| Mutex::new(Some(server)))).as_ref()?;
    let server = server.lock().unwrap_or_else(PoisonError::into_inner);
    server.as_ref().map(|server| server.address().to_owned()).ok_or_else(|| "it has ended".to_owned())
}

/// Ends the server that the tests share.
pub(crate) fn end() {
    if let Some(Ok(server)) = SERVER.get() {
        server.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// All tests by NATS.
pub(crate) fn trials() -> Vec<Trial> {
    let missing = server().err().map(|why| format!("no NATS server: {why}"));
    if let Some(reason) = &missing {
        eprintln!("{reason}; its tests are ignored");
    }
    let mut trials = Vec::new();
    for (caller, worker, codec) in PAIRS {
        let shared: Arc<Mutex<Option<Pair>>> = Arc::default();
        for scenario in table::scenarios().into_iter().filter(|scenario| !scenario.ours_only) {
            let shared = Arc::clone(&shared);
            let name = format!("{}_calls_{}_by_nats::{codec}::{}", caller.name(), worker.name(), scenario.name);
            trials.push(trial_or(missing.clone(), name, &[caller, worker], move || {
                let mut pair = shared.lock().unwrap_or_else(PoisonError::into_inner);
                pair.get_or_insert_with(|| by_nats(&server().unwrap(), worker, codec, &[])).play(&scenario);
            }));
        }
    }
    for worker in [RING, TOKIO] {
        for (scenario, run) in LIFECYCLES {
            let name = format!("{}_calls_{}_by_nats::{scenario}", DYNAMO.name(), worker.name());
            trials.push(trial_or(missing.clone(), name, &[DYNAMO, worker], move || run(worker)));
        }
    }
    trials
}

/// A Dynamo caller and a worker on the server at `address`.
fn by_nats(address: &str, worker: Kind, codec: &'static str, more: &[(&str, &str)]) -> Pair {
    let url = format!("nats://{address}");
    let env = [&[("DYN_REQUEST_PLANE", "nats"), ("NATS_SERVER", url.as_str())], more].concat();
    Pair::with(DYNAMO, worker, codec, &env)
}

/// The record names `MyNs_backend`; a Dynamo worker listens on `myns_backend` only, and every call of it fails.
fn names_that_a_slug_would_change(worker: Kind) {
    let url = format!("nats://{}", server().unwrap());
    let env = [("DYN_REQUEST_PLANE", "nats"), ("NATS_SERVER", url.as_str())];
    let (place, endpoint) = (Place::new("msgpack"), "MyNs.backend.generate");
    let _worker = place.worker(worker, endpoint, &env);
    let mut caller = place.caller(DYNAMO, endpoint, 1, &env);
    caller.tell(&json!({"call": "named", "request": {"n": 1}}));
    let ending = caller.wait("ending", |line| line["call"] == "named" && line.get("item").is_none());
    assert_eq!(ending["end"], 1, "{ending}");
}

/// Dynamo has no bound for requests by NATS; ours refuses in the reply, in words that its caller knows.
fn overload(worker: Kind) {
    let limits = [("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "0")];
    let mut pair = by_nats(&server().unwrap(), worker, "msgpack", &limits);
    pair.caller.tell(&json!({"call": "first", "request": {"n": 1, "hang_at": 0}}));
    pair.worker.wait_for("event", "hanging");
    pair.caller.tell(&json!({"call": "second", "request": {"n": 1}}));
    let (_, ending) = pair.ending("second");
    let said = ending["error"].as_str().unwrap_or_default();
    assert!(said.contains("overloaded") || said.contains("capacity"), "{ending}");
    pair.caller.tell(&json!({"drop": "first"}));
    pair.ending("first");
}

fn graceful_drain(worker: Kind) {
    let mut pair = by_nats(&server().unwrap(), worker, "msgpack", &[]);
    pair.caller.tell(&json!({"call": "drained", "request": {"n": 20, "delay_ms": 50}}));
    pair.caller.wait("first item", |line| line["item"]["i"] == 0);
    pair.worker.signal(Signal::TERM);
    let (items, ending) = pair.ending("drained");
    assert_eq!((items.len(), &ending["end"]), (19, &json!(20)), "{ending}");
    let out = pair.worker.wait_for("event", "out");
    assert_eq!(out["clean"], true, "{out}");
}

/// Streams go on without it, and new calls get through once it is back.
fn a_server_that_restarts(worker: Kind) {
    let mut own = NatsServer::start().unwrap();
    let mut pair = by_nats(own.address(), worker, "msgpack", &[]);
    pair.caller.tell(&json!({"call": "long", "request": {"n": 20, "delay_ms": 50}}));
    pair.caller.wait("first item", |line| line["item"]["i"] == 0);
    own.stop();
    let (items, ending) = pair.ending("long");
    assert_eq!((items.len(), &ending["end"]), (19, &json!(20)), "{ending}");
    own.resume().unwrap();
    // Both sides come back in their own time; a call in between fails. Each try has the caller's own bound.
    let again = (0..60).any(|number| {
        let name = format!("again-{number}");
        pair.caller.tell(&json!({"call": name, "request": {"n": 1, "delay_ms": 100}}));
        let (_, ending) = pair.ending(&name);
        if ending["end"] != json!(1) {
            std::thread::park_timeout(std::time::Duration::from_millis(250));
        }
        ending["end"] == json!(1)
    });
    assert!(again, "no call gets through after the restart");
}
