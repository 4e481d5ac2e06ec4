//! Dynamo's own frontend before our workers: chats and completions by HTTP, and what happens when somebody leaves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::collector::{Collector, Seen};
use crate::place::{Kind, Place};
use crate::process::{BOUND, Peer};
use crate::web::{Reply, Site, Stream};
use crate::{DYNAMO, RING, TOKIO, trial_or, wheel};

/// The frontend, which all tests share: each has a model of its own.
type Shared = Arc<Mutex<Option<Arc<Front>>>>;

/// What is tried: before this frontend, with a worker of this kind whose record names this codec.
type Test = fn(&Front, Kind, &str);

/// All tests behind the frontend.
pub(crate) fn trials() -> Vec<Trial> {
    let all: [(&str, Test); 6] = [
        ("chats_and_completions", chats_and_completions),
        ("two_hundred_chats_at_once", two_hundred_chats_at_once),
        ("a_client_that_leaves_mid_stream_cancels_the_call", a_client_that_leaves),
        ("a_worker_killed_mid_stream_fails_that_call_and_another_goes_on", a_worker_killed),
        ("a_worker_that_drains_finishes_its_calls_and_takes_its_model_along", a_worker_that_drains),
        ("the_card_is_the_one_that_dynamo_makes", the_card),
    ];
    let shared = Shared::default();
    let mut trials = Vec::new();
    for (worker, codec) in [(RING, "msgpack"), (TOKIO, "json")] {
        for (name, run) in all {
            let shared = Arc::clone(&shared);
            let missing = wheel::python(wheel::FRONTEND).err();
            let prefix = format!("frontend_calls_{}::{codec}", worker.name());
            trials.push(trial_or(missing, format!("{prefix}::{name}"), &[worker, DYNAMO], move || {
                run(&front(&shared), worker, codec);
            }));
        }
    }
    trials
}

fn front(shared: &Shared) -> Arc<Front> {
    let mut front = shared.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(front.get_or_insert_with(|| Arc::new(Front::start())))
}

/// The running frontend, and where workers meet it.
struct Front {
    process: Mutex<Peer>,
    site: Site,
    place: Place,
    files: TempDir,
    /// Takes the spans of the frontend and of our workers, on a runtime of its own.
    collector: Collector,
    runtime: Runtime,
}

