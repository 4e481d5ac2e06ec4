//! Serving endpoints.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use ringplane_core::discovery::instance::{self, Instance};
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::local::LocalTask;
use ringplane_core::local::job::Handler as CoreHandler;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::mux::VERSION;
use ringplane_tokio::discovery::{self, Backend, Registration};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use crate::client::client::{Client, Threads};
use crate::error::Error;
use crate::handler::local::{Handler, local_task};
use crate::handler::remote::{self, remote_task};
use crate::plane::intake::Leg;
use crate::plane::plane::RequestPlane;
use crate::runtime::config::Config;
use crate::runtime::cores::{Core, Cores, DriverInfo, Leftovers};
use crate::runtime::snapshot::Snapshot;

/// How a worker comes to be: endpoints, addresses, discovery, configuration.
pub struct WorkerBuilder {
    endpoints: Vec<(String, Kind)>,
    listen: SocketAddr,
    advertise: Option<SocketAddr>,
    discovery: Place,
    codec: Codec,
    plane: RequestPlane,
    config: Config,
}

/// Where instances are found.
#[derive(Clone)]
pub(crate) enum Place {
    Url(String),
    Backend(Arc<dyn Backend>),
}

impl Place {
    pub(crate) fn open(self) -> Result<Arc<dyn Backend>, Error> {
        match self {
            Self::Url(url) => Ok(discovery::open(&url)?),
            Self::Backend(backend) => Ok(backend),
        }
    }
}

#[derive(Clone)]
enum Kind {
    Local(Arc<dyn Handler>),
    Remote(Arc<dyn remote::Handler>, tokio::runtime::Handle),
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.endpoints.iter().map(|(name, _)| name).collect();
        f.debug_struct("WorkerBuilder").field("endpoints", &names).field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    /// Serves `endpoint` (`namespace.component.endpoint`) with a handler that runs on the core that received the request.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>, handler: impl Handler) -> Self {
        self.endpoints.push((endpoint.into(), Kind::Local(Arc::new(handler))));
        self
    }

    /// Serves `endpoint` with a trait object.
    #[must_use]
    pub fn endpoint_dyn(mut self, endpoint: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.endpoints.push((endpoint.into(), Kind::Local(handler)));
        self
    }

    /// Serves `endpoint` with a handler whose future is `Send` and runs on `runtime`.
    #[must_use]
    pub fn endpoint_on(
        mut self,
        runtime: tokio::runtime::Handle,
        endpoint: impl Into<String>,
        handler: impl remote::Handler,
    ) -> Self {
        self.endpoints.push((endpoint.into(), Kind::Remote(Arc::new(handler), runtime)));
        self
    }

    /// Where to listen. Default `127.0.0.1:0`: this host only, any free port.
    #[must_use]
    pub const fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// The address callers dial, if it differs from the one listened on. Port 0 means the port listened on.
    #[must_use]
    pub const fn advertise(mut self, addr: SocketAddr) -> Self {
        self.advertise = Some(addr);
        self
    }

    /// Where to register: `mem`, `mem:NAME` or `file:DIR`. Default `mem`.
    #[must_use]
    pub fn discovery(mut self, url: impl Into<String>) -> Self {
        self.discovery = Place::Url(url.into());
        self
    }

    /// Where to register, opened already.
    #[must_use]
    pub fn discovery_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.discovery = Place::Backend(backend);
        self
    }

    /// The codec that the records name: callers write their payloads in it. Default [`Codec::Msgpack`].
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// How requests of Dynamo's callers come. Default [`RequestPlane::Tcp`]. By another one the worker still listens, but
    /// its records do not say where.
    #[must_use]
    pub fn request_plane(mut self, plane: RequestPlane) -> Self {
        self.plane = plane;
        self
    }

    /// Driver, threads and knobs.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens, starts the threads, and registers every endpoint once it can be called.
    ///
    /// # Errors
    /// See [`Error`]; nothing keeps running then.
    pub async fn serve(mut self) -> Result<Worker, Error> {
        if self.endpoints.is_empty() {
            return Err(Error::NothingToServe);
        }
        let backend = self.discovery.open()?;
        let id = backend.instance_id();
        let listeners = listen(self.listen, self.config.cores)?;
        let bound = listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(self.listen);
        let addr = advertised(self.advertise, bound)?;
        let equipment = self.plane.equipment();
        let intake = self.plane.open(self.advertise)?;
        let mut instances = Vec::new();
        let mut served = Vec::new();
        for (name, kind) in self.endpoints {
            let mut instance = Instance::new(id, EndpointId::parse(&name)?, addr);
            instance.mux = Some(VERSION);
            instance.codec = match self.codec {
                Codec::Json => instance::Codec::Json,
                Codec::Msgpack => instance::Codec::Msgpack,
            };
            served.push((instance.path.clone(), kind));
            instances.push(intake.announce(instance));
        }
        intake.allow(&mut self.config.worker);
        let cores = Cores::start("ringplane", &self.config, listeners)?;
        let group = cores.group();
        equipment.give(group)?;
        let bridge = self.config.bridge;
        let paths = served.iter().map(|(path, _)| path.clone()).collect();
        group.each(move |core| served.iter().for_each(|(path, kind)| serve_on(core, path, kind, bridge)))?;
        let leg = Mutex::new(Some(intake.start(&instances, group).await?));
        let mut registrations = Vec::new();
        for instance in instances {
            registrations.push(backend.register(instance).await?);
        }
        let registrations = Mutex::new(registrations);
        Ok(Worker { cores, backend, registrations, leg, paths, addr, id, config: self.config })
    }
}

