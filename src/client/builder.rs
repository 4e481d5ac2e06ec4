//! How a client comes to be.

use std::fmt;
use std::sync::Arc;

use ringplane_core::local::LocalTask;
use ringplane_core::observer::Observer;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::route::policy::round_robin::RoundRobin;
use ringplane_tokio::discovery::Backend;
#[cfg(feature = "otel")]
use ringplane_tokio::observe::telemetry::Telemetry;

use crate::client::client::{Client, Threads};
use crate::error::Error;
#[cfg(feature = "metrics")]
use crate::observe::metrics::handle::Metrics;
use crate::plane::built::carriers;
use crate::plane::carriers::{Carrier, Carriers};
use crate::runtime::config::Config;
use crate::runtime::cores::Cores;
use crate::runtime::driver::Start;
use crate::runtime::observers::Observers;
use crate::runtime::place::Place;
#[cfg(feature = "status")]
use crate::status::server::Status;
#[cfg(feature = "status")]
use crate::status::watching::Times;

impl Client {
    /// Describes a client.
    pub fn builder() -> ClientBuilder {
        let router = AnyPolicy::RoundRobin(RoundRobin::new());
        let (discovery, carriers) = (Place::Url("mem".to_owned()), carriers());
        ClientBuilder {
            discovery,
            router,
            carriers,
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

/// How a client comes to be: discovery, routing, configuration.
///
/// ```
/// use ringplane::{Client, Config, DriverChoice, Policy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder()
///     .discovery("mem:example")
///     .router(Policy::from_name("random")?)
///     .config(Config { driver: DriverChoice::Tokio, ..Config::default() })
///     .connect()?;
/// assert_eq!(client.driver().name, "tokio");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientBuilder {
    discovery: Place,
    router: AnyPolicy,
    carriers: Carriers,
    observers: Observers,
    config: Config,
    here: Option<Start>,
    #[cfg(feature = "metrics")]
    metrics: Option<Metrics>,
    #[cfg(feature = "status")]
    status: Option<Status>,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("router", &self.router).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Where workers are found: `mem`, `mem:NAME`, `file:DIR`, `etcd:URL` (with the feature `etcd`), or without a registry
    /// `static:HOST:PORT,HOST:PORT` and `dns:NAME:PORT`, whose workers are [asked](crate::discovery::Asked) what they serve.
    /// Default `mem`.
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
    pub fn router(mut self, policy: impl Into<AnyPolicy>) -> Self {
        self.router = policy.into();
        self
    }

    /// What brings requests to workers that no connection reaches, made from a configuration of [`request`](crate::request):
    /// for NATS its `Config`, without which calls of workers behind NATS end with
    /// [`CallError::NotEquipped`](crate::CallError::NotEquipped); for HTTP its `CallerConfig`, whose default is used
    /// otherwise. One for each plane.
    #[must_use]
    pub fn carrier(mut self, carrier: impl Into<Carrier>) -> Self {
        self.carriers.set(carrier.into());
        self
    }

    /// What watches the client's calls: `make` makes one for the core of that number, on its thread, so that it need not be `Send`
    /// or `Sync`. Several may watch; they are told in the order in which they were added. What they can be told is
    /// [`Observer`].
    ///
    /// ```
    #[doc = include_str!("../../examples/observer.rs")]
    /// ```
    #[must_use]
    pub fn observer<O: Observer + 'static>(mut self, make: impl Fn(usize) -> O + Send + Sync + 'static) -> Self {
        self.observers.add(make);
        self
    }

    /// Makes spans of the client's calls; `telemetry` is what [`export`](crate::observe::export)
    /// has begun.
    ///
    /// ```no_run
    #[doc = include_str!("../../examples/otel.rs")]
    /// ```
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn telemetry(self, telemetry: &Telemetry) -> Self {
        let telemetry = telemetry.clone();
        self.observer(move |_| telemetry.spans())
    }

    /// Has the client run on the caller's own thread and in its tokio, in place of threads of its own: nothing crosses a
    /// thread. `start` is given the client's one core, a future, and has it run there, in a `LocalSet` or a runtime of one
    /// thread; [`connect`](Self::connect) calls it. For a program that gives a thread to its calls and blocks it nowhere: as
    /// long as the core is not polled, nothing is sent or heard, and deadlines pass. The core ends after `shutdown`, or
    /// once the client is dropped; if it is dropped itself, its connections break and calls end with an error.
    /// [`Config::driver`], `cores` and `pin` mean nothing here.
    ///
    /// ```
    #[doc = include_str!("../../examples/here.rs")]
    /// ```
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

    /// Has its numbers told by `metrics`. Default none.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Has a [status server](crate::status::Status) tell of the client, for as long as it or a clone of it lives.
    #[cfg(feature = "status")]
    #[must_use]
    pub fn status(mut self, status: &Status) -> Self {
        self.status = Some(status.clone());
        self
    }

    /// Starts the threads. Nothing is dialed before the first call.
    ///
    /// # Errors
    /// See [`Error`]; nothing keeps running then.
    pub fn connect(self) -> Result<Client, Error> {
        self.config.validate()?;
        let mut builder = self;
        let here = builder.here.take();
        if here.is_some() {
            builder.config.cores = 1;
        }
        #[cfg(feature = "metrics")]
        let builder = builder.recorded();
        let backend = builder.discovery.open()?;
        #[cfg(feature = "status")]
        let (mut observers, times) = (builder.observers, Arc::<Times>::default());
        #[cfg(feature = "status")]
        if let Some(status) = builder.status.clone() {
            let times = times.clone();
            observers.add(move |_| status.watching(&times, false));
        }
        #[cfg(not(feature = "status"))]
        let observers = builder.observers;
        let cores = Arc::new(Cores::start("ringplane-client", &builder.config, &observers, Vec::new(), here, |_| ())?);
        builder.carriers.give(cores.group())?;
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &builder.metrics {
            metrics.add_backend(&backend);
        }
        let mut client = Client::on(Threads::Own(cores), backend, &builder.config)?;
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &builder.metrics {
            client.tell(metrics);
        }
        client.router = builder.router;
        #[cfg(feature = "status")]
        if let Some(status) = &builder.status {
            client.sit(status, Some(times));
        }
        Ok(client)
    }

    /// Has the times of its calls recorded, where metrics are told: by its own, or by the status server's.
    #[cfg(feature = "metrics")]
    fn recorded(mut self) -> Self {
        #[cfg(feature = "status")]
        {
            self.metrics = self.metrics.or_else(|| Some(self.status.as_ref()?.metrics().clone()));
        }
        if let Some(record) = self.metrics.as_ref().map(|metrics| metrics.record().clone()) {
            self.observers.add(move |_| record.watch(None));
        }
        self
    }
}