impl Front {
    /// Starts it. A port that is free now may be somebody else's in a moment: the frontend then ends, and another is tried.
    fn start() -> Self {
        let (place, files) = (Place::new("msgpack"), tempfile::tempdir().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let collector = runtime.block_on(Collector::grpc());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/model.py");
        let made = python().arg(script).arg(files.path().join("model")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for _ in 0..5 {
            let site = Site::unused();
            let mut process = place.frontend(python(), site.port(), &spans_to(&collector));
            let begun = Instant::now();
            while !process.has_ended() {
                assert!(begun.elapsed() < 2 * BOUND, "it does not answer; {}", process.said());
                if site.get("/v1/models").is_ok_and(|reply| reply.status == 200) {
                    return Self { process: Mutex::new(process), site, place, files, collector, runtime };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("the frontend finds no port");
    }

    fn directory(&self) -> PathBuf {
        self.files.path().canonicalize().unwrap().join("model")
    }

    /// A worker of this model, once the frontend calls it.
    fn worker(&self, kind: Kind, codec: &str, model: &str) -> Peer {
        let mut worker = self.start_worker(kind, codec, model);
        self.until("the model is served", || self.complete(model, "x", 1).status == 200);
        worker.wait_for("event", "ended");
        worker
    }

    /// A worker of this model, once it serves.
    fn start_worker(&self, kind: Kind, codec: &str, model: &str) -> Peer {
        let mut env = spans_to(&self.collector).to_vec();
        env.push(("DYN_REQUEST_PLANE_CODEC", codec));
        let mut worker = self.place.model(kind, &endpoint(model), (&self.directory(), model), &env);
        worker.wait_for("event", "serving");
        worker
    }

    fn complete(&self, model: &str, prompt: &str, most: u32) -> Reply {
        let wish = json!({"model": model, "prompt": prompt, "max_tokens": most});
        self.site.post("/v1/completions", &wish).unwrap()
    }

    fn chat(&self, model: &str, content: &str, more: &Value) -> Stream {
        let mut wish = json!({"model": model, "messages": [{"role": "user", "content": content}]});
        for (key, value) in more.as_object().into_iter().flatten() {
            wish[key] = value.clone();
        }
        self.site.open("/v1/chat/completions", &wish).unwrap()
    }

    fn models(&self) -> BTreeSet<String> {
        let models = self.site.get("/v1/models").unwrap().json();
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > BOUND {
                panic!("not {what}: {}", self.process.lock().unwrap_or_else(PoisonError::into_inner).said());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What sends the spans of a process to the collector.
fn spans_to(collector: &Collector) -> [(&str, &str); 4] {
    [
        ("OTEL_EXPORT_ENABLED", "1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]
}

fn python() -> Command {
    Command::new(wheel::python(wheel::FRONTEND).unwrap())
}

fn endpoint(model: &str) -> String {
    format!("interop.{model}.generate")
}

/// The name of a test's own model.
fn model(test: &str, worker: Kind) -> String {
    format!("{test}-{}", worker.name())
}

/// What the model's template makes of a message, and the model's answer therefore.
fn said(content: &str) -> String {
    format!("user: {content}\n")
}

/// The text of a stream's pieces, and why it ended.
fn text(events: &[Value]) -> (String, Vec<Value>) {
    let choices: Vec<&Value> = events.iter().map(|event| &event["choices"][0]).collect();
    let text = choices.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
    (text, choices.iter().map(|choice| choice["finish_reason"].clone()).filter(|why| !why.is_null()).collect())
}

fn chats_and_completions(front: &Front, worker: Kind, codec: &str) {
    let model = model("talks", worker);
    let mut serving = front.worker(worker, codec, &model);
    let reply = front.complete(&model, "h\u{E4}llo", 100);
    let answer = reply.json();
    assert_eq!((reply.status, &answer["choices"][0]["text"]), (200, &json!("h\u{E4}llo")), "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let usage = json!({"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12});
    assert_eq!(answer["usage"], usage);
    let cut = front.complete(&model, "hello", 3).json();
    assert_eq!((&cut["choices"][0]["text"], &cut["choices"][0]["finish_reason"]), (&json!("hel"), &json!("length")));

    let whole = front.chat(&model, "hi", &json!({})).reply().unwrap();
    assert_eq!((whole.status, &whole.json()["choices"][0]["message"]["content"]), (200, &json!(said("hi"))));
    let mut stream = front.chat(&model, "hi there", &json!({"stream": true}));
    let events = stream.events().unwrap();
    assert!(stream.is_done(), "{events:?}");
    assert!(events.len() > 5, "its tokens come one by one: {events:?}");
    assert_eq!(text(&events), (said("hi there"), vec![json!("stop")]));
    assert_eq!(front.complete("nobody", "x", 1).status, 404);
    a_chat_is_one_trace(front, &mut serving, &model);
}

/// A client's trace goes through the frontend to the worker, and what the client decided about recording it. The frontend passes on
/// the id that the client gave its request, and drops the `tracestate`.
fn a_chat_is_one_trace(front: &Front, worker: &mut Peer, model: &str) {
    let span = "00f067aa0ba902b7";
    let traces = ["00", "01"].map(|flags| {
        // One of its own for each worker.
        let hash = |hash: u128, byte| hash.wrapping_mul(31).wrapping_add(u128::from(byte));
        let trace = format!("{:032x}", model.bytes().chain(flags.bytes()).fold(7, hash));
        let (parent, id) = (format!("00-{trace}-{span}-{flags}"), format!("{model} {flags}"));
        let headers = [("traceparent", &*parent), ("tracestate", "rojo=1"), ("x-request-id", &*id)];
        let wish = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let reply = front.site.open_with("/v1/chat/completions", &wish, &headers).unwrap().reply().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        let its = |line: &Value| line["event"] == "request" && line["trace"]["x-request-id"] == json!(id);
        let brought = worker.wait("the chat", its)["trace"].take();
        let parent = brought["traceparent"].as_str().unwrap();
        assert_eq!((&parent[3..35], &parent[53..]), (&*trace, flags), "{brought}");
        assert_eq!(brought["tracestate"], Value::Null, "{brought}");
        trace
    });
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let of = |seen: &[Seen], trace: &str| -> Vec<Seen> {
        seen.iter().filter(|one| hex(&one.span.trace_id) == trace).cloned().collect()
    };
    let names = ["http-request", "router.route_request", "handle_payload"];
    let find = |seen: &[Seen], name: &str| seen.iter().find(|one| one.span.name == name).cloned();
    let enough = |seen: &[Seen]| names.iter().all(|name| find(&of(seen, &traces[1]), name).is_some());
    let seen = front.runtime.block_on(front.collector.spans(enough));
    assert_eq!(of(&seen, &traces[0]).len(), 0, "what a client does not sample is not recorded");
    let seen = of(&seen, &traces[1]);
    let [entry, attempt, request] = names.map(|name| find(&seen, name).unwrap());
    assert_eq!(hex(&entry.span.parent_span_id), span, "{seen:#?}");
    assert!(request.is_below(&attempt) && request.span.flags & 1 == 1, "{seen:#?}");
    // Between the two the frontend has spans of its own.
    let mut above = attempt.clone();
    while !above.is_below(&entry) {
        let parent = seen.iter().find(|one| above.is_below(one));
        above = parent.unwrap_or_else(|| panic!("nothing is above {above:#?}: {seen:#?}")).clone();
    }
    assert_eq!((&*request.service, request.get("instance_id")), ("ringplane", attempt.get("worker_id")), "{seen:#?}");
    assert_eq!(request.get("x_request_id"), Some(format!("{model} 01")), "{request:#?}");
}

fn two_hundred_chats_at_once(front: &Front, worker: Kind, codec: &str) {
    let model = model("crowd", worker);
    let _worker = front.worker(worker, codec, &model);
    std::thread::scope(|scope| {
        let model = &model;
        let chat = move |number: u32| {
            let content = format!("number {number}");
            let mut stream = front.chat(model, &content, &json!({"stream": true}));
            let events = stream.events().unwrap();
            (number, stream.is_done(), text(&events), (said(&content), vec![json!("stop")]))
        };
        let chats: Vec<_> = (0..200).map(|number| scope.spawn(move || chat(number))).collect();
        for chat in chats {
            let (number, done, answer, expected) = chat.join().unwrap();
            assert!(done, "{number}");
            assert_eq!(answer, expected);
        }
    });
}

/// Longer than any test waits for its end.
fn long() -> String {
    "long ".repeat(1500)
}

fn a_client_that_leaves(front: &Front, worker: Kind, codec: &str) {
    let model = model("leaves", worker);
    let mut worker = front.worker(worker, codec, &model);
    let mut stream = front.chat(&model, &long(), &json!({"stream": true}));
    assert!(stream.event().unwrap().is_some() && stream.event().unwrap().is_some());
    drop(stream);
    let ended = worker.wait_for("event", "ended");
    assert_eq!(ended["stopped"], true, "{ended}");
    // Nothing of it is left: the worker goes on.
    assert_eq!(front.complete(&model, "y", 1).status, 200);
}

fn a_worker_killed(front: &Front, worker: Kind, codec: &str) {
    let model = model("killed", worker);
    let killed = front.worker(worker, codec, &model);
    let mut stream = front.chat(&model, &long(), &json!({"stream": true}));
    let mut events: Vec<_> = (0..2).filter_map(|_| stream.event().unwrap()).collect();
    let mut other = front.start_worker(worker, codec, &model);
    killed.signal(Signal::KILL);
    // What breaks off is told: by an event that is an error, or by a stream without its end.
    let rest = stream.events();
    events.extend(rest.into_iter().flatten());
    let failed = events.iter().any(|event| event.get("error").is_some() || event.get("code").is_some());
    let (_, why) = text(&events);
    assert!(failed || !stream.is_done() || why == [json!("error")], "{:?}", events.last());
    assert!(!why.contains(&json!("stop")), "{why:?}");
    // The record of the one that was killed is there for a while: calls that meet it may fail, and then none does.
    let mut good = 0;
    front.until("called ten times in a row", || {
        good = if front.complete(&model, "z", 1).status == 200 { good + 1 } else { 0 };
        good == 10
    });
    other.wait_for("event", "request");
}

fn a_worker_that_drains(front: &Front, worker: Kind, codec: &str) {
    let model = model("drains", worker);
    let mut worker = front.worker(worker, codec, &model);
    let content = "long ".repeat(40);
    let mut stream = front.chat(&model, &content, &json!({"stream": true}));
    let mut events: Vec<_> = stream.event().unwrap().into_iter().collect();
    worker.signal(Signal::TERM);
    events.extend(stream.events().unwrap());
    assert!(stream.is_done(), "{:?}", events.last());
    assert_eq!(text(&events), (said(&content), vec![json!("stop")]));
    let out = worker.wait_for("event", "out");
    assert_eq!((worker.end(), &out["clean"]), (Some(0), &json!(true)));
    front.until("gone from the list", || !front.models().contains(&model));
    assert_eq!(front.complete(&model, "x", 1).status, 404);
}

/// Workers of both may serve one model: their cards are equal, byte by byte.
fn the_card(front: &Front, worker: Kind, codec: &str) {
    let (model, elsewhere) = (model("card", worker), Place::new("msgpack"));
    let codec = [("DYN_REQUEST_PLANE_CODEC", codec)];
    let mut ours = front.place.model(worker, &endpoint(&model), (&front.directory(), &model), &codec);
    let mut theirs = elsewhere.tokens(&endpoint(&model), &model, &front.directory());
    theirs.wait_for("event", "registered");
    let ours = ours.wait_for("event", "serving");
    let folder = elsewhere.discovery().join("v1/mdc");
    let record = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let record = std::fs::read_to_string(record).unwrap();
    assert!(record.contains(&format!("\"card_json\":{}}}", ours["card"].as_str().unwrap())), "{record}\n{ours}");
}
