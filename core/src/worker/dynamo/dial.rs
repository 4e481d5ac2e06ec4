//! What a worker keeps beside a connection it dials home.

use core::net::SocketAddr;

use crate::time::Instant;
use crate::worker::job::JobId;

/// What a worker keeps beside a connection it dials home.
#[derive(Debug)]
pub(in crate::worker) struct Home {
    /// Whose response it brings, or whose request items it fetches; `None` once that is settled, and for a refusal.
    pub(in crate::worker) job: Option<JobId>,
    /// It brings a refusal: it counts against `max_refusals`.
    pub(super) refusal: bool,
    pub(super) addr: SocketAddr,
    pub(super) dial: Dial,
    pub(super) tries: u32,
}

/// ```text
///  Dialing ──up──▶ Done
///    ▲  └──no descriptor, no port──▶ Pausing (a new name, the same stream)
///    └───────────redial_pause──────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Dial {
    Dialing { since: Instant },
    Pausing { until: Instant },
    Done,
}
