//! The tracker: spawning, closing, waiting.

use std::sync::Arc;

use ringplane_core::task::retry::Retry;
use tokio_util::sync::CancellationToken;

use crate::task::error::{TaskError, TaskStop};
use crate::task::handle::TaskHandle;
use crate::task::node::{Node, Place};
use crate::task::run::{Attempt, Job, OnCancel, TaskId, once, tries};
use crate::task::stats::TaskStats;

/// Spawns tasks on tokio and keeps track of them. Clones are the same tracker.
///
/// # How it ends
/// - [`close`](Self::close): no further task here or in trackers below; those there are go on.
/// - [`cancel`](Self::cancel): the same, and those there are get cancelled.
/// - [`join`](Self::join): closes, and waits until the last task here and below has been dropped.
/// - Dropping the last clone of a tracker that is not closed cancels it. Trackers below do not keep it.
///
/// A task spawned while the tracker closes is either refused ([`TaskError::TrackerClosed`](super::TaskError)) or waited for,
/// nothing in between; that holds for tasks of trackers below, and for trackers that are made then.
///
/// # Cancelling
/// A task ends with its tracker's token, or by its handle. One of [`spawn`](Self::spawn) or
/// [`spawn_retrying`](Self::spawn_retrying) is dropped where it waits, one of [`spawn_cancellable`](Self::spawn_cancellable)
/// sees it by the token it was given, below that of its tracker. A task that is cancelled counts as cancelled, not as failed,
/// and no policy hears of it.
///
/// # Panics
/// A panic is caught, logged, counted, shown to the error policy, and told by the task's handle.
#[derive(Clone, Debug)]
pub struct TaskTracker {
    owner: Arc<Owner>,
}

/// Held by all clones of a tracker, and by nothing below it.
#[derive(Debug)]
struct Owner(Arc<Node>);

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.0.is_closed_itself() {
            self.0.cancel();
        }
    }
}

impl TaskTracker {
    pub(super) fn of(node: Arc<Node>) -> Self {
        Self { owner: Arc::new(Owner(node)) }
    }

    /// Spawns a task. It is dropped where it waits when it is cancelled.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<T, E>(&self, task: impl Future<Output = Result<T, E>> + Send + 'static) -> TaskHandle<T>
    where
        T: Send + 'static,
        E: Into<TaskStop> + 'static,
    {
        let id = TaskId::next();
        let job = |place| Job { task, id, on_cancel: OnCancel::Drop, place };
        let running = Place::enter(self.node()).map(|place| tokio::spawn(once(job(place), None)));
        TaskHandle { running, id, token: None }
    }

    /// Spawns a task that looks at its token itself: it is never dropped for being cancelled once it runs, and says by
    /// [`TaskStop::Cancelled`] that it stopped for that. Only [`TaskHandle::abort`] and the end of the runtime drop it.
    ///
    /// ```
    /// use ringplane_tokio::task::{LogOnlyPolicy, TaskError, TaskStop, TaskTracker, UnlimitedScheduler};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let tracker = TaskTracker::new(UnlimitedScheduler, LogOnlyPolicy);
    /// let task = tracker.spawn_cancellable(|token| async move {
    ///     token.cancelled().await;
    ///     // Time to put things in order.
    ///     Err::<(), _>(TaskStop::Cancelled)
    /// });
    /// tokio::task::yield_now().await;
    /// tracker.cancel();
    /// assert!(matches!(task.await, Err(TaskError::Cancelled)));
    /// # });
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn_cancellable<T, E, F>(
        &self,
        task: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> TaskHandle<T>
    where
        T: Send + 'static,
        E: Into<TaskStop> + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        // What makes the future runs within the task, where a panic is caught.
        let task = |token: &CancellationToken| {
            let token = token.clone();
            async move { task(token).await }
        };
        self.start(task, OnCancel::Await, |job, token| once(job, Some(token)))
    }

