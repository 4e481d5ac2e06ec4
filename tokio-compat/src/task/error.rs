//! What a task may say when it stops, and what is told of it.

use std::fmt;

/// Any error that a task may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a task stops without a result. Every error turns into [`TaskStop::Failed`] by `?`.
#[derive(Debug)]
pub enum TaskStop {
    /// It has seen that it is cancelled.
    Cancelled,
    /// It has failed.
    Failed(BoxError),
    /// It has failed and asks to be tried again: [`spawn_retrying`](super::TaskTracker::spawn_retrying) does so as long as
    /// the task's [`Retry`](super::Retry) and the tracker's policy allow; elsewhere it has failed.
    Again(BoxError),
}

impl TaskStop {
    /// It has failed.
    pub fn failed(error: impl Into<BoxError>) -> Self {
        Self::Failed(error.into())
    }

    /// It has failed and asks to be tried again.
    pub fn again(error: impl Into<BoxError>) -> Self {
        Self::Again(error.into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for TaskStop {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Why there is no result of a task.
#[derive(Debug)]
#[non_exhaustive]
pub enum TaskError {
    /// It was cancelled or aborted, or its runtime has ended.
    Cancelled,
    /// It ended with this error.
    Failed(BoxError),
    /// It ended with this error and asked to be tried again, for which the [retry budget](super::TaskTrackerBuilder::retry_budget) had no
    /// room.
    Unaffordable(BoxError),
    /// It panicked, and said this.
    Panicked(String),
    /// It never ran: its tracker, or one above it, was closed.
    TrackerClosed,
    /// It never ran, or not again: so many tasks wait already for its scheduler.
    Rejected {
        /// The bound.
        max_waiting: usize,
    },
}

impl TaskError {
    /// Whether the task ended because it was told to.
    pub const fn is_cancellation(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether the task ran and failed or panicked.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Unaffordable(_) | Self::Panicked(_))
    }

    /// What a panic said.
    pub(super) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no text").to_owned())
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Failed(_) => f.write_str("the task failed"),
            Self::Unaffordable(_) => f.write_str("the task failed, and the retry budget has no room for another try"),
            Self::Panicked(text) => write!(f, "the task panicked: {text}"),
            Self::TrackerClosed => f.write_str("the tracker of the task is closed"),
            Self::Rejected { max_waiting } => write!(f, "{max_waiting} tasks wait already for this scheduler"),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) | Self::Unaffordable(error) => Some(error.as_ref()),
            Self::Cancelled | Self::Panicked(_) | Self::TrackerClosed | Self::Rejected { .. } => None,
        }
    }
}
