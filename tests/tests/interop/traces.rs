//! Spans of the real Dynamo and ours at one collector: a call between them is one trace.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::collector::{Collector, Seen};
use crate::pair::Pair;
use crate::place::Kind;
use crate::{DYNAMO, RING, TOKIO, trial};

/// Callers and workers of which one is Dynamo.
const MIXED: [(Kind, Kind); 3] = [(DYNAMO, RING), (RING, DYNAMO), (TOKIO, DYNAMO)];
/// The names that Dynamo gives to its spans, which are ours too.
const TRY: &str = "router.route_request";
const REQUEST: &str = "handle_payload";
/// The id of the call. Dynamo's spans have it if it is a UUID.
const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Blanks and an empty member, which a list of members would not keep.
const STATE: &str = "rojo=00f067aa0ba902b7 ,, congo=t61 rcWkgMzE";
const BEHIND: &str = "interop.behind.generate";

/// All tests of spans.
pub(crate) fn trials() -> Vec<Trial> {
    let named = |(caller, worker): (Kind, Kind)| {
        let name = format!("{}_calls_{}::one_trace_at_a_collector", caller.name(), worker.name());
        trial(name, &[caller, worker], move || one_trace(caller, worker))
    };
    MIXED.into_iter().map(named).collect()
}

fn one_trace(caller: Kind, worker: Kind) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let collector = runtime.block_on(Collector::grpc());
    let env = [
        ("OTEL_EXPORT_ENABLED", "1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collector.endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let mut pair = Pair::with(caller, worker, "msgpack", &env);
    let name = pair.call_name("traced");
    pair.caller.tell(&json!({"call": name, "context": ID, "request": {"n": 2}}));
    let (items, ending) = pair.ending(&name);
    assert_eq!((items.len(), &ending["end"]), (2, &json!(2)), "{ending}");

    // Dynamo has spans of other things as well.
    let is_its = |one: &Seen, span: &str| one.span.name == span && one.get("request_id").as_deref() == Some(ID);
    let find = |seen: &[Seen], span: &str| seen.iter().find(|one| is_its(one, span)).cloned();
    let enough = |seen: &[Seen]| find(seen, TRY).is_some() && find(seen, REQUEST).is_some();
    let seen = runtime.block_on(collector.spans(enough));
    let [attempt, request] = [TRY, REQUEST].map(|span| find(&seen, span).unwrap());
    assert!(request.is_below(&attempt), "{seen:#?}");
    for one in [&attempt, &request] {
        // The sampled bit of both.
        assert_eq!(one.span.flags & 1, 1, "{one:#?}");
    }
    assert_eq!(attempt.get("request.outcome").as_deref(), Some("success"), "{attempt:#?}");
    assert_eq!(attempt.get("request.attempt").as_deref(), Some("0"), "{attempt:#?}");
    for part in ["namespace", "component", "endpoint"] {
        assert!(request.get(part).is_some(), "{request:#?}");
    }
    assert_eq!(request.get("instance_id"), attempt.get("worker_id"), "{request:#?}");
    if caller.is_ours() {
        the_state_goes_through(&mut pair, &env);
    }
}

/// A `tracestate` by our caller reaches the handler of a Dynamo worker byte for byte. From there on the trace goes to a worker of
/// ours, and its state does not: a Dynamo caller sends none.
fn the_state_goes_through(pair: &mut Pair, env: &[(&str, &str)]) {
    let behind = pair.place.worker(RING, BEHIND, env);
    let mut ask = |request: &Value| {
        let name = pair.call_name("state");
        pair.caller.tell(&json!({"call": name, "context": ID, "tracestate": STATE, "request": request}));
        let (items, ending) = pair.ending(&name);
        assert_eq!(ending["end"], 1, "{ending}");
        items[0]["trace"].clone()
    };
    for (request, state) in
        [(json!({"mode": "context"}), json!(STATE)), (json!({"mode": "onward", "endpoint": BEHIND}), Value::Null)]
    {
        let trace = ask(&request);
        let parent = trace["traceparent"].as_str().unwrap_or_default();
        assert_eq!(parent.get(3..35), Some("4bf92f3577b34da6a3ce929d0e0e4736"), "{request}: {trace}");
        assert_eq!((parent.get(53..), &trace["tracestate"]), (Some("01"), &state), "{request}: {trace}");
    }
    drop(behind);
}
