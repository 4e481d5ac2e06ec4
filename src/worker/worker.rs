//! A running worker.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ringplane_core::id::InstanceId;
use ringplane_tokio::discovery::Backend;
use ringplane_tokio::request::intake::Running;
use tokio::sync::mpsc;

use crate::client::client::{Client, Threads};
use crate::error::Error;
#[cfg(feature = "metrics")]
use crate::observe::metrics::handle::Metrics;
use crate::runtime::config::Config;
use crate::runtime::cores::Cores;
use crate::runtime::driver::{DriverInfo, Leftovers};
use crate::runtime::snapshot::Snapshot;
use crate::worker::canary::Canaries;
use crate::worker::endpoints::{drain_endpoint, resume_endpoint};
use crate::worker::health::WorkerHealth;
use crate::worker::records::Records;

/// A running worker. Dropping it ends every call at once, and waits up to a second for callers to close their connections;
/// [`shutdown`](Self::shutdown) lets calls finish, and [`drain`](Self::drain) before it tells how many did not.
///
/// ```
#[doc = include_str!("../../examples/shutdown.rs")]
/// ```
pub struct Worker {
    /// Its part in a status server, which ends first.
    #[cfg(feature = "status")]
    pub(super) seat: Option<crate::worker::seat::Sitting>,
    pub(super) cores: Cores,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) records: Arc<Records>,
    pub(super) canaries: Canaries,
    /// What brings requests in beside the cores.
    pub(super) intake: Mutex<Option<Running>>,
    pub(super) paths: Vec<String>,
    pub(super) addr: SocketAddr,
    pub(super) id: InstanceId,
    pub(super) config: Config,
    #[cfg(feature = "metrics")]
    pub(super) metrics: Option<Metrics>,
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
        let client = Client::on(Threads::Lent(self.cores.group().clone()), self.backend.clone(), &self.config)?;
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.metrics {
            client.tell(metrics);
        }
        #[cfg(feature = "status")]
        let client = match &self.seat {
            Some(seat) => client.seated(seat.status()),
            None => client,
        };
        Ok(client)
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

    /// Which of its endpoints callers are to be sent to, for probes and status pages.
    ///
    /// ```
    /// use ringplane::{Request, Responder, Worker};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ringplane::Error> {
    /// let idle = |_: Request, _: Responder| async move { Ok(()) };
    /// let worker = Worker::builder().discovery("mem:health").endpoint("a.b.one", idle).serve().await?;
    /// let health = worker.health();
    /// assert!(health.is_ready());
    /// worker.drain_endpoint("a.b.one").await?;
    /// assert_eq!(health.endpoints()[0].state.name(), "drained");
    /// # worker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> WorkerHealth {
        self.records.health()
    }

    /// What the worker's threads hold and have counted.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the threads have ended.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.cores.group().snapshot().await?.with(self.backend.counters()))
    }

    /// Sets a figure of the application's own, such as the free blocks of a cache, which reports of load carry to callers from now on.
    /// A report carries eight, with names of at most 64 bytes; of further ones nothing is heard.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the threads have ended.
    pub async fn gauge(&self, name: impl Into<String>, value: u64) -> Result<(), Error> {
        let name = name.into();
        Ok(self.cores.group().each(move |core| _ = core.node.gauge(&name, value)).await?)
    }

    /// Takes the endpoints off discovery, refuses new calls and lets running ones finish, for at most the configured drain
    /// timeout. Answers how many calls bounds of drains have ended so far, those of single
    /// [endpoints](Self::drain_endpoint) included. The threads still run, for [`shutdown`](Self::shutdown).
    pub async fn drain(&self) -> u64 {
        self.canaries.stop();
        self.records.close().await;
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

    /// Takes one endpoint (`namespace.component.endpoint`) off discovery and lets its running calls finish, for at most the
    /// configured drain timeout, while all else is served. Its new calls, and those in the queue, are refused as by a worker
    /// that leaves: callers make them elsewhere. Answers how many calls that bound ended. [`resume_endpoint`](Self::resume_endpoint)
    /// undoes it, also before it is done.
    ///
    /// ```
    /// use ringplane::{Request, Responder, Worker};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ringplane::Error> {
    /// let idle = |_: Request, _: Responder| async move { Ok(()) };
    /// let builder = Worker::builder().discovery("mem:drained").endpoint("a.b.one", idle).endpoint("a.b.two", idle);
    /// let worker = builder.serve().await?;
    /// assert_eq!(worker.drain_endpoint("a.b.one").await?, 0);
    /// // New weights are loaded, say, while `a.b.two` goes on.
    /// worker.resume_endpoint("a.b.one").await?;
    /// # worker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotServed`] if the worker has no such endpoint, [`Error::Stopped`] if its threads have ended.
    pub async fn drain_endpoint(&self, endpoint: &str) -> Result<u64, Error> {
        drain_endpoint(self.cores.group(), &self.records, endpoint).await
    }

    /// Serves an endpoint again that was [drained](Self::drain_endpoint), and registers it.
    ///
    /// # Errors
    /// As there; [`Error::Stopped`] also once the worker as a whole is [drained](Self::drain); [`Error::Discovery`] if the
    /// endpoint cannot be registered, though it is served.
    pub async fn resume_endpoint(&self, endpoint: &str) -> Result<(), Error> {
        resume_endpoint(self.cores.group(), &self.records, endpoint).await
    }

    /// Drains if that has not been done, then stops the threads. The answer is all zero after a clean end.
    pub async fn shutdown(self) -> Leftovers {
        self.drain().await;
        self.cores.stop().await
    }
}
