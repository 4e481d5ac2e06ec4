//! Other versions of Dynamo: chosen scenarios with both roles, those of [`VERSIONS`] as tests like any other.
//! `INTEROP_MATRIX=1.0.2,1.6.1 cargo test --test interop` prints a table of any versions instead, against the peer that
//! `INTEROP_REFERENCE` names.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::Trial;
use serde_json::json;

use crate::pair::Pair;
use crate::place::Kind;
use crate::table::{Scenario, scenarios};
use crate::{RING, TOKIO, lifecycle, trial, wheel};

/// The versions around [`wheel::PINNED`], which plays the whole table.
pub(crate) const VERSIONS: [&str; 2] = [wheel::OLDER, wheel::NIGHTLY];

/// What tells versions apart, and one of each kind.
const CHOSEN: &[&str] = &[
    "unary",
    "stream_of_0_items",
    "stream_of_10000_items",
    "request_of_1_mib",
    "request_of_30_mib",
    "answer_of_30_mib",
    "value_wide_numbers",
    "value_maps",
    "bare_null",
    "context",
    "ValueError_before_the_first_item",
    "RuntimeError_mid_stream",
    "failure_before_the_stream",
    "stop_mid_stream",
    "drop_mid_stream",
    "two_hundred_calls_at_once",
];

/// The tests of these versions.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for dynamo in VERSIONS.map(Kind::Dynamo) {
        for (caller, worker) in [(dynamo, RING), (dynamo, TOKIO), (RING, dynamo), (TOKIO, dynamo)] {
            let shared: Arc<Mutex<Option<Pair>>> = Arc::default();
            let name = format!("{}_calls_{}", caller.name(), worker.name());
            for scenario in chosen() {
                let (shared, name) = (Arc::clone(&shared), format!("{name}::{}", scenario.name));
                trials.push(trial(name, &[caller, worker], move || {
                    let mut pair = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    pair.get_or_insert_with(|| Pair::new(caller, worker, "msgpack")).play(&scenario);
                }));
            }
            // Workers of these versions have no such limit for an endpoint that serves no model.
            if worker.is_ours() {
                trials.push(trial(format!("{name}::overload"), &[caller, worker], move || {
                    lifecycle::overload(caller, worker, "msgpack");
                }));
            }
        }
    }
    let nightly = Kind::Dynamo(wheel::NIGHTLY);
    for worker in [RING, TOKIO] {
        let name = format!("{}_calls_{}::a_caller_with_a_bound_gives_a_queued_call_up", nightly.name(), worker.name());
        trials.push(trial(name, &[nightly, worker], move || a_queued_call_is_given_up(nightly, worker)));
    }
    trials
}

fn chosen() -> Vec<Scenario> {
    scenarios().into_iter().filter(|row| CHOSEN.contains(&row.name.as_str())).collect()
}

/// Dynamo 1.7 may bound the time to the prologue; a call that waits for its turn at ours has come home and says nothing there.
fn a_queued_call_is_given_up(caller: Kind, worker: Kind) {
    let env =
        [("DYN_BACKEND_ADMISSION_ENGINE_REQUEST_LIMIT", "1"), ("DYN_RESPONSE_STREAM_ESTABLISH_TIMEOUT_SECS", "1")];
    let mut pair = Pair::with(caller, worker, "msgpack", &env);
    pair.caller.tell(&json!({"call": "runs", "request": {"n": 2, "hang_at": 1}}));
    pair.worker.wait("hanging handler", |line| line["event"] == "hanging");
    pair.caller.tell(&json!({"call": "waits", "request": {"n": 1}}));
    let (items, ending) = pair.ending("waits");
    let said = ending["error"].as_str().unwrap_or_default();
    assert!(items.is_empty() && said.contains("did not establish its response stream"), "{ending}");
    // The one that runs is older than the bound, and goes on to its end.
    pair.caller.tell(&json!({"stop": "runs"}));
    let (items, ending) = pair.ending("runs");
    assert_eq!((items.len(), &ending["end"]), (1, &json!(1)), "{ending}");
    pair.caller.tell(&json!({"call": "next", "request": {"n": 1}}));
    let (_, ending) = pair.ending("next");
    assert_eq!(ending["end"], json!(1), "{ending}");
}

/// Prints the table: a row per scenario; per version a column for it as the caller and one for it as the worker.
pub(crate) fn print(versions: &str) {
    let reference = match std::env::var("INTEROP_REFERENCE").as_deref() {
        Ok("ringplane-io-uring") => Kind::Ours("io-uring"),
        Ok("ringplane-tokio") | Err(_) => Kind::Ours("tokio"),
        // One process, one list: the names live as long as it does.
        Ok(version) => Kind::Dynamo(Box::leak(version.trim_start_matches("dynamo-").into())),
    };
    let notes = notes();
    let rows = chosen();
    let mut columns = Vec::new();
    for version in versions.split(',') {
        let old = Kind::Dynamo(Box::leak(version.into()));
        for (caller, worker, heading) in
            [(old, reference, format!("{version} calls")), (reference, old, format!("{version} serves"))]
        {
            let cells = column(caller, worker, &rows, &heading, &notes);
            columns.push((heading, cells));
        }
    }
    let headings: Vec<_> = columns.iter().map(|(heading, _)| heading.as_str()).collect();
    println!("\n| {} and | {} |", reference.name(), headings.join(" | "));
    println!("|{}", "---|".repeat(headings.len() + 1));
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<_> = columns.iter().map(|(_, cells)| cells.get(at).copied().unwrap_or("")).collect();
        println!("| {} | {} |", row.name.replace('_', " "), cells.join(" | "));
    }
}

type Notes = Arc<Mutex<String>>;

/// Keeps what the last failed check said instead of printing it with its backtrace.
fn notes() -> Notes {
    let notes = Notes::default();
    let kept = Arc::clone(&notes);
    std::panic::set_hook(Box::new(move |info| {
        let said = info.payload_as_str().unwrap_or("?");
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = said.chars().take(600).collect();
    }));
    notes
}

/// Every scenario with one pair, which is replaced after a failure: a call may still hang in it.
fn column(caller: Kind, worker: Kind, rows: &[Scenario], heading: &str, notes: &Notes) -> Vec<&'static str> {
    let mut pair = None;
    let mut cells = Vec::new();
    for row in rows {
        let played = catch_unwind(AssertUnwindSafe(|| {
            pair.get_or_insert_with(|| Pair::new(caller, worker, "msgpack")).play(row);
        }));
        if played.is_err() {
            pair = None;
            let said = notes.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{heading}, {}: {}", row.name, said.replace('\n', " "));
        }
        cells.push(if played.is_ok() { "yes" } else { "no" });
    }
    cells
}
