//! The same table with requests by way of a NATS server, and what only such a server can do to them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::Trial;
use ringplane::{Config, DriverChoice, Error, Leftovers, Request, Responder, Worker, nats, request, service};
use ringplane_core::discovery::key::Query;
use ringplane_servers::nats::NatsServer;
use rustix::process::Signal;
use serde_json::json;

use crate::pair::Pair;
use crate::place::{Kind, Place};
use crate::{DYNAMO, RING, TOKIO, lifecycle, table, trial_or};

/// Callers and workers that meet at a NATS server.
const PAIRS: [(Kind, Kind, &str); 9] = [
    (DYNAMO, DYNAMO, "msgpack"),
    (DYNAMO, RING, "msgpack"),
    (DYNAMO, TOKIO, "msgpack"),
    (DYNAMO, RING, "json"),
    (DYNAMO, TOKIO, "json"),
    (RING, DYNAMO, "msgpack"),
    (TOKIO, DYNAMO, "json"),
    (RING, TOKIO, "msgpack"),
    (TOKIO, RING, "json"),
];

/// A scenario of its own: its name and what runs it.
type Lifecycle = (&'static str, fn(Kind, Kind));

const LIFECYCLES: [Lifecycle; 4] = [
    ("a_name_that_its_slug_would_change", names_that_a_slug_would_change),
    ("overload_in_the_reply", overload),
    ("graceful_drain", graceful_drain),
    ("a_server_that_restarts", a_server_that_restarts),
];

/// Who plays those. What only our worker does right, a Dynamo worker is not asked for.
const LIVES: [(Kind, Kind); 6] =
    [(DYNAMO, RING), (DYNAMO, TOKIO), (RING, TOKIO), (TOKIO, RING), (RING, DYNAMO), (TOKIO, DYNAMO)];

/// The server of all tests but those that stop theirs, or why there is none.
static SERVER: OnceLock<Result<Mutex<Option<NatsServer>>, String>> = OnceLock::new();

/// Where the server of the tests is.
pub(crate) fn server() -> Result<String, String> {
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
        for scenario in table::scenarios().into_iter().filter(|scenario| !scenario.ours_only || caller.is_ours()) {
            let shared = Arc::clone(&shared);
            let name = format!("{}_calls_{}_by_nats::{codec}::{}", caller.name(), worker.name(), scenario.name);
            trials.push(trial_or(missing.clone(), name, &[caller, worker], move || {
                let mut pair = shared.lock().unwrap_or_else(PoisonError::into_inner);
                pair.get_or_insert_with(|| by_nats(&server().unwrap(), caller, worker, codec, &[])).play(&scenario);
            }));
        }
    }
    for (caller, worker) in LIVES {
        for (scenario, run) in LIFECYCLES {
            if scenario == "overload_in_the_reply" && worker == DYNAMO {
                continue;
            }
            let name = format!("{}_calls_{}_by_nats::{scenario}", caller.name(), worker.name());
            trials.push(trial_or(missing.clone(), name, &[caller, worker], move || run(caller, worker)));
        }
    }
    for kind in [RING, TOKIO] {
        let name = format!("{}_worker_by_nats::a_user_who_may_not_subscribe", kind.name());
        trials.push(trial_or(missing.clone(), name, &[kind], move || a_user_who_may_not_subscribe(kind)));
    }
    for caller in [RING, TOKIO] {
        let name = format!("{}_calls_dynamo_by_nats::bidirectional_items", caller.name());
        trials.push(trial_or(missing.clone(), name, &[caller, DYNAMO], move || bidirectional(caller)));
        let name = format!("{}_calls_dynamo_by_nats::a_body_beyond_what_the_server_takes", caller.name());
        trials.push(trial_or(missing.clone(), name, &[caller, DYNAMO], move || too_large(caller)));
        let name = format!("{}_calls_{}_by_nats::a_server_lost_under_load", caller.name(), caller.name());
        trials.push(trial_or(missing.clone(), name, &[caller], move || a_server_lost_under_load(caller)));
    }
    trials
}

/// A caller and a worker on the server at `address`.
fn by_nats(address: &str, caller: Kind, worker: Kind, codec: &'static str, more: &[(&str, &str)]) -> Pair {
    let url = format!("nats://{address}");
    let env = [&[("DYN_REQUEST_PLANE", "nats"), ("NATS_SERVER", url.as_str())], more].concat();
    Pair::with(caller, worker, codec, &env)
}

