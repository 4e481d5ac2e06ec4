//! A tracker as its tasks see it: who is present, what is counted, and whom an error concerns.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringplane_core::retry::budget::Budget;
use ringplane_core::rng::Rng;
use ringplane_core::task::policy::{Failure, OnErrorPolicy, Verdict};
use ringplane_core::task::retry::{Attempts, Decision};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::seldom::Seldom;
use crate::task::clock::Clock;
use crate::task::door::Door;
use crate::task::stats::{Counts, End};

/// The bit of `present` that refuses further tasks.
const CLOSED: usize = 1;
/// What one task adds to it.
const ONE: usize = 2;
/// Places at which tasks wait for their tracker to be cancelled.
const SIGNALS: usize = 8;

/// A tracker. Its tasks are present in it and in all above it, so closing one closes the tree under it at once, and a tree
/// is over when its root counts nobody.
pub(super) struct Node {
    parent: Option<Arc<Self>>,
    /// Tasks here and below, times [`ONE`], and [`CLOSED`].
    present: AtomicUsize,
    over: Notify,
    pub(super) counts: Counts,
    pub(super) token: CancellationToken,
    /// Below the token. Tasks that have none of their own wait at these: several, so that threads seldom meet at one.
    signals: [CancellationToken; SIGNALS],
    /// Where tasks wait for a slot; `None` if none has to.
    pub(super) door: Option<Arc<Door>>,
    policy: Mutex<Box<dyn OnErrorPolicy>>,
    /// What further tries are paid from, shared with trackers below; `None` if they cost nothing.
    pub(super) budget: Option<Arc<Mutex<Budget>>>,
    watches_successes: bool,
    clock: Clock,
    failures: Seldom,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = self.present.load(Ordering::Relaxed) / ONE;
        f.debug_struct("Node").field("present", &present).field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Node {
    pub(super) fn new(
        parent: Option<Arc<Self>>,
        token: CancellationToken,
        door: Option<Arc<Door>>,
        policy: Box<dyn OnErrorPolicy>,
        budget: Option<Arc<Mutex<Budget>>>,
    ) -> Self {
        Self {
            parent,
            present: AtomicUsize::new(0),
            over: Notify::new(),
            counts: Counts::default(),
            signals: std::array::from_fn(|_| token.child_token()),
            token,
            door,
            watches_successes: policy.watches_successes(),
            policy: Mutex::new(policy),
            budget,
            clock: Clock::start(),
            failures: Seldom::new(),
        }
    }

    /// No further task here or below.
    pub(super) fn close(&self) {
        if self.present.fetch_or(CLOSED, Ordering::AcqRel) < ONE {
            self.over.notify_waiters();
        }
    }

    /// Closes, and cancels every task here and below.
    pub(super) fn cancel(&self) {
        self.close();
        self.token.cancel();
    }

    /// Whether this tracker or one above it takes no further task.
    pub(super) fn is_closed(&self) -> bool {
        self.ancestry().any(|node| node.present.load(Ordering::Acquire) & CLOSED != 0)
    }

    /// Where the task of that number hears that the tracker is cancelled.
    pub(super) fn signal(&self, task: u64) -> &CancellationToken {
        let [first, ..] = &self.signals;
        let index = usize::try_from(task % SIGNALS as u64).ok();
        index.and_then(|index| self.signals.get(index)).unwrap_or(first)
    }

    /// Whether this very tracker has been closed.
    pub(super) fn is_closed_itself(&self) -> bool {
        self.present.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Until it is closed and every task here and below has gone. Closing must come from elsewhere.
    pub(super) async fn wait(&self) {
        let mut over = pin!(self.over.notified());
        loop {
            over.as_mut().enable();
            if self.present.load(Ordering::Acquire) == CLOSED {
                return;
            }
            over.as_mut().await;
            over.set(self.over.notified());
        }
    }

    /// A task has ended well.
    pub(super) fn succeeded(&self) {
        if let Some(budget) = &self.budget {
            lock(budget).succeeded();
        }
        if self.watches_successes {
            let verdict = self.policy().on_success(self.clock.now());
            self.obey(verdict);
        }
    }

    /// A task has failed for good.
    pub(super) fn failed(&self, text: &dyn fmt::Display, attempt: u32, panicked: bool) {
        if panicked {
            tracing::error!(error = %text, "a task panicked");
        } else if let Some(failures) = self.failures.due(std::time::Instant::now()) {
            tracing::warn!(failures, error = %text, "a task failed");
        }
        let failure = Failure { text, attempt, panicked, now: self.clock.now() };
        let verdict = self.policy().on_error(&failure);
        self.obey(verdict);
    }

    /// What becomes of a task that has failed and asks for another try.
    pub(super) fn decide(&self, attempts: &mut Attempts, text: &dyn fmt::Display, rng: &mut Rng) -> Decision {
        let failure = Failure { text, attempt: attempts.number(), panicked: false, now: self.clock.now() };
        let allowed = self.policy().allow_continuation(&failure);
        let mut budget = self.budget.as_deref().map(lock);
        attempts.failed(allowed, budget.as_deref_mut(), rng)
    }

    /// The policy of a tracker below.
    pub(super) fn child_policy(&self) -> Box<dyn OnErrorPolicy> {
        self.policy().create_child()
    }

    fn policy(&self) -> MutexGuard<'_, Box<dyn OnErrorPolicy>> {
        lock(&self.policy)
    }

    fn obey(&self, verdict: Verdict) {
        if verdict == Verdict::Shutdown && !self.token.is_cancelled() {
            tracing::warn!("the error policy of a task tracker cancels its tasks");
            self.cancel();
        }
    }

    /// This tracker and those above it.
    fn ancestry(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |node| node.parent.as_deref())
    }

    pub(super) fn count(&self, count: impl Fn(&Counts)) {
        self.ancestry().for_each(|node| count(&node.counts));
    }

    /// One more task, if it is not closed.
    fn let_in(&self) -> bool {
        let more = |present| (present & CLOSED == 0).then(|| present + ONE);
        self.present.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// One task less.
    fn let_go(&self) {
        if self.present.fetch_sub(ONE, Ordering::AcqRel) == ONE | CLOSED {
            self.over.notify_waiters();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task's presence in a tracker and all above it. It is counted once when it ends, and has gone when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) node: Arc<Node>,
    pub(super) progress: Progress,
}

/// How far a task has come.
#[derive(Default, Debug)]
pub(super) struct Progress {
    started: bool,
    ended: bool,
}

impl Place {
    /// One more task; `None` if the tracker or one above it is closed, and then counted as rejected.
    pub(super) fn enter(node: &Arc<Node>) -> Option<Self> {
        node.count(Counts::issued);
        let inside = node.ancestry().take_while(|node| node.let_in()).count();
        if inside == node.ancestry().count() {
            return Some(Self { node: node.clone(), progress: Progress::default() });
        }
        node.count(|counts| counts.ended(End::Rejected, false));
        node.ancestry().take(inside).for_each(Node::let_go);
        None
    }
}

impl Progress {
    /// It has a slot.
    pub(super) fn start(&mut self, node: &Node) {
        self.started = true;
        node.count(Counts::started);
    }

    /// How it ended; only the first word counts.
    pub(super) fn end(&mut self, node: &Node, end: End) {
        if !std::mem::replace(&mut self.ended, true) {
            node.count(|counts| counts.ended(end, self.started));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Without a word it was aborted, or its destructor panicked.
        let end = if std::thread::panicking() { End::Panicked } else { End::Cancelled };
        self.progress.end(&self.node, end);
        self.node.ancestry().for_each(Node::let_go);
    }
}
