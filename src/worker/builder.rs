//! How a worker comes to be.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ringplane_core::discovery::instance::{self, Instance};
use ringplane_core::discovery::record::QUESTION;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::local::LocalTask;
use ringplane_core::local::job::Handler as CoreHandler;
use ringplane_core::observer::Observer;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::mux::VERSION;
use ringplane_tokio::discovery::Backend;
#[cfg(feature = "otel")]
use ringplane_tokio::observe::telemetry::Telemetry;

use crate::error::Error;
use crate::handler::local::local_task;
use crate::handler::remote::remote_task;
use crate::handler::request::Handler;
use crate::handler::served::Served;
use crate::handler::side::Remote;
#[cfg(feature = "metrics")]
use crate::observe::metrics::handle::Metrics;
use crate::plane::built::carriers;
use crate::plane::plane::RequestPlane;
use crate::runtime::config::Config;
#[cfg(feature = "metrics")]
use crate::runtime::cores::Group;
use crate::runtime::cores::{Core, Cores};
use crate::runtime::driver::Start;
use crate::runtime::hub::Hub;
use crate::runtime::listen::{advertised, listen};
use crate::runtime::observers::Observers;
use crate::runtime::place::Place;
#[cfg(feature = "status")]
use crate::status::server::Status;
#[cfg(feature = "status")]
use crate::status::watching::Times;
use crate::worker::canary::{Answers, Noted, Plans};
use crate::worker::records::{Records, told};
#[cfg(feature = "status")]
use crate::worker::seat::Sitting;
use crate::worker::served::answers;
use crate::worker::worker::Worker;

impl Worker {
    /// Describes a worker.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder {
            endpoints: Vec::new(),
            canaries: Vec::new(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            advertise: None,
            discovery: Place::Url("mem".to_owned()),
            served: Served { codec: Codec::Msgpack, annotated: false },
            plane: RequestPlane::default(),
            observers: Observers::default(),
            config: Config::default(),
            here: None,
            #[cfg(feature = "metrics")]
            metrics: None,
            #[cfg(feature = "status")]
            status: None,
        }
    }
}

/// How a worker comes to be: endpoints, addresses, discovery, configuration.
///
/// ```
/// use ringplane::{Config, Request, Responder, Worker};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder()
///     .endpoint("example.builder.echo", |mut request: Request, out: Responder| async move {
///         out.send(request.body().await?).await?;
///         Ok(())
///     })
///     .listen("127.0.0.1:0".parse()?)
///     .discovery("mem:example")
///     .config(Config { cores: 2, ..Config::default() })
///     .serve()
///     .await?;
/// assert_ne!(worker.addr().port(), 0);
/// # worker.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct WorkerBuilder {
    endpoints: Vec<(String, Kind)>,
    canaries: Vec<(String, Bytes)>,
    listen: SocketAddr,
    advertise: Option<SocketAddr>,
    discovery: Place,
    served: Served,
    plane: RequestPlane,
    observers: Observers,
    config: Config,
    here: Option<Start>,
    #[cfg(feature = "metrics")]
    metrics: Option<Metrics>,
    #[cfg(feature = "status")]
    status: Option<Status>,
}

#[derive(Clone)]
enum Kind {
    Local(Arc<dyn Handler>),
    Remote(Arc<dyn Handler<Remote>>, tokio::runtime::Handle),
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
    ///
    /// ```
    #[doc = include_str!("../../examples/endpoint_on.rs")]
    /// ```
    #[must_use]
    pub fn endpoint_on(
        mut self,
        runtime: tokio::runtime::Handle,
        endpoint: impl Into<String>,
        handler: impl Handler<Remote>,
    ) -> Self {
        self.endpoints.push((endpoint.into(), Kind::Remote(Arc::new(handler), runtime)));
        self
    }

    /// What is asked of `endpoint`, as its callers write it, to see that it answers: once the configuration has canaries
    /// [enabled](ringplane_core::worker::canary::Config::enabled), the worker calls it over a socket of its own when it has answered
    /// nobody for a while. An endpoint that fails or is late is taken out of discovery until it answers again, and said to be
    /// [unhealthy](crate::EndpointState::Unhealthy). One without room is left alone. A second one takes the place of the first.
    ///
    /// ```
    /// use ringplane::{Config, Request, Responder, Worker};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ringplane::Error> {
    /// let echo = |mut request: Request, out: Responder| async move {
    ///     out.send(request.body().await?).await?;
    ///     Ok(())
    /// };
    /// let mut config = Config::default();
    /// config.worker.canary.enabled = true;
    /// let builder = Worker::builder().discovery("mem:canary").endpoint("a.b.echo", echo).canary("a.b.echo", "ping");
    /// let worker = builder.config(config).serve().await?;
    /// assert!(worker.health().is_ready());
    /// # worker.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn canary(mut self, endpoint: impl Into<String>, request: impl Into<Bytes>) -> Self {
        let endpoint = endpoint.into();
        self.canaries.retain(|(other, _)| *other != endpoint);
        self.canaries.push((endpoint, request.into()));
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

