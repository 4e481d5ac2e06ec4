//! The scenarios that every pair of a caller and a worker plays: what is asked, and what must come of it.

use serde_json::{Value, json};

/// One call and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The caller's command without its name; see `tests/peers/caller.py`.
    pub(crate) command: Value,
    pub(crate) outcome: Outcome,
    /// Whether it asks for more than a Dynamo caller does.
    pub(crate) ours_only: bool,
}

/// What must come of a call.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Exactly these items, then the end.
    Items(Vec<Value>),
    /// So many calls without a failure, with so many items in all.
    Calls { items: u64 },
    /// The handler's view: metadata as sent, an id as sent, a trace context if the caller writes one.
    Context,
    /// After so many items an error whose class, reason and text are these.
    Failure { after: u64, class: &'static str, reason: &'static str, text: &'static str, at_call: bool },
    /// The caller stopped: so many items, then the clean end; the handler saw it.
    Stopped { items: u64 },
    /// The caller went away: the handler was cancelled.
    Dropped,
}

/// The table.
pub(crate) fn scenarios() -> Vec<Scenario> {
    [streams(), bodies(), values(), contexts(), failures(), cancels(), crowds()].concat()
}

fn scenario(name: &str, command: Value, outcome: Outcome) -> Scenario {
    Scenario { name: name.to_owned(), command, outcome, ours_only: false }
}

fn counted(n: u64) -> Vec<Value> {
    (0..n).map(|i| json!({ "i": i })).collect()
}

fn streams() -> Vec<Scenario> {
    let echo = json!({"mode": "echo", "text": "hello"});
    let mut all = vec![scenario("unary", json!({ "request": echo }), Outcome::Items(vec![echo.clone()]))];
    for n in [0, 1, 5] {
        let command = json!({"request": {"n": n}});
        all.push(scenario(&format!("stream_of_{n}_items"), command, Outcome::Items(counted(n))));
    }
    let long = json!({"request": {"n": 10_000}, "repeat": 1, "timeout": 25});
    all.push(scenario("stream_of_10000_items", long, Outcome::Calls { items: 10_000 }));
    all
}

fn bodies() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, mib) in [("1_mib", 1_u64), ("30_mib", 30)] {
        let size = mib << 20;
        let request = json!({"request": {"mode": "length"}, "pad": size, "timeout": 25});
        let length = Outcome::Items(vec![json!({ "length": size })]);
        all.push(scenario(&format!("request_of_{name}"), request, length));
        let answer = json!({"request": {"mode": "big", "size": size}, "timeout": 25});
        let text = "x".repeat(usize::try_from(size).unwrap());
        all.push(scenario(&format!("answer_of_{name}"), answer, Outcome::Items(vec![json!({"i": 0, "text": text})])));
    }
    all
}

/// Every type of value, as the whole request and inside of one.
fn values() -> Vec<Scenario> {
    let inner = [
        ("null", json!(null)),
        ("booleans", json!([true, false])),
        ("small_numbers", json!([0, 1, 127, 128, 255, 256, -1, -32, -33, -128, -129])),
        ("wide_numbers", json!([65_535, 65_536, 4_294_967_295_u64, 4_294_967_296_u64, u64::MAX])),
        ("negative_numbers", json!([-32_768, -32_769, -2_147_483_648_i64, -2_147_483_649_i64, i64::MIN])),
        ("floats", json!([0.5, -0.25, 1.5e300, 1e-300, 2.5e-8])),
        (
            "texts",
            json!(["", "a", "line\nbreak \"quoted\" \\ \t", "ü€𝄞", "x".repeat(31), "x".repeat(32), "x".repeat(300)]),
        ),
        ("lists", json!([[], [[]], [1, [2, [3, [4]]]], vec![7; 16], vec![7; 70_000]])),
        ("maps", json!({"": 1, "a b": {"c": {"d": {}}}, "ü": null, "mode": 5})),
    ];
    let mut all = Vec::new();
    for (name, value) in inner {
        let request = json!({"mode": "echo", "value": value});
        let outcome = Outcome::Items(vec![request.clone()]);
        all.push(scenario(&format!("value_{name}"), json!({ "request": request }), outcome));
    }
    for (name, request) in [("text", json!("hello")), ("number", json!(-7)), ("list", json!([1]))] {
        let outcome = Outcome::Items(vec![request.clone()]);
        all.push(scenario(&format!("bare_{name}"), json!({ "request": request }), outcome));
    }
    let null = Outcome::Items(vec![json!("null")]);
    all.push(scenario("bare_null", json!({"request": Value::Null}), null));
    all.push(scenario("bare_empty_map", json!({"request": {}}), Outcome::Items(counted(5))));
    all
}

