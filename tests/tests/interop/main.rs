//! The real Dynamo against ours: every scenario of the table for every pair of a caller and a worker, each a test with a
//! name of its own, so that `cargo test --test interop dynamo` picks some. A Dynamo pair plays too: what the table
//! expects is what the original does.
//!
//! A peer that cannot be had makes its tests ignored, with the reason on stderr; with `CI` set it makes them fail.

mod bench;
mod cancel;
#[path = "../it/observe/collector.rs"]
#[expect(dead_code, reason = "the integration tests ask it for more")]
mod collector;
#[cfg(feature = "etcd")]
mod etcd;
mod events;
mod frontend;
mod http;
mod kv_events;
mod lifecycle;
mod load;
mod matrix;
mod metrics;
mod nats;
mod ours;
mod pair;
mod place;
mod process;
mod python;
mod records;
mod table;
mod traces;
mod web;
mod wheel;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Trial};

use crate::lifecycle::Lifecycle;
use crate::pair::Pair;
use crate::place::Kind;

const DYNAMO: Kind = Kind::Dynamo(wheel::PINNED);
const RING: Kind = Kind::Ours("io-uring");
const TOKIO: Kind = Kind::Ours("tokio");
const RING_HOME: Kind = Kind::Homely("io-uring");
const TOKIO_HOME: Kind = Kind::Homely("tokio");

/// Callers and workers that meet.
const PAIRS: [(Kind, Kind); 9] = [
    (DYNAMO, DYNAMO),
    (RING, RING),
    (TOKIO, TOKIO),
    (DYNAMO, RING),
    (DYNAMO, TOKIO),
    (RING, DYNAMO),
    (TOKIO, DYNAMO),
    (RING_HOME, TOKIO),
    (TOKIO_HOME, RING),
];
/// A caller, and the workers that are replaced by others under it.
const REPLACEMENTS: [(Kind, Kind, Kind); 4] =
    [(DYNAMO, DYNAMO, DYNAMO), (RING, RING, TOKIO), (DYNAMO, DYNAMO, RING), (RING, DYNAMO, TOKIO)];

/// Callers and workers under load for minutes.
const LONG: [(Kind, Kind); 2] = [(DYNAMO, RING), (TOKIO, DYNAMO)];

