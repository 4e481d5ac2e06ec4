//! What leaves for routers: a bounded queue, and the loop that publishes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ringplane_core::task::publisher::{Config as Patience, End};
use ringplane_tokio::event::Error;
use ringplane_tokio::task::{CancellationToken, Due, publish};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::kv::error::PublishError;
use crate::runtime::upkeep::Upkeep;

ringplane_core::stats::counters! {
    /// What a publisher has brought out.
    pub struct LineStats {
        /// Payloads published.
        pub published,
        /// Payloads dropped for newer ones while nothing could be published.
        pub dropped,
        /// Payloads refused as too much waited already.
        pub refused,
        /// Tries that failed.
        pub errors,
    }
}

/// A queue that takes without waiting, and what publishes from it. When it is dropped, what is in it is still published, as
/// patiently as it is set.
#[derive(Debug)]
pub(super) struct Line<T> {
    source: mpsc::Sender<T>,
    state: Arc<State>,
    task: JoinHandle<Option<()>>,
}

#[derive(Default, Debug)]
struct State {
    ended: OnceLock<End>,
    published: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
}

impl<T: Clone + Send + Sync + 'static> Line<T> {
    /// Publishes by `send` what is put into it. A try that fails is made again after a pause, until so many in a row have failed.
    pub(super) fn start<F>(
        upkeep: &Upkeep,
        patience: Patience,
        mut send: impl FnMut(Due<T>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Error>> + Send,
    {
        let (source, waiting) = mpsc::channel(patience.max_queued.max(1));
        let state = Arc::new(State::default());
        let counted = Arc::clone(&state);
        // It publishes what waits though all else lets go of the plane.
        let kept = upkeep.clone();
        let task = upkeep.spawn(async move {
            let _kept = kept;
            let tried = |due: Due<T>| {
                let (dropped, sent, state) = (due.dropped, send(due), Arc::clone(&counted));
                async move {
                    let sent = sent.await;
                    let counter = if sent.is_ok() { &state.published } else { &state.errors };
                    counter.fetch_add(1, Ordering::Relaxed);
                    state.dropped.fetch_add(if sent.is_ok() { dropped } else { 0 }, Ordering::Relaxed);
                    sent
                }
            };
            let (end, _) = publish(patience, waiting, tried, CancellationToken::new()).await;
            if let End::Errors(errors) = end {
                tracing::warn!(errors, "routers hear nothing more of this worker");
            }
            let _ = counted.ended.set(end);
        });
        Self { source, state, task }
    }

    /// Hands something on, without waiting.
    pub(super) fn put(&self, item: T) -> Result<(), PublishError> {
        self.source.try_send(item).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.state.refused.fetch_add(1, Ordering::Relaxed);
                PublishError::Busy
            }
            // Nothing but its own end lets go of the queue.
            mpsc::error::TrySendError::Closed(_) => {
                PublishError::Ended(self.state.ended.get().copied().unwrap_or(End::Cancelled))
            }
        })
    }

    pub(super) fn stats(&self) -> LineStats {
        self.state.stats()
    }

    /// Completes when all is published, or nothing can be.
    pub(super) async fn close(self) -> LineStats {
        let Self { source, state, task } = self;
        drop(source);
        let _ = task.await;
        state.stats()
    }
}

impl State {
    fn stats(&self) -> LineStats {
        let Self { published, dropped, refused, errors, .. } = self;
        let [published, dropped, refused, errors] =
            [published, dropped, refused, errors].map(|count| count.load(Ordering::Relaxed));
        LineStats { published, dropped, refused, errors }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use ringplane_core::task::pauses::Pauses;
    use ringplane_tokio::event::Kind;
    use tokio::runtime::Handle;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("it ends") });
    }

    #[test]
    fn it_ends_at_the_last_error_in_a_row_and_says_so() {
        run(async {
            let pauses = Pauses::ETCD_CONNECTOR;
            let patience = Patience { pauses, max_errors: 1, max_queued: 4 };
            let broken = || Error::broken(Kind::InProc, "no");
            let line = Line::start(&Upkeep::new(Handle::current()), patience, move |_: Due<u8>| {
                std::future::ready(Err(broken()))
            });
            line.put(1).unwrap();
            let ended = loop {
                match line.put(2) {
                    Err(error @ PublishError::Ended(_)) => break error,
                    _ => tokio::task::yield_now().await,
                }
            };
            assert_eq!(ended, PublishError::Ended(End::Errors(1)));
            assert_eq!(line.close().await.errors, 1);
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_was_dropped_is_told_with_the_next() {
        run(async {
            let patience = Patience { max_queued: 2, ..Patience::KV_EVENTS };
            let (open, opened) = tokio::sync::watch::channel(false);
            let got = Arc::new(Mutex::new(Vec::new()));
            let into = Arc::clone(&got);
            let line = Line::start(&Upkeep::new(Handle::current()), patience, move |due: Due<u8>| {
                let (mut opened, into) = (opened.clone(), Arc::clone(&into));
                async move {
                    opened.wait_for(|open| *open).await.expect("it is kept");
                    into.lock().unwrap().push((due.item, due.dropped));
                    Ok(())
                }
            });
            // The loop has not run yet: two wait.
            assert_eq!([1, 2, 3].map(|item| line.put(item)), [Ok(()), Ok(()), Err(PublishError::Busy)]);
            for item in 4..8 {
                while line.put(item).is_err() {
                    tokio::task::yield_now().await;
                }
            }
            open.send(true).unwrap();
            let stats = line.close().await;
            let got = got.lock().unwrap().clone();
            assert_eq!((got[0], got.last().copied().map(|(item, _)| item)), ((1, 0), Some(7)));
            let dropped: u64 = got.iter().map(|(_, dropped)| dropped).sum();
            assert_eq!(stats.dropped, dropped);
            assert_eq!(stats.published + dropped, 6, "{stats:?}: each is published or told: {got:?}");
            assert!(dropped > 0 && stats.refused > 0, "{stats:?}");
        });
    }
}
