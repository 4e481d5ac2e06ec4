//! The same table with workers that are found through etcd. In builds with the feature `etcd`.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::Trial;
use ringplane_servers::etcd::Etcd;

use crate::pair::Pair;
use crate::place::Kind;
use crate::{DYNAMO, RING, TOKIO, records, table, trial_or};

/// Callers and workers that meet there.
const PAIRS: [(Kind, Kind); 5] = [(DYNAMO, DYNAMO), (DYNAMO, RING), (DYNAMO, TOKIO), (RING, DYNAMO), (TOKIO, DYNAMO)];

/// The etcd that the tests share, or nothing if there is none.
static SERVER: OnceLock<Mutex<Option<Etcd>>> = OnceLock::new();

/// Where clients connect to it.
fn endpoint() -> Option<String> {
    let server = SERVER.get_or_init(|| Mutex::new(Etcd::start())).lock().unwrap_or_else(PoisonError::into_inner);
    server.as_ref().and_then(|server| server.url().strip_prefix("etcd:")).map(str::to_owned)
}

/// Ends it.
pub(crate) fn end() {
    if let Some(server) = SERVER.get() {
        server.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// All tests through etcd. Each pair has its own namespace: they share the keys.
pub(crate) fn trials() -> Vec<Trial> {
    let missing = endpoint().is_none().then(|| "no etcd".to_owned());
    let name = "records::models_and_publishers_of_dynamo_are_read_and_watched_through_etcd".to_owned();
    let seen = || records::dynamos_are_seen_through_etcd(&endpoint().unwrap());
    let mut trials = vec![trial_or(missing.clone(), name, &[DYNAMO], seen)];
    for (caller, worker) in PAIRS {
        for codec in ["msgpack", "json"] {
            let shared: Arc<Mutex<Option<Pair>>> = Arc::default();
            let name = format!("{}_calls_{}_through_etcd::{codec}", caller.name(), worker.name());
            let place = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
            for scenario in table::scenarios() {
                if scenario.ours_only && !caller.is_ours() {
                    continue;
                }
                let (shared, serves) = (Arc::clone(&shared), format!("{place}.backend.generate"));
                trials.push(trial_or(
                    missing.clone(),
                    format!("{name}::{}", scenario.name),
                    &[caller, worker],
                    move || {
                        let mut pair = shared.lock().unwrap_or_else(PoisonError::into_inner);
                        let etcd = endpoint().unwrap();
                        let env = [("DYN_DISCOVERY_BACKEND", "etcd"), ("ETCD_ENDPOINTS", etcd.as_str())];
                        pair.get_or_insert_with(|| Pair::at(&serves, caller, worker, codec, &env)).play(&scenario);
                    },
                ));
            }
        }
    }
    trials
}
