//! The places of calls that run and wait.

use alloc::collections::VecDeque;

use crate::worker::job::JobId;

/// The places of one worker.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Calls that run.
    pub(super) running: usize,
    /// Calls that wait for one of those to finish.
    pub(super) queue: VecDeque<JobId>,
}

/// The places that calls from one connection hold.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    pub(super) running: u32,
    pub(super) queued: u32,
}

impl Admission {
    /// Calls running and waiting.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.running, self.queue.len())
    }
}