/// The record names `MyNs_backend`; a Dynamo worker listens on `myns_backend` only, where its own callers do not look.
fn names_that_a_slug_would_change(caller: Kind, worker: Kind) {
    let url = format!("nats://{}", server().unwrap());
    let env = [("DYN_REQUEST_PLANE", "nats"), ("NATS_SERVER", url.as_str())];
    let (place, endpoint) = (Place::new("msgpack"), "MyNs.backend.generate");
    let _worker = place.worker(worker, endpoint, &env);
    let mut caller = place.caller(caller, endpoint, 1, &env);
    caller.tell(&json!({"call": "named", "request": {"n": 1}}));
    let ending = caller.wait("ending", |line| line["call"] == "named" && line.get("item").is_none());
    assert_eq!(ending["end"], 1, "{ending}");
    counted_by_its_service("myns_backend", if worker == DYNAMO { "1.6.1" } else { env!("CARGO_PKG_VERSION") });
}

/// The component's service tells of requests to a worker of this version, among those of other tests.
fn counted_by_its_service(name: &str, version: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let servers = vec![format!("nats://{}", server().unwrap())];
        let config = nats::Config { servers, login: nats::Login::Anonymous, ..nats::Config::default() };
        let connection = nats::Connection::open(&config).await.unwrap();
        let ask = service::Ask { deadline: std::time::Duration::from_millis(250), ..Default::default() };
        for _ in 0..100 {
            let stats = service::stats(&connection, Some(name), ask).await.unwrap();
            let worked = |stats: &service::Stats| stats.endpoints.iter().any(|endpoint| endpoint.num_requests > 0);
            if stats.replicas.iter().any(|stats| stats.version == version && worked(stats)) {
                return;
            }
        }
        panic!("no service {name} tells of requests to a worker of version {version}");
    });
}

/// Dynamo has no bound for requests by NATS; ours refuses in the reply, in words that its caller knows.
fn overload(caller: Kind, worker: Kind) {
    let limits = [("DYN_ENGINE_REQUEST_LIMIT", "1"), ("DYN_DYNAMO_REQUEST_QUEUE_LIMIT", "0")];
    let mut pair = by_nats(&server().unwrap(), caller, worker, "msgpack", &limits);
    pair.caller.tell(&json!({"call": "first", "request": {"n": 1, "hang_at": 0}}));
    pair.worker.wait_for("event", "hanging");
    pair.caller.tell(&json!({"call": "second", "request": {"n": 1}}));
    let (_, ending) = pair.ending("second");
    let said = ending["error"].as_str().unwrap_or_default().to_lowercase();
    assert!(said.contains("overloaded") || said.contains("capacity"), "{ending}");
    pair.caller.tell(&json!({"drop": "first"}));
    pair.ending("first");
}

fn graceful_drain(caller: Kind, worker: Kind) {
    let mut pair = by_nats(&server().unwrap(), caller, worker, "msgpack", &[]);
    pair.caller.tell(&json!({"call": "drained", "request": {"n": 20, "delay_ms": 50}}));
    pair.caller.wait("first item", |line| line["item"]["i"] == 0);
    pair.worker.signal(Signal::TERM);
    let (items, ending) = pair.ending("drained");
    assert_eq!((items.len(), &ending["end"]), (19, &json!(20)), "{ending}");
    let out = pair.worker.wait_for("event", "out");
    assert_ne!(out["clean"], false, "{out}");
}

/// Only the way of the request changes: the worker still fetches the items, and finds no body in the message.
fn bidirectional(caller: Kind) {
    let url = format!("nats://{}", server().unwrap());
    let env = [("DYN_REQUEST_PLANE", "nats"), ("NATS_SERVER", url.as_str())];
    lifecycle::bidirectional_with(caller, DYNAMO, "msgpack", &env);
}

