//! The tool's load on Dynamo's worker and on ours: both count it to the last item.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::place::{ENDPOINT, Kind, Place};
use crate::{DYNAMO, RING, trial_or};

/// Calls that count, those before them, and the items of each.
const CALLS: u64 = 40;
const WARM_UP: u64 = 3;
const ITEMS: u64 = 7;

pub(crate) fn trials() -> Vec<Trial> {
    let tool = tool();
    let trial = |kind: Kind| {
        let (missing, tool) = (tool.clone().err(), tool.clone().unwrap_or_default());
        let name = format!("bench_calls_{}::every_call_and_item_is_counted", kind.name());
        trial_or(missing, name, &[kind], move || every_call_and_item_is_counted(kind, &mut Command::new(tool)))
    };
    [DYNAMO, RING].map(trial).into()
}

/// The tool that the tests of the whole workspace are built with.
fn tool() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let tool = own.ancestors().nth(2).map(|folder| folder.join("ringplane")).unwrap_or_default();
    if tool.is_file() { Ok(tool) } else { Err(format!("{} is not built", tool.display())) }
}

fn every_call_and_item_is_counted(kind: Kind, tool: &mut Command) {
    let place = Place::new("msgpack");
    let mut worker = place.worker(kind, ENDPOINT, &[]);
    let discovery = format!("file:{}", place.discovery().display());
    let request = json!({ "n": ITEMS }).to_string();
    let (calls, warm_up) = (CALLS.to_string(), WARM_UP.to_string());
    let load = ["--calls", &calls, "--warm-up", &warm_up, "--concurrency", "8", "--timeout", "60s"];
    let tool = tool.args(["bench", ENDPOINT, &request, "--annotated", "--json", "--discovery", &discovery]).args(load);
    let output = tool.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}; {}", worker.said());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["calls", "items", "failed", "unfinished"].map(|name| found[name].as_u64().unwrap());
    assert_eq!(counts, [CALLS, CALLS * ITEMS, 0, 0], "{found}");
    // The worker has seen as many, and none of them twice.
    for _ in 0..CALLS + WARM_UP {
        worker.wait_for("event", "request");
        worker.wait_for("event", "ended");
    }
    assert!(!worker.seen(|line| line["event"] == "request"), "{}", worker.said());
}
