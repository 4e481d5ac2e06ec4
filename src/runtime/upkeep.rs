//! What a worker, a client or an events plane does in the background on tokio: tasks under one tracker.

use std::pin::pin;
use std::time::Duration;

use ringplane_tokio::task::{LogOnlyPolicy, TaskStats, TaskStop, TaskTracker, UnlimitedScheduler};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How long a shutdown waits for tasks that do not give way.
const FAREWELL: Duration = Duration::from_secs(5);

/// The background tasks of one object. Clones are the same, and the last one that is dropped cancels them.
///
/// Each is dropped where it waits when it is cancelled. A panic is logged and counted, and ends that task alone.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Upkeep {
    /// That of an object whose tasks run on `runtime`.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { tracker: TaskTracker::new(UnlimitedScheduler, LogOnlyPolicy), runtime }
    }

    /// That of an object which ends with this one, or earlier.
    pub(crate) fn below(&self) -> Self {
        Self { tracker: self.tracker.child_tracker(), runtime: self.runtime.clone() }
    }

    /// Runs a task; `None` if it was cancelled, refused as all has ended, or has panicked.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.runtime.spawn(self.track(task))
    }

    /// A task that runs elsewhere. It counts from now on, until it is dropped.
    pub(crate) fn track<T, F: Future<Output = T>>(&self, task: F) -> impl Future<Output = Option<T>> + use<T, F> {
        let tracked = self.tracker.track(async { Ok::<_, TaskStop>(task.await) });
        async { tracked.await.ok() }
    }

    /// What has become of them.
    pub(crate) fn stats(&self) -> TaskStats {
        self.tracker.stats()
    }

    /// Cancels them, and takes no more.
    pub(crate) fn cancel(&self) {
        self.tracker.cancel();
    }

    /// The same, and waits until the last one has gone.
    pub(crate) async fn end(&self) {
        self.end_within(FAREWELL).await;
    }

    async fn end_within(&self, farewell: Duration) {
        self.cancel();
        let mut gone = pin!(self.tracker.join());
        // A timer of the background runtime: this may be polled by any executor.
        let mut late = self.runtime.spawn(tokio::time::sleep(farewell));
        tokio::select! {
            biased;
            () = gone.as_mut() => late.abort(),
            _ = &mut late => {
                let tasks = self.stats().pending();
                tracing::warn!(tasks, "background tasks do not give way; they are not waited for any longer");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_task_that_does_not_give_way_is_not_waited_for_beyond_the_bound() {
        let upkeep = Upkeep::new(Handle::current());
        let (go, wait) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let held = upkeep.track(async move {
            begin.send(()).unwrap();
            // It holds its thread until it is let go.
            let _ = wait.recv();
        });
        let thread = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(held);
        });
        begun.await.unwrap();
        upkeep.end_within(Duration::from_millis(1)).await;
        assert_eq!(upkeep.stats().pending(), 1);
        assert_eq!(upkeep.spawn(async {}).await.unwrap(), None, "nothing begins any more");
        drop(go);
        upkeep.end_within(Duration::from_secs(60)).await;
        assert_eq!(upkeep.stats().pending(), 0);
        thread.join().unwrap();
    }
}
