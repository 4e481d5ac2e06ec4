//! What an events plane has on tokio: timers for futures that any executor polls, and its background tasks.

use std::pin::pin;
use std::task::Poll;

use tokio::runtime::Handle;

use crate::error::Error;
use crate::runtime::background::background;
use crate::runtime::upkeep::Upkeep;

/// The runtime whose timers futures use that are polled outside of any, and where tasks of ours run, whatever becomes of the
/// caller's runtime.
#[derive(Clone, Debug)]
pub(super) struct Within {
    runtime: Handle,
    plane: Upkeep,
    subscriptions: Upkeep,
}

impl Within {
    /// The background runtime, started if it does not run yet.
    pub(super) fn start() -> Result<Self, Error> {
        let runtime = background()?;
        let (plane, subscriptions) = (Upkeep::new(runtime.clone()), Upkeep::new(runtime.clone()));
        Ok(Self { runtime, plane, subscriptions })
    }

    /// The runtime.
    #[cfg(feature = "nats")]
    pub(super) const fn handle(&self) -> &Handle {
        &self.runtime
    }

    /// The tasks that end when the plane is shut down.
    pub(super) const fn plane(&self) -> &Upkeep {
        &self.plane
    }

    /// The tasks of subscriptions, each of which ends with its subscription. They keep a clone of this.
    pub(super) const fn subscriptions(&self) -> &Upkeep {
        &self.subscriptions
    }

    /// Runs a future that may ask for timers.
    pub(super) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| -> Poll<T> {
            // Always: the caller's runtime may be one without timers.
            let _inside = self.runtime.enter();
            future.as_mut().poll(cx)
        })
        .await
    }
}