fn serve_on(core: &Rc<Core>, path: &str, kind: &Kind, bridge: usize) {
    let handler: CoreHandler = match kind.clone() {
        Kind::Local(handler) => Rc::new(move |incoming| -> LocalTask { local_task(&handler, incoming) }),
        Kind::Remote(handler, runtime) => {
            Rc::new(move |incoming| -> LocalTask { remote_task(&handler, &runtime, bridge, incoming) })
        }
    };
    core.node.serve(path, handler);
}

/// A running worker. Dropping it ends everything at once; [`shutdown`](Self::shutdown) lets calls finish, and
/// [`drain`](Self::drain) before it tells how many did not.
pub struct Worker {
    cores: Cores,
    backend: Arc<dyn Backend>,
    registrations: Mutex<Vec<Registration>>,
    leg: Mutex<Option<Leg>>,
    paths: Vec<String>,
    addr: SocketAddr,
    id: InstanceId,
    config: Config,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("cores", &self.cores).field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Worker {
    /// Describes a worker.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder {
            endpoints: Vec::new(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            advertise: None,
            discovery: Place::Url("mem".to_owned()),
            codec: Codec::Msgpack,
            plane: RequestPlane::Tcp,
            config: Config::default(),
        }
    }

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
        self.cores.group().snapshot().await
    }

    /// Takes the endpoints off discovery, refuses new calls and lets running ones finish, for at most the configured drain
    /// timeout. Answers how many of them that bound ended. The threads still run, for [`shutdown`](Self::shutdown).
    pub async fn drain(&self) -> u64 {
        let registrations = std::mem::take(&mut *self.registrations.lock().unwrap_or_else(PoisonError::into_inner));
        for registration in registrations {
            if let Err(error) = registration.unregister().await {
                tracing::warn!(%error, "an endpoint stays in discovery until its time runs out");
            }
        }
        let leg = self.leg.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leg) = leg {
            leg.leave().await;
        }
        let (done, mut drained) = mpsc::channel::<()>(self.cores.group().len());
        let paths = self.paths.clone();
        let told = self.cores.group().each(move |core| {
            let done = done.clone();
            paths.iter().for_each(|path| core.node.unserve(path));
            core.node.drain(move || drop(done));
        });
        if told.is_ok() {
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

/// One listener per thread on one address; the kernel spreads connections over them. The first of them takes the address
/// for itself, so that one that somebody else listens on is refused, and opens it only then to the others.
fn listen(addr: SocketAddr, count: usize) -> Result<Vec<TcpListener>, Error> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut addr = addr;
    for index in 0..count {
        let share = match index {
            _ if count == 1 => Share::Alone,
            0 => Share::First,
            _ => Share::Joining,
        };
        let listener = listen_one(addr, share).map_err(|source| Error::Listen { addr, source })?;
        addr = listener.local_addr().map_err(|source| Error::Listen { addr, source })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// How a listener shares its address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Share {
    /// With nobody.
    Alone,
    /// With those that join once it listens.
    First,
    /// With the first.
    Joining,
}

fn listen_one(addr: SocketAddr, share: Share) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share == Share::Joining {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    if share == Share::First {
        // Linux looks at the option of both sockets whenever one binds or begins to listen. Set before that, it would
        // also let in another process of this user.
        socket.set_reuse_port(true)?;
    }
    Ok(socket.into())
}

/// What callers are told to dial.
pub(crate) fn advertised(wish: Option<SocketAddr>, bound: SocketAddr) -> Result<SocketAddr, Error> {
    let mut addr = wish.unwrap_or(bound);
    if addr.port() == 0 {
        addr.set_port(bound.port());
    }
    if addr.ip().to_canonical().is_unspecified() { Err(Error::Advertise(addr)) } else { Ok(addr) }
}

/// A random number from the operating system's seed for hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::time::Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_nobody_can_dial_is_not_advertised() {
        let bound: SocketAddr = "0.0.0.0:80".parse().unwrap();
        assert!(matches!(advertised(None, bound), Err(Error::Advertise(_))));
        let wish = "10.0.0.1:0".parse().unwrap();
        assert_eq!(advertised(Some(wish), bound).unwrap(), "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn listeners_of_one_worker_share_their_port() {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[test]
    fn an_address_is_shared_by_the_listeners_of_one_worker_only() {
        let taken = |listened: Result<Vec<TcpListener>, Error>| match listened {
            Err(Error::Listen { source, .. }) => source.kind() == std::io::ErrorKind::AddrInUse,
            _ => false,
        };
        for (first, second) in [(2, 2), (2, 1), (1, 2), (1, 1)] {
            let listeners = listen("127.0.0.1:0".parse().unwrap(), first).unwrap();
            let addr = listeners[0].local_addr().unwrap();
            assert!(taken(listen(addr, second)), "{first} and {second}");
            drop(listeners);
            assert_eq!(listen(addr, second).unwrap().len(), second);
        }
    }

    #[test]
    fn of_two_workers_that_begin_to_listen_at_once_one_at_most_does() {
        for _ in 0..50 {
            let addr = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap()[0].local_addr().unwrap();
            let both = std::sync::Barrier::new(2);
            let begin = || {
                both.wait();
                listen(addr, 2)
            };
            let (one, two) = std::thread::scope(|scope| {
                let other = scope.spawn(begin);
                (begin(), other.join().unwrap())
            });
            assert!(one.is_err() || two.is_err());
        }
    }

    #[test]
    fn the_kernel_spreads_connections_over_every_listener_the_first_as_well() {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addr = listeners[0].local_addr().unwrap();
        let dialed: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        let accepted = listeners.iter().map(|listener| {
            listener.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| listener.accept().ok()).count()
        });
        let accepted: Vec<usize> = accepted.collect();
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
        assert_eq!(accepted.iter().sum::<usize>(), dialed.len());
    }
}
