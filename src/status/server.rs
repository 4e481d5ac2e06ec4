//! The status server of a process, and the seats of the workers and clients that it tells of.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringplane_tokio::status::{Listener, Server, Stats};

use crate::error::Error;
use crate::observe::metrics::handle::Metrics;
use crate::runtime::background::background;
use crate::status::config::StatusConfig;
use crate::status::hall::Hall;
use crate::status::routes::answer;
use crate::status::subject::Subject;
use crate::status::watching::{Times, Watching};

/// An HTTP server that tells of this process: probes of Dynamo's kind (`/health`, `/live`) and of Kubernetes' (`/ready`), its
/// metrics, and a page for people at `/`. Every path is in `docs/operations.md`.
///
/// Workers and clients take part by [`WorkerBuilder::status`](crate::WorkerBuilder::status) and
/// [`ClientBuilder::status`](crate::ClientBuilder::status): any number of them, also one after the other. The server runs for
/// as long as any of them or a clone of this does, on a thread of the library's own, which handlers cannot hold up.
///
/// ```no_run
#[doc = include_str!("../../examples/status.rs")]
/// ```
#[derive(Clone)]
pub struct Status {
    hall: Arc<Hall>,
    server: Arc<Mutex<Option<Server>>>,
    addr: SocketAddr,
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Status {
    /// Listens and answers from now on: what is asked for before there is a worker is told so.
    ///
    /// # Errors
    /// [`Error::Config`] for a knob out of its bounds, [`Error::Listen`], [`Error::Tokio`] if the process has no thread for it.
    pub fn serve(config: impl Into<StatusConfig>) -> Result<Self, Error> {
        let config = config.into();
        config.validate()?;
        let runtime = background()?;
        let refused = |source| Error::Listen { addr: config.listen, source };
        let listener = Listener::bind(config.listen).map_err(refused)?;
        let (addr, bounds) = (listener.addr(), config.server());
        let hall = Arc::new(Hall::new(config, addr.ip().is_loopback()));
        let told = hall.clone();
        let server = listener.serve(bounds, &runtime, move |ask| Box::pin(answer(told.clone(), ask)));
        tracing::info!(%addr, "the status server listens");
        Ok(Self { hall, server: Arc::new(Mutex::new(Some(server))), addr })
    }

    /// The address that was bound.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether the process is ready as long as it has no worker: for one that is a client only, or gets its traffic otherwise.
    /// Once there is a worker, its endpoints say it.
    pub fn set_ready(&self, ready: bool) {
        self.hall.set_flag(ready);
    }

    /// Has an error told at the page, besides those of calls and handlers. `place` says what it is about; the text is cut after
    /// 512 bytes.
    pub fn note(&self, place: &str, text: impl fmt::Display) {
        self.hall.errors.note(place, &text.to_string());
    }

    /// The metrics at `/metrics`: those of the process, and of the workers and clients that take part and were not made with others.
    pub fn metrics(&self) -> &Metrics {
        &self.hall.metrics
    }

    /// What the server has counted; nothing once it has been shut down.
    pub fn stats(&self) -> Stats {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::stats).unwrap_or_default()
    }

    /// Listens no more, and lets requests under way be answered, within [`StatusConfig::farewell`].
    pub async fn shutdown(self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.shutdown().await;
        }
    }

    /// What watches the cores of a worker, or of a client, for it.
    pub(crate) fn watching(&self, times: &Arc<Times>, worker: bool) -> Watching {
        Watching::new(self.hall.errors.clone(), times.clone(), worker)
    }

    /// Takes part in it for as long as the seat is kept.
    pub(crate) fn seat(&self, subject: Arc<dyn Subject>, times: Option<Arc<Times>>) -> Seat {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.hall.enter(number, subject, times);
        Seat { number, status: self.clone() }
    }
}

/// A worker's or a client's part in a status server; dropped, it is told of no more. It keeps the server.
pub(crate) struct Seat {
    number: u64,
    status: Status,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.number).finish()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.status.hall.leave(self.number);
    }
}
