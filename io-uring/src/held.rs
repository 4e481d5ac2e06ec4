//! Tells the operator which handler held the thread.

use ringplane_core::local::Env;
use ringplane_core::time::Instant;

/// The tasks of a turn have run.
pub(crate) fn rested(env: &Env, now: Instant) {
    if let Some(held) = env.pace().rest(now) {
        let (endpoint, took, others) = (held.endpoint.as_deref().unwrap_or("none"), held.took, held.others);
        tracing::warn!(endpoint, ?took, others, "a task held its core; nobody else was served there meanwhile");
    }
}