    /// Where to register: `mem`, `mem:NAME`, `file:DIR` or `etcd:URL` (with the feature `etcd`). Default `mem`. Callers that know
    /// the worker's address find it without (`static:HOST:PORT`): the worker answers what it serves, wherever it registers.
    ///
    /// ```no_run
    #[doc = include_str!("../../examples/etcd.rs")]
    /// ```
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

    /// The codec that the records name: Dynamo's callers, and `ringplane call`, write their payloads in it, and a call that
    /// names none is read in it. Default [`Codec::Msgpack`]. A handler that reads nothing but JSON by itself says
    /// [`Codec::Json`] here; one that reads [values](crate::Request::read) takes either.
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.served.codec = codec;
        self
    }

    /// Sends [values](crate::Responder::send_as) as the data of Dynamo's Annotated, `{"data": …}`, as Dynamo's Python clients
    /// and its frontend read them. What is sent as bytes stays as it is.
    #[must_use]
    pub const fn annotated(mut self) -> Self {
        self.served.annotated = true;
        self
    }

    /// How requests of Dynamo's callers come: what the configuration of a plane says, as that of
    /// [`request`](crate::request). Default over TCP. By another one the worker still listens, but its records do not say
    /// where.
    #[must_use]
    pub fn request_plane(mut self, plane: impl Into<RequestPlane>) -> Self {
        self.plane = plane.into();
        self
    }

    /// What watches the worker's requests and the calls of its [client](Worker::client): `make` makes one for the core of that
    /// number, on its thread, as [`ClientBuilder::observer`](crate::ClientBuilder::observer).
    #[must_use]
    pub fn observer<O: Observer + 'static>(mut self, make: impl Fn(usize) -> O + Send + Sync + 'static) -> Self {
        self.observers.add(make);
        self
    }

    /// Makes spans of the worker's requests, and of the calls of its [client](Worker::client); `telemetry` is what [`export`](crate::observe::export)
    /// has begun.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn telemetry(self, telemetry: &Telemetry) -> Self {
        let telemetry = telemetry.clone();
        self.observer(move |_| telemetry.spans())
    }

    /// Has the worker run on the caller's own thread and in its tokio, in place of threads of its own: nothing crosses a
    /// thread. `start` is given the worker's one core, a future, and has it run there, in a `LocalSet` or a runtime of one
    /// thread; [`serve`](Self::serve) calls it. For a program that gives a thread to its handlers and blocks it nowhere: as
    /// long as the core is not polled, nothing is sent or heard, and callers take the worker for dead. The core ends after `shutdown`, or
    /// once the worker is dropped; if it is dropped itself, its connections break and calls end with an error.
    /// [`Config::driver`], `cores` and `pin` mean nothing here.
    ///
    /// The example is at [`ClientBuilder::here`](crate::ClientBuilder::here).
    #[must_use]
    pub fn here(mut self, start: impl Fn(LocalTask) + Send + Sync + 'static) -> Self {
        self.here = Some(Arc::new(start));
        self
    }

    /// Driver, threads and knobs.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Has its numbers told by `metrics`, and those of its [clients](Worker::client). Default none.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Has a [status server](crate::status::Status) tell of the worker, from its start to its end.
    #[cfg(feature = "status")]
    #[must_use]
    pub fn status(mut self, status: &Status) -> Self {
        self.status = Some(status.clone());
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
        self.config.validate()?;
        self.config.cores = if self.here.is_some() { 1 } else { self.config.cores };
        let (mut canaries, backend) = (self.canaries()?, self.discovery.open()?);
        #[cfg(feature = "status")]
        let seat = take_seat(self.status.take(), (&mut self.metrics, &mut self.observers), &self.endpoints, &backend);
        let (id, listeners) = (backend.instance_id(), listen(self.listen, self.config.cores)?);
        #[cfg(feature = "metrics")]
        record(self.metrics.as_ref(), id, &mut self.observers);
        let bound = listeners.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(self.listen);
        let addr = advertised(self.advertise, bound)?;
        let mut carriers = carriers();
        self.plane.equip(&mut carriers);
        let intake = self.plane.open(self.advertise, &self.config.worker)?;
        let (mut instances, mut served) = (Vec::new(), Vec::new());
        for (name, kind) in self.endpoints {
            let mut instance = instance(id, &name, addr, self.served.codec)?;
            instance.capacity = Some(self.config.worker.capacity(self.config.cores));
            served.push((instance.path.clone(), name, kind.noted(canaries.plan(&instance))));
            instances.push(intake.announce(instance));
        }
        intake.allow(&mut self.config.worker);
        let told = told(&instances);
        served.push((QUESTION.to_owned(), QUESTION.to_owned(), Kind::Local(Arc::new(answers(told.clone())))));
        let (bridge, how) = (self.config.bridge, self.served);
        let paths = served.iter().map(|(path, ..)| path.clone()).collect();
        // Before the first connection: a worker before this one may have left a record of the same address behind, whose
        // callers would be told that there is no such endpoint.
        let serve = move |core: &Rc<Core>| {
            served.iter().for_each(|(path, name, kind)| core.serve(path, name, core_handler(kind, how, bridge)));
        };
        let cores = Cores::start("ringplane", &self.config, &self.observers, listeners, self.here.take(), serve)?;
        let group = cores.group();
        carriers.give(group)?;
        let intake = Mutex::new(intake.start(&instances, group).await?);
        let records = Arc::new(Records::register(backend.clone(), instances, told).await?);
        let canaries = canaries.start(group, &records, bound, self.config.worker.canary);
        #[cfg(feature = "metrics")]
        tell(self.metrics.as_ref(), id, cores.group(), &backend);
        #[cfg(feature = "status")]
        if let Some(seat) = &seat {
            seat.serve(id, addr, group, &records);
        }
        Ok(Worker {
            cores,
            backend,
            records,
            canaries,
            intake,
            paths,
            addr,
            id,
            config: self.config,
            #[cfg(feature = "metrics")]
            metrics: self.metrics,
            #[cfg(feature = "status")]
            seat,
        })
    }
}

