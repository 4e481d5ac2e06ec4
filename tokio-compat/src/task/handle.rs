//! A task from outside.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::task::error::TaskError;
use crate::task::run::TaskId;

/// A task of a tracker: a future of its result. Dropping it lets the task run on.
#[derive(Debug)]
#[must_use = "a handle says how the task ended; drop it to let the task run on unseen"]
pub struct TaskHandle<T> {
    /// `None` if the tracker took no task.
    pub(super) running: Option<JoinHandle<Result<T, TaskError>>>,
    pub(super) id: TaskId,
    /// `None` if it was given none.
    pub(super) token: Option<CancellationToken>,
}

impl<T> TaskHandle<T> {
    /// Which task this is.
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// Cancels the task: it ends with [`TaskError::Cancelled`], unless it has ended already or looks at its token itself and
    /// does otherwise.
    pub fn cancel(&self) {
        match &self.token {
            Some(token) => token.cancel(),
            None => self.abort(),
        }
    }

    /// Drops the task where it waits, even one that looks at its token itself. It ends with [`TaskError::Cancelled`].
    pub fn abort(&self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The token that the task was given, below that of its tracker. `None` for one of [`spawn`](super::TaskTracker::spawn), which is
    /// given none: it ends by [`cancel`](Self::cancel).
    pub const fn cancellation_token(&self) -> Option<&CancellationToken> {
        self.token.as_ref()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.running else { return Poll::Ready(Err(TaskError::TrackerClosed)) };
        Pin::new(running).poll(cx).map(|joined| match joined {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(payload) => Err(TaskError::panicked(&*payload)),
                Err(_) => Err(TaskError::Cancelled),
            },
        })
    }
}
