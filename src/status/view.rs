//! What is told of a process at `/status.json`, for programs: the tool's `top`, and yours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A process at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessView {
    /// The version of the library.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long the status server has run, in milliseconds.
    pub uptime_ms: u64,
    /// Whether every core responds.
    pub live: bool,
    /// Whether it may get traffic.
    pub ready: bool,
    /// Why it is not live or not ready.
    pub why: Option<String>,
    /// Whether endpoints can be drained and resumed by a POST.
    pub manage: bool,
    /// Its workers and clients, in the order in which they came.
    pub parts: Vec<PartView>,
    /// The last errors, the newest first.
    pub errors: Vec<ErrorView>,
    /// How many errors there have been.
    pub errors_total: u64,
}

/// A worker or a client.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartView {
    /// `worker` or `client`.
    pub kind: String,
    /// The address callers dial, or a number.
    pub name: String,
    /// The driver that runs, and why that one; nothing as long as none runs, and of a client on a worker's threads.
    pub driver: Option<String>,
    /// Threads, with one event loop each.
    pub threads: usize,
    /// Whether the numbers are of this moment: not if a core does not answer.
    pub current: bool,
    /// The endpoints that it serves.
    pub endpoints: Vec<EndpointView>,
    /// The instances that it calls.
    pub instances: Vec<InstanceRow>,
    /// How many endpoints and instances are left out.
    pub left_out: usize,
    /// What happens per second, as far as it has been looked at twice.
    pub rates: Option<Rates>,
    /// Every number of its [`Snapshot`](crate::Snapshot), by `group.name`.
    pub numbers: BTreeMap<String, u64>,
}

impl PartView {
    /// One number of its snapshot: `served.admitted`.
    pub fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// Whether it serves.
    pub fn is_worker(&self) -> bool {
        self.kind == "worker"
    }
}

/// What happens per second.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rates {
    /// The time they are about, in milliseconds.
    pub window_ms: u64,
    /// Calls: those that a worker admitted, or that a client made.
    pub calls: f64,
    /// Those that ended badly: refused, expired or cut off by a worker, failed at a client.
    pub failed: f64,
    /// The time that half of the calls took at most, in microseconds; nothing if there was none. That of a worker is from the
    /// admission of a request to its end, that of a client from the call to its outcome.
    pub p50_us: Option<u64>,
    /// The time that 99 of 100 took at most.
    pub p99_us: Option<u64>,
    /// Tries after the first.
    pub retries: f64,
    /// Bytes received.
    pub bytes_in: f64,
    /// Bytes written.
    pub bytes_out: f64,
}

/// An endpoint that is served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndpointView {
    /// `namespace.component.endpoint`.
    pub name: String,
    /// In one word: `ready`, `starting`, `drained` and the like.
    pub state: String,
    /// Why it is so.
    pub why: String,
    /// Whether callers are to be sent to it.
    pub ready: bool,
}

/// An instance that is called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceRow {
    /// The endpoint that it is of.
    pub endpoint: String,
    /// Which one, in hexadecimal.
    pub id: String,
    /// Where it is.
    pub address: String,
    /// What is spoken with it.
    pub protocol: String,
    /// Where it stands: `routable`, `suspect` and the like.
    pub state: String,
    /// Why it stands there.
    pub why: String,
    /// For how much longer, in milliseconds.
    pub remaining_ms: Option<u64>,
    /// Calls to it that are not over.
    pub in_flight: u32,
    /// How many threads know it, and how many of those prefer others to it.
    pub seen_by: u32,
    /// See there.
    pub avoided_by: u32,
}

/// An error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorView {
    /// When it came last, in milliseconds since 1970.
    pub at_ms: u64,
    /// The endpoint, or whatever else it is about.
    pub place: String,
    /// What it says.
    pub text: String,
    /// How often it came in a row.
    pub count: u64,
}
