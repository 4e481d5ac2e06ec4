//! Futures that ask tokio for timers, polled by any executor.

use std::pin::pin;
use std::task::Poll;

use tokio::runtime::Handle;

use crate::error::Error;
use crate::runtime::background::background;

/// The runtime whose timers futures use that are polled outside of any.
#[derive(Clone, Debug)]
pub(super) struct Within(Handle);

impl Within {
    /// The background runtime, started if it does not run yet.
    pub(super) fn start() -> Result<Self, Error> {
        background().map(Self)
    }

    /// Where tasks of ours run, whatever becomes of the caller's runtime.
    pub(super) const fn handle(&self) -> &Handle {
        &self.0
    }

    /// Runs a future that may ask for timers.
    pub(super) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| -> Poll<T> {
            // Always: the caller's runtime may be one without timers.
            let _inside = self.0.enter();
            future.as_mut().poll(cx)
        })
        .await
    }
}
