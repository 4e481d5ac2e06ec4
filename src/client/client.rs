//! Calling endpoints.

use std::sync::Arc;

use ringplane_core::caller::error::CallError;
use ringplane_core::local::LocalCall;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::route::policy::round_robin::RoundRobin;
use ringplane_tokio::discovery::Backend;

use crate::client::call::{Call, CallRequest, bridge};
use crate::client::watch::Watcher;
use crate::error::Error;
use crate::plane::carriers::Equipment;
use crate::runtime::config::Config;
use crate::runtime::cores::{Core, Cores, DriverInfo, Group, Leftovers, Refused, current};
use crate::runtime::snapshot::Snapshot;
use crate::worker::worker::Place;

/// How a client comes to be: discovery, routing, configuration.
#[derive(Clone)]
pub struct ClientBuilder {
    discovery: Place,
    router: AnyPolicy,
    equipment: Equipment,
    config: Config,
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder").field("router", &self.router).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Where workers are found: `mem`, `mem:NAME` or `file:DIR`. Default `mem`.
    #[must_use]
    pub fn discovery(mut self, url: impl Into<String>) -> Self {
        self.discovery = Place::Url(url.into());
        self
    }

    /// Where workers are found, opened already.
    #[must_use]
    pub fn discovery_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.discovery = Place::Backend(backend);
        self
    }

    /// How instances are picked. Default round robin.
    #[must_use]
    pub fn router(mut self, policy: AnyPolicy) -> Self {
        self.router = policy;
        self
    }

    /// Which NATS server brings requests to workers behind one. Without it, calls of such workers end with
    /// [`CallError::NotEquipped`]. It is connected to with the first such call.
    #[cfg(feature = "nats")]
    #[must_use]
    pub fn nats(mut self, config: ringplane_tokio::nats::Config) -> Self {
        self.equipment.nats = Some(config);
        self
    }

    /// What bounds requests to workers behind HTTP.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn http(mut self, config: ringplane_tokio::request::http::CallerConfig) -> Self {
        self.equipment.http = config;
        self
    }

    /// Driver, threads and knobs.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Starts the threads. Nothing is dialed before the first call.
    ///
    /// # Errors
    /// See [`Error`]; nothing keeps running then.
    pub fn connect(self) -> Result<Client, Error> {
        let backend = self.discovery.open()?;
        let cores = Arc::new(Cores::start("ringplane-client", &self.config, Vec::new())?);
        self.equipment.give(cores.group())?;
        let mut client = Client::on(Threads::Own(cores), backend, &self.config)?;
        client.router = self.router;
        Ok(client)
    }
}

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
#[derive(Clone, Debug)]
pub struct Client {
    threads: Threads,
    watcher: Arc<Watcher>,
    router: AnyPolicy,
    bridge: usize,
}

impl Client {
    /// Describes a client.
    pub fn builder() -> ClientBuilder {
        let router = AnyPolicy::RoundRobin(RoundRobin::new());
        let (discovery, equipment) = (Place::Url("mem".to_owned()), Equipment::default());
        ClientBuilder { discovery, router, equipment, config: Config::default() }
    }

    pub(crate) fn on(threads: Threads, backend: Arc<dyn Backend>, config: &Config) -> Result<Self, Error> {
        let watcher = Arc::new(Watcher::start(threads.group().clone(), backend)?);
        let router = AnyPolicy::RoundRobin(RoundRobin::new());
        Ok(Self { threads, watcher, router, bridge: config.bridge })
    }

    /// Makes a call from any thread. Its outcome, good or bad, comes through the stream. A call that was made while the
    /// client was being stopped ends with [`CallError::Closed`].
    ///
    /// # Errors
    /// [`Error::Name`] for a malformed endpoint, [`Error::Stopped`] if the client has been shut down or its threads have
    /// ended, [`Error::Call`] with [`CallError::Overloaded`] if its threads take no more endpoints at the moment.
    pub fn call(&self, request: CallRequest) -> Result<Call, Error> {
        let group = self.threads.group();
        let number = self.watcher.endpoint(&request.endpoint, group, &self.router)?;
        let streaming = request.inner.body.is_none();
        let (call, ends) = bridge(self.bridge, streaming);
        let inner = request.inner;
        let job = move |core: &std::rc::Rc<Core>| match core.call(number, inner) {
            Ok(local) => core.node.env().spawn(ends.pump(local)),
            Err(error) => ends.fail(error),
        };
        match group.submit(job) {
            Ok(()) => Ok(call),
            Err(Refused::Full) => Ok(Call::failed(CallError::Overloaded)),
            Err(Refused::Stopped) => Err(Error::Stopped),
        }
    }

    /// The way to call without crossing a thread, if this is one of the client's own: from a handler of the worker whose
    /// client this is.
    pub fn local(&self) -> Option<LocalClient> {
        let core = current(self.threads.group().number)?;
        Some(LocalClient { core, client: self.clone() })
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
        self.threads.group().snapshot().await
    }

    /// Ends the client and all its clones: new calls are refused with [`Error::Stopped`]. A client with threads of its own
    /// lets calls under way finish, closes the connections, then stops the threads; the answer is all zero after a clean
    /// end. The client of a worker only lets go of its watches: calls under way, connections and threads are the
    /// worker's.
    pub async fn shutdown(self) -> Leftovers {
        self.watcher.close();
        let Threads::Own(cores) = &self.threads else { return Leftovers::default() };
        let (done, mut closed) = tokio::sync::mpsc::channel::<()>(cores.group().len());
        let told = cores.group().each(move |core| {
            let done = done.clone();
            core.node.close(move || drop(done));
        });
        if told.is_ok() {
            // Every core drops its sender once its last connection is closed.
            let _ = closed.recv().await;
        }
        cores.stop().await
    }
}

/// A client on one of its own threads.
#[derive(Clone)]
pub struct LocalClient {
    core: std::rc::Rc<Core>,
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
        let client = &self.client;
        let number = client.watcher.endpoint(&request.endpoint, client.threads.group(), &client.router)?;
        if !self.core.endpoints.borrow().contains_key(&number) {
            // The job that makes it known waits in this very thread's mailbox.
            let key = self.core.node.endpoint(client.router.clone());
            self.core.endpoints.borrow_mut().insert(number, key);
        }
        self.core.call(number, request.inner).map_err(|error| match error {
            CallError::Closed => Error::Stopped,
            error => Error::Call(error),
        })
    }
}