/// Before anything can fail: those that ask are told that it starts. What is told at a page is a metric as well.
#[cfg(feature = "status")]
fn take_seat(
    status: Option<Status>,
    (metrics, observers): (&mut Option<Metrics>, &mut Observers),
    endpoints: &[(String, Kind)],
    backend: &Arc<dyn Backend>,
) -> Option<Sitting> {
    let status = status?;
    metrics.get_or_insert_with(|| status.metrics().clone());
    let names = endpoints.iter().map(|(name, _)| name.clone()).collect();
    let (watched, times) = (status.clone(), Arc::<Times>::default());
    let seat = Sitting::take(&status, names, backend.clone(), &times);
    observers.add(move |_| watched.watching(&times, true));
    Some(seat)
}

/// What discovery is told of an endpoint that is reached over TCP.
fn instance(id: InstanceId, name: &str, addr: SocketAddr, codec: Codec) -> Result<Instance, Error> {
    let mut instance = Instance::new(id, EndpointId::parse(name)?, addr);
    instance.mux = Some(VERSION);
    instance.codec = match codec {
        Codec::Json => instance::Codec::Json,
        Codec::Msgpack => instance::Codec::Msgpack,
    };
    Ok(instance)
}

impl WorkerBuilder {
    /// The canaries that are to be sent, none if that is off.
    fn canaries(&mut self) -> Result<Plans, Error> {
        let is_served = |name: &str| self.endpoints.iter().any(|(served, _)| served == name);
        if let Some((name, _)) = self.canaries.iter().find(|(name, _)| !is_served(name)) {
            return Err(Error::NotServed(name.clone()));
        }
        let asked = if self.config.worker.canary.enabled { std::mem::take(&mut self.canaries) } else { Vec::new() };
        Ok(Plans::new(asked))
    }
}

impl Kind {
    /// The same, whose good ends are noted.
    fn noted(self, answers: Option<Answers>) -> Self {
        match (self, answers) {
            (kind, None) => kind,
            (Self::Local(handler), Some(answers)) => Self::Local(Arc::new(Noted::new(handler, answers))),
            (Self::Remote(handler, on), Some(answers)) => Self::Remote(Arc::new(Noted::new(handler, answers)), on),
        }
    }
}

/// Has the requests of the worker of that id counted for its metrics, if it has any.
#[cfg(feature = "metrics")]
fn record(metrics: Option<&Metrics>, id: InstanceId, observers: &mut Observers) {
    if let Some(record) = metrics.map(|metrics| metrics.record().clone()) {
        observers.add(move |_| record.watch(Some(id)));
    }
}

/// Tells metrics of a worker that runs.
#[cfg(feature = "metrics")]
fn tell(metrics: Option<&Metrics>, id: InstanceId, group: &Arc<Group>, backend: &Arc<dyn Backend>) {
    if let Some(metrics) = metrics {
        metrics.record().add_worker(id);
        metrics.add_group(group);
        metrics.add_backend(backend);
    }
}

/// An endpoint by its name, the path of its requests, and its handler on a core.
pub(crate) type Handled = (String, String, CoreHandler);

impl WorkerBuilder {
    /// What is served, for a node that is not a worker's.
    pub(crate) fn handlers(self) -> Result<(Config, Observers, Vec<Handled>), Error> {
        if self.endpoints.is_empty() {
            return Err(Error::NothingToServe);
        }
        let (how, bridge) = (self.served, self.config.bridge);
        let handled = self.endpoints.into_iter().map(|(name, kind)| {
            let instance = Instance::new(InstanceId(1), EndpointId::parse(&name)?, self.listen);
            Ok((name, instance.path, core_handler(&kind, how, bridge)))
        });
        Ok((self.config, self.observers, handled.collect::<Result<_, Error>>()?))
    }
}

fn core_handler(kind: &Kind, how: Served, bridge: usize) -> CoreHandler {
    match kind.clone() {
        Kind::Local(handler) => Rc::new(move |incoming| -> LocalTask { local_task(&handler, how, incoming) }),
        Kind::Remote(handler, runtime) => {
            let hub = Hub::of(&runtime);
            Rc::new(move |incoming| -> LocalTask { remote_task(&handler, &hub, bridge, how, incoming) })
        }
    }
}