fn minutes(caller: Kind, worker: Kind) -> Trial {
    let name = format!("{}_calls_{}::minutes_of_mixed_load_without_a_leak", caller.name(), worker.name());
    trial(name, &[caller, worker], move || load::minutes_of_mixed_load(caller, worker, "msgpack"))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = words.as_slice()
        && first == place::AS_PEER
    {
        return ours::run(rest);
    }
    if let Ok(versions) = std::env::var("INTEROP_MATRIX") {
        matrix::print(&versions);
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    fetch_peers();
    // Those that take minutes begin first, each on a thread beside those of all others: they mostly wait.
    let mut trials: Vec<_> = LONG.iter().map(|(caller, worker)| minutes(*caller, *worker)).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    arguments.test_threads.get_or_insert(threads + LONG.len());
    for codec in ["msgpack", "json"] {
        for (caller, worker) in PAIRS {
            trials.extend(cell(caller, worker, codec));
        }
    }
    for (caller, old, new) in REPLACEMENTS {
        let name = format!("{}_calls_{}_replaced_by_{}", caller.name(), old.name(), new.name());
        trials.push(trial(name, &[caller, old, new], move || {
            lifecycle::rolling_replacement(caller, old, new, "msgpack");
        }));
    }
    for (caller, worker) in [(DYNAMO, RING), (DYNAMO, TOKIO), (RING, DYNAMO), (TOKIO, DYNAMO)] {
        let name = format!("{}_calls_{}::answers_over_quic_are_refused", caller.name(), worker.name());
        trials.push(trial(name, &[caller, worker], move || {
            lifecycle::answers_over_quic_are_refused(caller, worker, "msgpack");
        }));
    }
    for (caller, worker) in [(DYNAMO, DYNAMO), (RING, DYNAMO), (TOKIO, DYNAMO), (RING_HOME, TOKIO), (TOKIO_HOME, RING)]
    {
        let name = format!("{}_calls_{}::a_reader_that_pauses", caller.name(), worker.name());
        trials.push(trial(name, &[caller, worker], move || {
            lifecycle::a_reader_that_pauses(caller, worker, "msgpack");
        }));
    }
    trials.extend(matrix::trials());
    trials.extend(nats::trials().into_iter().chain(events::trials()));
    trials.extend(http::trials());
    trials.extend(kv_events::trials());
    trials.extend(records::trials());
    trials.extend(frontend::trials());
    trials.extend(python::trials());
    trials.extend(traces::trials());
    trials.extend(metrics::trials());
    trials.extend(bench::trials());
    #[cfg(feature = "etcd")]
    trials.extend(etcd::trials());
    let outcome = libtest_mimic::run(&arguments, trials).exit_code();
    nats::end();
    #[cfg(feature = "etcd")]
    etcd::end();
    outcome
}

/// Fetches all that is to be tested with, and says what cannot be had.
fn fetch_peers() {
    wheel::fetch(&[wheel::PINNED, wheel::OLDER, wheel::NIGHTLY, http::VERSION, wheel::FRONTEND, wheel::KV_EVENTS]);
    for version in [wheel::PINNED, wheel::OLDER, wheel::NIGHTLY] {
        if let Err(reason) = Kind::Dynamo(version).available() {
            eprintln!("no Dynamo {version} to test with, its tests are ignored: {reason}");
        }
    }
    for (version, what) in [(wheel::FRONTEND, "frontend of Dynamo"), (wheel::KV_EVENTS, "peer of KV events")] {
        if let Err(reason) = wheel::python(version) {
            eprintln!("no {what} to test with, its tests are ignored: {reason}");
        }
    }
}

/// The tests of one pair. They share two processes, which the first of them starts.
fn cell(caller: Kind, worker: Kind, codec: &'static str) -> Vec<Trial> {
    let shared: Arc<Mutex<Option<Pair>>> = Arc::default();
    let name = format!("{}_calls_{}::{codec}", caller.name(), worker.name());
    let mut trials = Vec::new();
    for scenario in table::scenarios() {
        if scenario.ours_only && !caller.is_ours() {
            continue;
        }
        let shared = Arc::clone(&shared);
        let name = format!("{name}::{}", scenario.name);
        let run = move || {
            let mut pair = shared.lock().unwrap_or_else(PoisonError::into_inner);
            pair.get_or_insert_with(|| Pair::new(caller, worker, codec)).play(&scenario);
        };
        trials.push(trial(name, &[caller, worker], run));
    }
    // A Dynamo caller written in Python has no request streams.
    let both_ways: &[Lifecycle] = &[("bidirectional_items", lifecycle::bidirectional_items)];
    let both_ways = if caller.is_ours() { both_ways } else { &[] };
    for (scenario, run) in lifecycle::ALL.iter().chain(both_ways) {
        let run = move || run(caller, worker, codec);
        trials.push(trial(format!("{name}::{scenario}"), &[caller, worker], run));
    }
    trials
}

/// A test that is ignored where a peer is missing. Machines that judge a change must have them all.
fn trial(name: String, needs: &[Kind], run: impl FnOnce() + Send + 'static) -> Trial {
    trial_or(None, name, needs, run)
}

/// The same, if something else is missing already.
fn trial_or(missing: Option<String>, name: String, needs: &[Kind], run: impl FnOnce() + Send + 'static) -> Trial {
    let missing = missing.or_else(|| needs.iter().find_map(|kind| kind.available().err()));
    match missing {
        Some(reason) if std::env::var_os("CI").is_some() => Trial::test(name, move || Err(reason.into())),
        Some(_) => Trial::test(name, || Ok(())).with_ignored_flag(true),
        None => Trial::test(name, || {
            run();
            Ok(())
        }),
    }
}
