//! How the tasks of a tracker have fared, counted without locks.

use std::sync::atomic::{AtomicU64, Ordering};

use ringplane_core::stats::counters;

counters! {
    /// What has become of the tasks of a tracker and of those below it. Once [`join`](super::TaskTracker::join) has returned,
    /// `issued` is the sum of `ok`, `failed`, `cancelled`, `panicked` and `rejected`.
    pub struct TaskStats {
        /// Tasks handed to the tracker.
        pub issued,
        /// Tasks that got a slot, each once, however often it was tried.
        pub started,
        /// Further tries of tasks that asked for one.
        pub retried,
        /// Further tries that the retry budget had no room for; their tasks have failed.
        pub unaffordable,
        /// Tasks that ended well.
        pub ok,
        /// Tasks that ended with an error.
        pub failed,
        /// Tasks that were cancelled or aborted, waiting or running.
        pub cancelled,
        /// Tasks that panicked.
        pub panicked,
        /// Tasks that were refused: the tracker was closed, or too many waited.
        pub rejected,
        /// Tasks that ended without having started: the rejected ones, and those cancelled while they waited.
        pub unstarted,
    }
}

impl TaskStats {
    /// Tasks that have ended, in whatever way.
    pub const fn completed(&self) -> u64 {
        self.ok + self.failed + self.cancelled + self.panicked + self.rejected
    }

    /// Tasks that have not ended.
    pub const fn pending(&self) -> u64 {
        self.issued.saturating_sub(self.completed())
    }

    /// Tasks that run.
    pub const fn active(&self) -> u64 {
        self.started.saturating_sub(self.completed().saturating_sub(self.unstarted))
    }

    /// Tasks that wait for their scheduler.
    pub const fn queued(&self) -> u64 {
        self.issued.saturating_sub(self.started.saturating_add(self.unstarted))
    }
}

/// How a task ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    Ok,
    Failed,
    Cancelled,
    Panicked,
    Rejected,
}

/// [`TaskStats`] while they are counted.
#[derive(Default, Debug)]
pub(super) struct Counts {
    issued: AtomicU64,
    started: AtomicU64,
    retried: AtomicU64,
    unaffordable: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
    rejected: AtomicU64,
    unstarted: AtomicU64,
}

impl Counts {
    pub(super) fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unaffordable(&self) {
        self.unaffordable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, end: End, started: bool) {
        if !started {
            self.unstarted.fetch_add(1, Ordering::Relaxed);
        }
        let counter = match end {
            End::Ok => &self.ok,
            End::Failed => &self.failed,
            End::Cancelled => &self.cancelled,
            End::Panicked => &self.panicked,
            End::Rejected => &self.rejected,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends are read before beginnings, so that a task in between counts as pending and nothing as less than none.
    pub(super) fn read(&self) -> TaskStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (ok, failed, cancelled) = (get(&self.ok), get(&self.failed), get(&self.cancelled));
        let (panicked, rejected, unstarted) = (get(&self.panicked), get(&self.rejected), get(&self.unstarted));
        let (unaffordable, retried) = (get(&self.unaffordable), get(&self.retried));
        let (started, issued) = (get(&self.started), get(&self.issued));
        TaskStats { issued, started, retried, unaffordable, ok, failed, cancelled, panicked, rejected, unstarted }
    }
}