/// The worker does not start and names the subject; one whose user may subscribe does, with the login in the address.
fn a_user_who_may_not_subscribe(kind: Kind) {
    let users = r#"
        {user: "alice", password: "s:cret", permissions: {subscribe: ["_INBOX.>"], publish: [">"]}}
        {user: "bob@home", password: "s:cret"}
    "#;
    let own = NatsServer::with(&format!("authorization {{ users: [{users}] }}")).unwrap();
    let place = format!("mem:nats-users-{}", kind.name());
    let serve = |user: &str| {
        let address = format!("nats://{user}:s%3Acret@{}", own.address());
        let nats = request::nats::Config::from_vars(|name| (name == "NATS_SERVER").then(|| address.clone())).unwrap();
        let driver = if kind == TOKIO { DriverChoice::Tokio } else { DriverChoice::IoUring };
        let echo = async |mut request: Request, out: Responder| Ok(out.send(request.body().await?).await?);
        let builder = Worker::builder().endpoint("ns.c.echo", echo).request_plane(nats);
        builder.discovery(&place).config(Config { driver, ..Config::default() }).serve()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..10 {
            match serve("alice").await {
                Err(Error::RequestPlane(request::Error::Broker(error))) => match error.downcast_ref() {
                    Some(nats::Error::Denied { what: "subscribe to", subject }) => {
                        assert!(subject.starts_with("ns_c.echo-"), "{subject}");
                    }
                    _ => panic!("{error:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        let records = || ringplane::discovery::open(&place).unwrap();
        assert_eq!(records().endpoints().list(Query::All).await.unwrap(), []);
        let worker = serve("bob%40home").await.unwrap();
        assert_eq!(records().endpoints().list(Query::All).await.unwrap().len(), 1);
        assert_eq!(worker.shutdown().await, Leftovers::default());
    });
}

/// The caller knows what the server takes, sends nothing, and goes on.
fn too_large(caller: Kind) {
    let own = NatsServer::taking(1 << 20).unwrap();
    let mut pair = by_nats(own.address(), caller, DYNAMO, "msgpack", &[]);
    pair.caller.tell(&json!({"call": "large", "request": {"mode": "length"}, "pad": 1 << 20}));
    let (_, ending) = pair.ending("large");
    assert_eq!(ending["class"], "PayloadTooLarge", "{ending}");
    pair.caller.tell(&json!({"call": "next", "request": {"n": 1}}));
    assert_eq!(pair.ending("next").1["end"], 1);
}

/// Every call ends: well, or with an error that says what became of it; afterwards calls get through again.
fn a_server_lost_under_load(kind: Kind) {
    let mut own = NatsServer::start().unwrap();
    let mut pair = by_nats(own.address(), kind, kind, "msgpack", &[]);
    pair.caller.tell(&json!({"call": "warm", "request": {"n": 1}}));
    pair.ending("warm");
    pair.caller.tell(&json!({"call": "load", "request": {"n": 3, "delay_ms": 2}, "repeat": 600, "parallel": 16}));
    pair.worker.wait_for("event", "request");
    own.stop();
    std::thread::park_timeout(std::time::Duration::from_millis(500));
    own.resume().unwrap();
    let (_, ending) = pair.ending("load");
    assert_eq!(ending["done"], 600, "{ending}");
    for error in ending["errors"].as_array().into_iter().flatten() {
        // The caller may be back at the server before the worker is.
        let known = ["no connection to the broker", "nobody listens to its subject"];
        assert!(error.as_str().is_some_and(|said| known.iter().any(|text| said.contains(text))), "{ending}");
    }
    assert!(gets_through(&mut pair), "no call gets through after the outage");
}

/// Streams go on without it, and new calls get through once it is back.
fn a_server_that_restarts(caller: Kind, worker: Kind) {
    let mut own = NatsServer::start().unwrap();
    let mut pair = by_nats(own.address(), caller, worker, "msgpack", &[]);
    pair.caller.tell(&json!({"call": "long", "request": {"n": 20, "delay_ms": 50}}));
    pair.caller.wait("first item", |line| line["item"]["i"] == 0);
    own.stop();
    let (items, ending) = pair.ending("long");
    assert_eq!((items.len(), &ending["end"]), (19, &json!(20)), "{ending}");
    own.resume().unwrap();
    assert!(gets_through(&mut pair), "no call gets through after the restart");
}

/// Both sides come back in their own time; a call in between fails. Each try has the caller's own bound.
fn gets_through(pair: &mut Pair) -> bool {
    (0..60).any(|number| {
        let name = format!("again-{number}");
        pair.caller.tell(&json!({"call": name, "request": {"n": 1, "delay_ms": 100}}));
        let (_, ending) = pair.ending(&name);
        if ending["end"] != json!(1) {
            std::thread::park_timeout(std::time::Duration::from_millis(250));
        }
        ending["end"] == json!(1)
    })
}
