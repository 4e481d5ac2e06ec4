//! Tasks on tokio that are kept track of.
//!
//! A [`TaskTracker`] spawns tasks, lets them in by a scheduler, counts how each ended, and cancels what is left when its
//! error policy says so. Trackers below it share its end: what closes or cancels a tracker closes or cancels the tree under
//! it, and [`TaskTracker::join`] waits for all of it. Policies, schedulers and retry decisions are machines of
//! [`ringplane_core::task`].
//!
//! ```
//! use ringplane_tokio::task::{LogOnlyPolicy, SemaphoreScheduler, TaskError, TaskTracker};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let tracker = TaskTracker::new(SemaphoreScheduler::new(8), LogOnlyPolicy);
//! let four = tracker.spawn(async { Ok::<_, std::io::Error>(2 + 2) });
//! let never = tracker.spawn(async { std::future::pending::<std::io::Result<()>>().await });
//! never.cancel();
//! assert_eq!(four.await.unwrap(), 4);
//! assert!(matches!(never.await, Err(TaskError::Cancelled)));
//! tracker.join().await;
//! let stats = tracker.stats();
//! assert_eq!((stats.ok, stats.cancelled, stats.pending()), (1, 1, 0));
//! # });
//! ```

mod builder;
mod clock;
mod critical;
mod door;
mod error;
mod handle;
mod node;
mod publish;
#[cfg(test)]
mod random_tests;
mod run;
mod stats;
#[cfg(test)]
mod tests;
mod tracker;
mod trigger;

pub use builder::TaskTrackerBuilder;
pub use critical::{CriticalError, CriticalTask};
pub use error::{BoxError, TaskError, TaskStop};
pub use handle::TaskHandle;
pub use publish::{Due, publish};
pub use ringplane_core::retry::{backoff, budget};
pub use ringplane_core::task::policy::{
    CancelOnError, Failure, LogOnlyPolicy, OnErrorPolicy, Rate, RateCancelPolicy, ThresholdCancelPolicy, TriggerPolicy,
    Verdict,
};
pub use ringplane_core::task::publisher::{self, PublisherStats};
pub use ringplane_core::task::retry::{Retry, Slot};
pub use ringplane_core::task::schedule::{RateScheduler, SemaphoreScheduler, TaskScheduler, UnlimitedScheduler};
pub use run::{Attempt, TaskId};
pub use stats::TaskStats;
pub use tokio_util::sync::CancellationToken;
pub use tracker::TaskTracker;
pub use trigger::trigger_cancellation_token;
