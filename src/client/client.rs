//! A running client.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::caller::error::CallError;
use ringplane_core::local::LocalCall;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::route::policy::round_robin::RoundRobin;
use ringplane_tokio::discovery::Backend;
use tokio::task::JoinHandle;

use crate::client::call::Call;
use crate::client::request::CallRequest;
use crate::client::watch::Watcher;
use crate::error::Error;
#[cfg(feature = "metrics")]
use crate::observe::metrics::handle::Metrics;
use crate::runtime::config::Config;
use crate::runtime::cores::{Core, Cores, Group, current};
use crate::runtime::driver::{DriverInfo, Leftovers};
use crate::runtime::known::Known;
use crate::runtime::snapshot::Snapshot;

/// Whose threads a client runs on.
#[derive(Clone, Debug)]
pub(crate) enum Threads {
    /// Its own: they end with the last clone.
    Own(Arc<Cores>),
    /// A worker's, which a client neither ends nor keeps running.
    Lent(Arc<Group>),
}

impl Threads {
    fn group(&self) -> &Arc<Group> {
        match self {
            Self::Own(cores) => cores.group(),
            Self::Lent(group) => group,
        }
    }
}

/// Calls endpoints. Clones share threads, connections and watches.
///
/// A client that was [built](Self::builder) has threads of its own, which end with its last clone. The client of a
/// [worker](crate::Worker::client) uses the worker's: it keeps neither them nor the worker's port, and its calls are refused
/// with [`Error::Stopped`] once the worker is gone.
///
/// ```
#[doc = include_str!("../../examples/gateway.rs")]
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    threads: Threads,
    watcher: Arc<Watcher>,
    pub(super) router: AnyPolicy,
    /// Time for a whole call that says nothing of it.
    pub(super) deadline: Option<Duration>,
    /// Its part in a status server, which ends with the last clone.
    #[cfg(feature = "status")]
    pub(super) seat: Option<Arc<crate::status::server::Seat>>,
}

impl Client {
    pub(crate) fn on(threads: Threads, backend: Arc<dyn Backend>, config: &Config) -> Result<Self, Error> {
        let watcher = Arc::new(Watcher::start(threads.group().clone(), backend, config)?);
        let router = AnyPolicy::RoundRobin(RoundRobin::new());
        Ok(Self {
            threads,
            watcher,
            router,
            deadline: config.caller.deadline,
            #[cfg(feature = "status")]
            seat: None,
        })
    }

    /// Has its numbers told by `metrics`.
    #[cfg(feature = "metrics")]
    pub(crate) fn tell(&self, metrics: &Metrics) {
        metrics.add_group(self.group());
        metrics.add_endpoints(self.group(), &self.watcher);
    }

    /// Makes a call from any thread. Its outcome, good or bad, comes through the stream. A call that was made while the
    /// client was being stopped ends with [`CallError::Closed`]. A program that calls an endpoint often asks for it
    /// [once](Self::endpoint).
    ///
    /// # Errors
    /// As [`endpoint`](Self::endpoint).
    pub fn call(&self, request: CallRequest) -> Result<Call, Error> {
        self.call_known(self.known(&request.endpoint)?, request)
    }

    pub(super) fn known(&self, name: &str) -> Result<Arc<Known>, Error> {
        self.watcher.endpoint(name, &self.router)
    }

    pub(super) fn known_with(&self, name: &str, policy: AnyPolicy) -> Result<Arc<Known>, Error> {
        self.watcher.endpoint_with(name, policy)
    }

    pub(super) fn call_known(&self, known: Arc<Known>, request: CallRequest) -> Result<Call, Error> {
        self.call_over(known, request, false)
    }

    /// A call that says where it is as soon as it has been sent there.
    pub(super) fn call_placed(&self, known: Arc<Known>, request: CallRequest) -> Result<Call, Error> {
        self.call_over(known, request, true)
    }

    fn call_over(&self, known: Arc<Known>, request: CallRequest, placed: bool) -> Result<Call, Error> {
        if self.watcher.is_closed() {
            return Err(Error::Stopped);
        }
        let request = request.in_trace();
        let (streaming, codec) = (request.inner.body.is_none(), request.codec());
        // A full mailbox is the call's outcome; otherwise the threads have ended.
        let crossing = self.threads.group().call(known, request.inner, placed).map_err(|_| Error::Stopped)?;
        Ok(Call::new(crossing, streaming, codec))
    }

