//! Spans of the real Dynamo and ours at one collector: a call between them is one trace.

use libtest_mimic::Trial;
use serde_json::json;

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
}
