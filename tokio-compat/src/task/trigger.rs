//! A policy that ends something else.

use ringplane_core::task::policy::TriggerPolicy;
use tokio_util::sync::CancellationToken;

/// At failure number `after` of a tracker's tasks, cancels `token` and then the tracker; 0 counts as 1.
///
/// ```
/// use ringplane_tokio::task::{CancellationToken, TaskStop, TaskTracker, UnlimitedScheduler, trigger_cancellation_token};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let server = CancellationToken::new();
/// let tracker = TaskTracker::new(UnlimitedScheduler, trigger_cancellation_token(server.clone(), 2));
/// for left in [false, true] {
///     let task = tracker.spawn(async { Err::<(), _>(TaskStop::failed("no route")) });
///     assert!(task.await.is_err());
///     assert_eq!(server.is_cancelled(), left);
/// }
/// # });
/// ```
pub fn trigger_cancellation_token(
    token: CancellationToken,
    after: u32,
) -> TriggerPolicy<impl FnMut() + Clone + Send + 'static> {
    TriggerPolicy::new(after, move || token.cancel())
}