    pub(super) fn call_here(&self, core: &Core, known: &Known, request: CallRequest) -> Result<LocalCall, Error> {
        if self.watcher.is_closed() {
            return Err(Error::Stopped);
        }
        core.call(known, request.in_trace().inner).map_err(|error| match error {
            CallError::Closed => Error::Stopped,
            error => Error::Call(error),
        })
    }

    /// Is over after that time, wherever it is polled.
    pub(super) fn pause(&self, time: Duration) -> JoinHandle<()> {
        self.threads.group().pause(time)
    }

    /// What watches its endpoints.
    #[cfg(feature = "status")]
    pub(super) const fn watcher(&self) -> &Arc<Watcher> {
        &self.watcher
    }

    /// Whether the threads are its own.
    #[cfg(feature = "status")]
    pub(super) const fn has_own_threads(&self) -> bool {
        matches!(self.threads, Threads::Own(_))
    }

    /// The threads it runs on.
    pub(crate) fn group(&self) -> &Arc<Group> {
        self.threads.group()
    }

    /// This thread's core, if it is one of the client's.
    pub(super) fn core(&self) -> Option<Rc<Core>> {
        current(self.threads.group().number)
    }

    /// The way to call without crossing a thread, if this is one of the client's own: from a handler of the worker whose
    /// client this is.
    pub fn local(&self) -> Option<LocalClient> {
        Some(LocalClient { core: self.core()?, client: self.clone() })
    }

    /// The endpoints that its names, the cores together, and their callers together keep.
    #[cfg(test)]
    pub(crate) async fn kept(&self) -> [usize; 3] {
        let group = self.threads.group();
        let (tell, mut told) = tokio::sync::mpsc::channel(group.len());
        let count = move |core: &Rc<Core>| {
            let _ = tell.try_send(core.kept());
        };
        group.each(count).await.expect("the cores run");
        let mut sum = [self.watcher.kept(), 0, 0];
        while let Some((keys, endpoints)) = told.recv().await {
            sum[1] += keys;
            sum[2] += endpoints;
        }
        sum
    }

    /// Which driver runs, and why.
    pub fn driver(&self) -> &DriverInfo {
        &self.threads.group().info
    }

    /// What the client's threads hold and have counted.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the threads have ended.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.threads.group().snapshot().await?.with(self.watcher.counters()))
    }

    /// Ends the client and all its clones: new calls are refused with [`Error::Stopped`]. A client with threads of its own
    /// lets calls under way finish, closes the connections, then stops the threads; the answer is all zero after a clean
    /// end. The client of a worker only lets go of its watches: calls under way, connections and threads are the
    /// worker's.
    pub async fn shutdown(self) -> Leftovers {
        self.watcher.close();
        let Threads::Own(cores) = &self.threads else {
            self.watcher.end().await;
            return Leftovers::default();
        };
        let (done, mut closed) = tokio::sync::mpsc::channel::<()>(cores.group().len());
        let told = cores.group().each(move |core| {
            let done = done.clone();
            core.node.close(move || drop(done));
        });
        if told.await.is_ok() {
            // Every core drops its sender once its last connection is closed.
            let _ = closed.recv().await;
        }
        cores.stop().await
    }
}

/// A client on one of its own threads, which a handler of its worker is on: its calls cross no thread.
///
/// ```
/// use ringplane::{CallRequest, Client, Failure, Request, Responder};
///
/// async fn ask(client: Client, out: Responder) -> Result<(), Failure> {
///     let local = client.local().ok_or_else(|| Failure::internal("not on the client's thread"))?;
///     let mut call = local.call(CallRequest::new("a.b.echo", "x"))?;
///     while let Some(item) = call.next().await {
///         out.send(item?).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct LocalClient {
    core: Rc<Core>,
    client: Client,
}

impl std::fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalClient").field("client", &self.client).finish_non_exhaustive()
    }
}

impl LocalClient {
    /// Makes a call from this thread.
    ///
    /// # Errors
    /// As [`Client::call`], and [`Error::Call`] if the call cannot be begun.
    pub fn call(&self, request: CallRequest) -> Result<LocalCall, Error> {
        let known = self.client.known(&request.endpoint)?;
        self.client.call_here(&self.core, &known, request)
    }
}