fn contexts() -> Vec<Scenario> {
    let metadata = json!({"tenant": "t-1", "ünïcode": "värde", "empty": ""});
    vec![scenario("context", json!({"request": {"mode": "context"}, "metadata": metadata}), Outcome::Context)]
}

fn failures() -> Vec<Scenario> {
    let kinds = [
        ("ValueError", "InvalidRequest", "backend.invalid_argument"),
        ("RuntimeError", "Internal", "backend.unknown"),
        ("InvalidArgument", "InvalidRequest", "backend.invalid_argument"),
        ("CannotConnect", "Unavailable", "backend.cannot_connect"),
        ("Disconnected", "Unavailable", "backend.disconnected"),
        ("ConnectionTimeout", "DeadlineExceeded", "backend.connection_timeout"),
        ("Cancelled", "Cancelled", "backend.cancelled"),
        ("EngineShutdown", "Unavailable", "backend.engine_shutdown"),
        ("StreamIncomplete", "Unavailable", "backend.stream_incomplete"),
        ("WorkerUnavailable", "Unavailable", "backend.worker_unavailable"),
    ];
    let mut all = Vec::new();
    for (kind, class, reason) in kinds {
        for after in [0, 2] {
            let request = json!({"mode": "fail", "kind": kind, "text": "boom", "after": after});
            let name = if after == 0 { "before_the_first_item" } else { "mid_stream" };
            let outcome = Outcome::Failure { after, class, reason, text: "boom", at_call: false };
            all.push(scenario(&format!("{kind}_{name}"), json!({ "request": request }), outcome));
        }
    }
    let request = json!({"mode": "fail", "at": "call", "kind": "ValueError", "text": "boom"});
    let (class, reason) = ("Internal", "runtime.unclassified");
    let outcome = Outcome::Failure { after: 0, class, reason, text: "ValueError: boom", at_call: true };
    all.push(scenario("failure_before_the_stream", json!({ "request": request }), outcome));
    all
}

/// The worker is silent from item `hang_at` on: a cancel at that point is certain to find the stream open. A Dynamo caller
/// notices that its stream has been dropped when the next item comes, and has no kill.
fn cancels() -> Vec<Scenario> {
    let hang = |at: u64| json!({"n": 5, "hang_at": at});
    let endless = json!({"n": 100_000, "delay_ms": 5});
    let mut all = vec![
        scenario("stop_mid_stream", json!({"request": hang(2), "stop_after": 2}), Outcome::Stopped { items: 2 }),
        scenario(
            "stop_before_the_first_item",
            json!({"request": hang(0), "then": "stop"}),
            Outcome::Stopped { items: 0 },
        ),
        scenario("stop_of_a_silent_stream", json!({"request": hang(3), "then": "stop"}), Outcome::Stopped { items: 3 }),
        scenario("drop_mid_stream", json!({"request": endless, "drop_after": 2}), Outcome::Dropped),
    ];
    // The last item is read, and the end has not been said. Or it is, and the cancel comes too late to mean anything.
    let command = json!({"request": hang(5), "then": "stop"});
    all.push(scenario("stop_after_the_last_item", command, Outcome::Stopped { items: 5 }));
    let command = json!({"request": {"n": 5}, "stop_after": 5});
    all.push(scenario("stop_that_may_come_too_late", command, Outcome::Items(counted(5))));
    for how in ["drop", "kill"] {
        for (name, at) in [("before_the_first_item", 0), ("of_a_silent_stream", 3), ("after_the_last_item", 5)] {
            let command = json!({"request": hang(at), "then": how});
            let scenario = scenario(&format!("{how}_{name}"), command, Outcome::Dropped);
            all.push(Scenario { ours_only: true, ..scenario });
        }
    }
    all
}

fn crowds() -> Vec<Scenario> {
    let at_once = json!({"request": {"n": 5, "delay_ms": 5}, "repeat": 200, "parallel": 200, "timeout": 25});
    let in_turn = json!({"request": {"n": 2}, "repeat": 300, "parallel": 3, "timeout": 25});
    vec![
        scenario("two_hundred_calls_at_once", at_once, Outcome::Calls { items: 1000 }),
        scenario("three_hundred_calls_in_three_lanes", in_turn, Outcome::Calls { items: 600 }),
    ]
}
