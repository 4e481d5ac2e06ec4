//! The matrix of versions: `INTEROP_MATRIX=1.0.2,1.6.1 cargo test --test interop` plays chosen scenarios with those
//! wheels in both roles, against the peer that `INTEROP_REFERENCE` names, and prints a table instead of testing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::pair::Pair;
use crate::place::Kind;
use crate::table::{Scenario, scenarios};

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

/// Prints the table: a row per scenario; per version a column for it as the caller and one for it as the worker.
pub(crate) fn print(versions: &str) {
    let reference = match std::env::var("INTEROP_REFERENCE").as_deref() {
        Ok("ringplane-io-uring") => Kind::Ours("io-uring"),
        Ok("ringplane-tokio") | Err(_) => Kind::Ours("tokio"),
        // One process, one list: the names live as long as it does.
        Ok(version) => Kind::Dynamo(Box::leak(version.trim_start_matches("dynamo-").into())),
    };
    let notes = notes();
    let rows: Vec<Scenario> = scenarios().into_iter().filter(|row| CHOSEN.contains(&row.name.as_str())).collect();
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