    /// Spawns a task that is tried again when it asks for it with [`TaskStop::Again`], as often as `retry` says and the
    /// error policy allows. It stays the same task: it has one id and one place among those that are waited for, is counted
    /// once, and keeps its slot unless `retry` has it give the slot back. The policy hears of it when it has failed for good.
    ///
    /// ```
    /// use ringplane_tokio::task::{LogOnlyPolicy, Retry, SemaphoreScheduler, TaskStop, TaskTracker};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let tracker = TaskTracker::new(SemaphoreScheduler::new(1), LogOnlyPolicy);
    /// let task = tracker.spawn_retrying(Retry::default(), |attempt| async move {
    ///     if attempt.number < 3 {
    ///         return Err(TaskStop::again("not yet"));
    ///     }
    ///     Ok(attempt.number)
    /// });
    /// assert_eq!(task.await.unwrap(), 3);
    /// assert_eq!((tracker.stats().started, tracker.stats().retried), (1, 2));
    /// # });
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn_retrying<T, E, F>(
        &self,
        retry: Retry,
        task: impl FnMut(Attempt) -> F + Send + 'static,
    ) -> TaskHandle<T>
    where
        T: Send + 'static,
        E: Into<TaskStop> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.start(|_| task, OnCancel::Drop, move |job, token| tries(job, token, retry))
    }

    /// A task that is spawned by other means: on another runtime, in a `JoinSet`, on a thread with a local set. It counts from
    /// this call on, as one of [`spawn`](Self::spawn) does, until the future is dropped.
    ///
    /// ```
    /// use ringplane_tokio::task::{LogOnlyPolicy, TaskError, TaskStop, TaskTracker, UnlimitedScheduler};
    /// use tokio::task::JoinSet;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let tracker = TaskTracker::new(UnlimitedScheduler, LogOnlyPolicy);
    /// let mut tasks = JoinSet::new();
    /// tasks.spawn(tracker.track(async { Err::<(), _>(TaskStop::failed("no route")) }));
    /// assert!(matches!(tasks.join_next().await, Some(Ok(Err(TaskError::Failed(_))))));
    /// assert_eq!(tracker.stats().failed, 1);
    /// # });
    /// ```
    pub fn track<T, E: Into<TaskStop>, F: Future<Output = Result<T, E>>>(
        &self,
        task: F,
    ) -> impl Future<Output = Result<T, TaskError>> + use<T, E, F> {
        let (id, place) = (TaskId::next(), Place::enter(self.node()));
        async move {
            let place = place.ok_or(TaskError::TrackerClosed)?;
            once(Job { task, id, on_cancel: OnCancel::Drop, place }, None).await
        }
    }

    /// Takes no further task, here and below. Those there are go on.
    pub fn close(&self) {
        self.node().close();
    }

    /// Closes, and cancels every task here and below.
    pub fn cancel(&self) {
        self.node().cancel();
    }

    /// Closes, and waits until every task here and below has ended and been dropped. Any number of callers may wait. A task
    /// that waits for its own tracker waits for itself.
    pub async fn join(&self) {
        self.close();
        self.node().wait().await;
    }

    /// Whether this tracker, or one above it, takes no further task.
    pub fn is_closed(&self) -> bool {
        self.node().is_closed()
    }

    /// The tracker's own token. Cancelling it cancels the tasks here and below and does not close the tracker.
    pub fn cancellation_token(&self) -> &CancellationToken {
        &self.node().token
    }

    /// What has become of the tasks here and below.
    pub fn stats(&self) -> TaskStats {
        self.node().counts.read()
    }

    /// What gives its [`stats`](Self::stats) for as long as it has a clone, and keeps none.
    pub fn stats_while_alive(&self) -> impl Fn() -> Option<TaskStats> + Send + Sync + use<> {
        let owner = Arc::downgrade(&self.owner);
        move || Some(owner.upgrade()?.0.counts.read())
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.owner.0
    }

    fn start<T, W, R>(
        &self,
        task: impl FnOnce(&CancellationToken) -> W,
        on_cancel: OnCancel,
        run: impl FnOnce(Job<W>, CancellationToken) -> R,
    ) -> TaskHandle<T>
    where
        T: Send + 'static,
        R: Future<Output = Result<T, TaskError>> + Send + 'static,
    {
        let (id, token) = (TaskId::next(), self.node().token.child_token());
        let running = Place::enter(self.node())
            .map(|place| tokio::spawn(run(Job { task: task(&token), id, on_cancel, place }, token.clone())));
        TaskHandle { running, id, token: Some(token) }
    }
}
