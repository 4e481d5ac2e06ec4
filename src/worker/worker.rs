//! A running worker.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ringplane_core::chain::Chain;
use ringplane_core::id::InstanceId;
use ringplane_tokio::discovery::{Backend, Registration};
use ringplane_tokio::request::intake::Running;
use tokio::sync::mpsc;

use crate::client::client::{Client, Threads};
use crate::error::Error;
use crate::runtime::config::Config;
use crate::runtime::cores::Cores;
use crate::runtime::driver::{DriverInfo, Leftovers};
use crate::runtime::snapshot::Snapshot;

/// A running worker. Dropping it ends every call at once, and waits up to a second for callers to close their connections;
/// [`shutdown`](Self::shutdown) lets calls finish, and [`drain`](Self::drain) before it tells how many did not.
///
/// ```
#[doc = include_str!("../../examples/shutdown.rs")]
/// ```
pub struct Worker {
    pub(super) cores: Cores,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) registrations: Mutex<Vec<Registration>>,
    /// What brings requests in beside the cores.
    pub(super) intake: Mutex<Option<Running>>,
    pub(super) paths: Vec<String>,
    pub(super) addr: SocketAddr,
    pub(super) id: InstanceId,
    pub(super) config: Config,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("cores", &self.cores).field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Worker {
    /// A client on the worker's own threads: its [`local`](Client::local) calls from handlers cross no thread. It does not
    /// keep the worker: once that is gone, its calls are refused with [`Error::Stopped`].
    ///
    /// # Errors
    /// If the thread that watches discovery cannot be started.
    pub fn client(&self) -> Result<Client, Error> {
        Client::on(Threads::Lent(self.cores.group().clone()), self.backend.clone(), &self.config)
    }

    /// Which driver runs, and why.
    pub fn driver(&self) -> &DriverInfo {
        &self.cores.group().info
    }

    /// The address callers dial.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The id of this worker's instances.
    pub const fn instance_id(&self) -> InstanceId {
        self.id
    }

    /// What the worker's threads hold and have counted.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the threads have ended.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.cores.group().snapshot().await?.with(self.backend.counters()))
    }

    /// Takes the endpoints off discovery, refuses new calls and lets running ones finish, for at most the configured drain
    /// timeout. Answers how many of them that bound ended. The threads still run, for [`shutdown`](Self::shutdown).
    pub async fn drain(&self) -> u64 {
        let registrations = std::mem::take(&mut *self.registrations.lock().unwrap_or_else(PoisonError::into_inner));
        for registration in registrations {
            if let Err(error) = registration.unregister().await {
                tracing::warn!(error = %Chain(&error), "an endpoint stays in discovery until its time runs out");
            }
        }
        let intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(intake) = intake {
            intake.leave().await;
        }
        let (done, mut drained) = mpsc::channel::<()>(self.cores.group().len());
        let paths = self.paths.clone();
        let told = self.cores.group().each(move |core| {
            let done = done.clone();
            paths.iter().for_each(|path| core.node.unserve(path));
            core.node.drain(move || drop(done));
        });
        if told.await.is_ok() {
            // Every core drops its sender once it has drained.
            let _ = drained.recv().await;
        }
        self.snapshot().await.map_or(0, |snapshot| snapshot.served.cut_off)
    }

    /// Drains if that has not been done, then stops the threads. The answer is all zero after a clean end.
    pub async fn shutdown(self) -> Leftovers {
        self.drain().await;
        self.cores.stop().await
    }
}
