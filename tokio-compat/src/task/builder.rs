//! How a tracker is made.

use std::fmt;
use std::sync::{Arc, Mutex};

use ringplane_core::retry::budget::{self, Budget};
use ringplane_core::task::policy::{LogOnlyPolicy, OnErrorPolicy};
use ringplane_core::task::schedule::{MAX_WAITING, TaskScheduler, UnlimitedScheduler};
use tokio_util::sync::CancellationToken;

use crate::task::door::Door;
use crate::task::node::Node;
use crate::task::tracker::TaskTracker;

/// Makes a tracker, alone or below another. What is not said is inherited from the tracker above; without one, tasks run at
/// once and failures are logged.
#[must_use = "nothing is made before `build`"]
pub struct TaskTrackerBuilder {
    pub(super) parent: Option<Arc<Node>>,
    pub(super) scheduler: Option<Box<dyn TaskScheduler>>,
    pub(super) policy: Option<Box<dyn OnErrorPolicy>>,
    pub(super) token: Option<CancellationToken>,
    pub(super) budget: Option<budget::Config>,
    pub(super) max_waiting: usize,
}

impl fmt::Debug for TaskTrackerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskTrackerBuilder").field("max_waiting", &self.max_waiting).finish_non_exhaustive()
    }
}

impl TaskTracker {
    /// A tracker with nothing above it.
    pub fn new(scheduler: impl TaskScheduler + 'static, policy: impl OnErrorPolicy + 'static) -> Self {
        Self::builder().scheduler(scheduler).error_policy(policy).build()
    }

    /// Makes a tracker with nothing above it.
    pub fn builder() -> TaskTrackerBuilder {
        TaskTrackerBuilder::new(None)
    }

    /// A tracker below this one: it shares the scheduler, has a policy configured the same with nothing counted, and its
    /// tasks are counted here too. Its policy cancels it alone. Below a closed tracker it takes no task.
    pub fn child_tracker(&self) -> Self {
        self.child_tracker_builder().build()
    }

    /// Makes a tracker below this one with a scheduler or a policy of its own.
    pub fn child_tracker_builder(&self) -> TaskTrackerBuilder {
        TaskTrackerBuilder::new(Some(self.node().clone()))
    }
}

impl TaskTrackerBuilder {
    pub(super) fn new(parent: Option<Arc<Node>>) -> Self {
        Self { parent, scheduler: None, policy: None, token: None, budget: None, max_waiting: MAX_WAITING }
    }

    /// When tasks may run. Default: that of the tracker above, shared with it; else [`UnlimitedScheduler`].
    pub fn scheduler(mut self, scheduler: impl TaskScheduler + 'static) -> Self {
        self.scheduler = Some(Box::new(scheduler));
        self
    }

    /// What failures lead to. Default: what the policy of the tracker above makes for those below it; else [`LogOnlyPolicy`].
    pub fn error_policy(mut self, policy: impl OnErrorPolicy + 'static) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// The tracker's own token, which it cancels when it is cancelled; tasks have tokens below it. Default: one below that of
    /// the tracker above; else a new one. A token that is given is not tied to the tracker above: it must be made below it
    /// for that.
    pub fn cancellation_token(mut self, token: CancellationToken) -> Self {
        self.token = Some(token);
        self
    }

    /// What further tries of tasks are paid from, here and below: each failure that asks for one takes a token, each task that
    /// ends well puts a part of one back, and while the bucket is half full or less no task is tried again
    /// ([`TaskError::Unaffordable`](super::TaskError::Unaffordable)). Default: that of the tracker above, shared with it; else further tries cost nothing.
    ///
    /// ```
    /// use ringplane_tokio::task::{Retry, TaskError, TaskStop, TaskTracker, budget};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let two = budget::Config { max_tokens: 2, ..budget::Config::default() };
    /// let tracker = TaskTracker::builder().retry_budget(two).build();
    /// let task = tracker.spawn_retrying(Retry::default(), |_| async { Err::<(), _>(TaskStop::again("not yet")) });
    /// assert!(matches!(task.await, Err(TaskError::Unaffordable(_))));
    /// # });
    /// ```
    pub const fn retry_budget(mut self, config: budget::Config) -> Self {
        self.budget = Some(config);
        self
    }

    /// How many tasks may wait for the scheduler given here; one more is rejected. Default 1,048,576.
    pub const fn max_waiting(mut self, tasks: usize) -> Self {
        self.max_waiting = tasks;
        self
    }

    /// The tracker.
    pub fn build(self) -> TaskTracker {
        let parent = self.parent.as_deref();
        let door = match (self.scheduler, parent) {
            (Some(scheduler), _) => Door::new(scheduler, self.max_waiting),
            (None, Some(parent)) => parent.door.clone(),
            (None, None) => Door::new(Box::new(UnlimitedScheduler), self.max_waiting),
        };
        let policy = self.policy.or_else(|| parent.map(Node::child_policy)).unwrap_or_else(|| Box::new(LogOnlyPolicy));
        let token = self.token.or_else(|| parent.map(|parent| parent.token.child_token())).unwrap_or_default();
        let own = self.budget.map(|config| Arc::new(Mutex::new(Budget::new(config))));
        let budget = own.or_else(|| parent?.budget.clone());
        TaskTracker::of(Arc::new(Node::new(self.parent, token, door, policy, budget)))
    }
}
