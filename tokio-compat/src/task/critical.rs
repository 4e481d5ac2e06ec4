//! A task that nothing goes on without.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use ringplane_core::chain::Chain;
use tokio_util::sync::CancellationToken;

use crate::task::error::{TaskError, TaskStop};
use crate::task::handle::TaskHandle;
use crate::task::tracker::TaskTracker;

/// Why a critical task has ended its tracker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CriticalError {
    /// The name it was spawned by.
    pub name: String,
    /// The error with all its sources, or what the panic said.
    pub why: String,
    /// Whether it has panicked.
    pub panicked: bool,
}

impl fmt::Display for CriticalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.panicked { "panicked" } else { "failed" };
        write!(f, "the critical task `{}` {how}: {}", self.name, self.why)
    }
}

impl std::error::Error for CriticalError {}

/// A task whose failure or panic cancels its tracker, and with it the token that the tracker was made with: once, before
/// anybody hears that the task has ended, and with the reason kept. Dropping this changes nothing of that.
///
/// ```
/// use ringplane_tokio::task::{CancellationToken, TaskStop, TaskTracker};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let process = CancellationToken::new();
/// let tracker = TaskTracker::builder().cancellation_token(process.clone()).build();
/// let lease = tracker.spawn_critical("lease", |_| async { Err::<(), _>(TaskStop::failed("the registry is gone")) });
/// process.cancelled().await;
/// let reason = lease.join().await.unwrap_err();
/// assert_eq!(reason.to_string(), "the critical task `lease` failed: the registry is gone");
/// # });
/// ```
#[derive(Debug)]
pub struct CriticalTask {
    handle: TaskHandle<()>,
    reason: Arc<OnceLock<CriticalError>>,
}

impl CriticalTask {
    /// Cancels the task, and nothing else. A task that stops for that has not failed.
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Why it has ended its tracker; `None` if it has not.
    pub fn reason(&self) -> Option<&CriticalError> {
        self.reason.get()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It has failed or panicked. Being cancelled, or refused by a tracker that was closed, is none.
    pub async fn join(self) -> Result<(), CriticalError> {
        let Self { handle, reason } = self;
        drop(handle.await);
        reason.get().cloned().map_or(Ok(()), Err)
    }

    /// Lets it run on unseen; the same as dropping it.
    pub fn detach(self) {}
}

impl TaskTracker {
    /// Spawns a task that nothing goes on without: if it fails or panics, this tracker is cancelled. It looks at its token
    /// itself, as one of [`TaskTracker::spawn_cancellable`] does.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn_critical<E, F>(
        &self,
        name: impl Into<String>,
        task: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> CriticalTask
    where
        E: Into<TaskStop> + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (reason, node, name) = (Arc::new(OnceLock::new()), self.node().clone(), name.into());
        let kept = reason.clone();
        let fail = move |why: String, panicked| {
            tracing::error!(task = name, panicked, error = why, "a critical task has ended");
            // Nobody else sets it: there is one such task, and it fails once.
            let _: Result<(), CriticalError> = kept.set(CriticalError { name, why, panicked });
            node.cancel();
        };
        let handle = self.spawn_cancellable(move |token| watched(task, token, fail));
        CriticalTask { handle, reason }
    }
}

/// Runs a critical task and says how it failed before anybody else can.
async fn watched<E: Into<TaskStop>, F: Future<Output = Result<(), E>>>(
    task: impl FnOnce(CancellationToken) -> F,
    token: CancellationToken,
    fail: impl FnOnce(String, bool),
) -> Result<(), TaskStop> {
    let mut running = pin!(async { task(token).await });
    let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(payload)),
    });
    match ended.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(stop)) => {
            let stop = stop.into();
            if let TaskStop::Failed(error) | TaskStop::Again(error) = &stop {
                fail(Chain(error.as_ref()).to_string(), false);
            }
            Err(stop)
        }
        Err(payload) => {
            if let TaskError::Panicked(text) = TaskError::panicked(&*payload) {
                fail(text, true);
            }
            resume_unwind(payload)
        }
    }
}
