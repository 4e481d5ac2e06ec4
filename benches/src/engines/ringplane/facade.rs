//! ringplane as services use it: calls through the facade from a tokio runtime.

use std::cell::RefCell;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane::discovery::{Backend, Mem, Registration};
use ringplane::ringplane_core::discovery::instance::Instance;
use ringplane::ringplane_core::wire::mux::VERSION;
use ringplane::{
    CallRequest, ClientBuilder, Config, DriverChoice, EndpointId, Failure, InstanceId, Request, Responder, Side, Worker,
};
use tokio::runtime::Handle;
use tokio::task::spawn_local;

use crate::content::{Ask, Pattern};
use crate::engine::{Engine, Offers, Result, Sides, Standing};
use crate::engines::ringplane::driver::spin;
use crate::engines::ringplane::engine::{BRIEFLY, MUX};
use crate::engines::ringplane::watched::{Watch, Watched, find};
use crate::line::Ready;
use crate::load::{Call, Client, generate};
use crate::local::{Local, run};
use crate::measure::{Measured, Plan};
use crate::scenario::{Scenario, address};

/// Where a worker's handler runs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the core that received the request: `WorkerBuilder::endpoint`.
    Core,
    /// On a tokio runtime of one thread: `WorkerBuilder::endpoint_on`.
    Runtime,
    /// On the core, which is a task of the side's one runtime, as the caller's is: `here`.
    Here,
}

/// `ringplane::Client` called from a tokio runtime of one thread, and a worker with a handler in one of the places. Each side has
/// its core and its runtime, two threads unless they are [one](Place::Here), on one CPU if it is pinned. Default configuration.
#[derive(Copy, Clone, Debug)]
pub struct Facade {
    /// Where handlers run.
    pub place: Place,
    /// What moves the bytes.
    pub driver: DriverChoice,
    /// What watches the calls. By anything but nothing: of [`Place::Core`] on io_uring.
    pub watched: Watched,
}

/// The endpoint that the worker serves.
const ENDPOINT: &str = "bench.backend.answer";

impl Engine for Facade {
    fn name(&self) -> &'static str {
        match (self.watched, self.place, self.driver) {
            (Watched::Propagated, ..) => "ringplane-propagated-io-uring",
            #[cfg(feature = "watched")]
            (Watched::Metrics, ..) => "ringplane-metrics-io-uring",
            #[cfg(feature = "watched")]
            (Watched::Spans(100), ..) => "ringplane-spans100-io-uring",
            #[cfg(feature = "watched")]
            (Watched::Spans(_), ..) => "ringplane-spans1-io-uring",
            (Watched::No, Place::Core, DriverChoice::IoUring) => "ringplane-client-io-uring",
            (Watched::No, Place::Core, _) => "ringplane-client-tokio",
            (Watched::No, Place::Runtime, DriverChoice::IoUring) => "ringplane-remote-io-uring",
            (Watched::No, Place::Runtime, _) => "ringplane-remote-tokio",
            (Watched::No, Place::Here, _) => "ringplane-here-tokio",
        }
    }

    fn about(&self) -> &'static str {
        match (self.watched, self.place) {
            (Watched::Propagated, _) => "ringplane-client-io-uring with the context of a trace on each call",
            #[cfg(feature = "watched")]
            (Watched::Metrics, _) => "ringplane-client-io-uring with metrics on both sides",
            #[cfg(feature = "watched")]
            (Watched::Spans(100), _) => "ringplane-client-io-uring with spans of all calls on both sides",
            #[cfg(feature = "watched")]
            (Watched::Spans(_), _) => "ringplane-client-io-uring with spans of 1 % of the calls on both sides",
            (Watched::No, Place::Core) => {
                "ringplane as services use it: called from a tokio runtime of one thread, handler on the core"
            }
            (Watched::No, Place::Runtime) => {
                "the same with the handler on a tokio runtime of one thread (`endpoint_on`)"
            }
            (Watched::No, Place::Here) => {
                "the same with the cores on the runtimes' own threads (`here`): none is crossed"
            }
        }
    }

    fn standing(&self) -> Standing {
        if self.watched == Watched::No { Standing::Usual } else { Standing::Variant }
    }

    fn offers(&self) -> Offers {
        MUX
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        (scenario.spins() && self.driver != DriverChoice::IoUring).then_some("has no busy polling")
    }
}

impl Sides for Facade {
    fn serve(&self, scenario: &Scenario, ready: Ready) -> Result<()> {
        let pattern = Pattern::new(scenario.largest());
        let config = self.config(scenario);
        let Self { place, watched, .. } = *self;
        run(async move {
            let watch = watched.start()?;
            let builder = watch.worker(Worker::builder());
            let builder = match (watched, place) {
                (Watched::Propagated, _) => builder.endpoint(ENDPOINT, move |request, out| async move {
                    find()?;
                    answer(request, out, pattern).await
                }),
                (_, Place::Here) => {
                    let builder = builder.here(|core| drop(spawn_local(core)));
                    builder.endpoint(ENDPOINT, move |request, out| answer(request, out, pattern))
                }
                (_, Place::Core) => builder.endpoint(ENDPOINT, move |request, out| answer(request, out, pattern)),
                (_, Place::Runtime) => {
                    builder.endpoint_on(Handle::current(), ENDPOINT, move |request, out| answer(request, out, pattern))
                }
            };
            let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let worker = builder.listen(anywhere).advertise(loopback).config(config).serve().await?;
            ready.tell(format!("{} {}", worker.addr(), worker.instance_id().0));
            pending().await
        })
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let (server, instance) = address.split_once(' ').ok_or("an address without an instance")?;
        let (server, instance) = (server.parse()?, InstanceId(instance.parse()?));
        let config = self.config(scenario);
        run(async {
            let builder = ringplane::Client::builder().config(config);
            let builder = match self.place {
                Place::Here => builder.here(|core| drop(spawn_local(core))),
                Place::Core | Place::Runtime => builder,
            };
            let client = Services::start(builder, self.watched.start()?, server, instance, scenario).await?;
            Ok(generate(scenario, plan, client, Local).await)
        })
    }
}

impl Facade {
    pub(super) fn config(&self, scenario: &Scenario) -> Config {
        let mut config = Config { driver: self.driver, ..Config::default() };
        config.worker.max_running = 16_384;
        if let Some(spin) = spin(scenario.polling) {
            config.io_uring.spin = spin;
        }
        if scenario.churn {
            config.caller.idle_timeout = BRIEFLY;
        }
        config
    }
}

/// The handler, wherever it runs.
async fn answer<S: Side>(mut request: Request<S>, out: Responder<S>, pattern: Pattern) -> Result<(), Failure> {
    let ask = Ask::receive(&request.body().await?, pattern).map_err(Failure::invalid)?;
    let begun = (ask.gap_us > 0).then(Instant::now);
    for index in 0..ask.items {
        if let Some(begun) = begun.filter(|_| index > 0) {
            let due = begun + Duration::from_micros(u64::from(ask.gap_us) * u64::from(index));
            out.sleep(due.saturating_duration_since(Instant::now())).await;
        }
        out.send(pattern.item(&ask, index)).await?;
    }
    Ok(())
}

/// A client of as many endpoints as there are connections, each with one instance at an address of its own.
pub(super) struct Services {
    client: ringplane::Client,
    endpoints: RefCell<Vec<Option<ringplane::Endpoint>>>,
    watch: Watch,
    /// What discovery knows, for as long as the client lives.
    _registrations: Vec<Registration>,
}

impl Services {
    pub(super) async fn start(
        builder: ClientBuilder,
        watch: Watch,
        server: SocketAddr,
        instance: InstanceId,
        scenario: &Scenario,
    ) -> Result<Self> {
        let discovery: Arc<dyn Backend> = Arc::new(Mem::new());
        let served = Instance::new(instance, EndpointId::parse(ENDPOINT)?, server);
        let mut registrations = Vec::new();
        for connection in 0..scenario.all_connections() {
            let id = InstanceId(connection as u64 + 1);
            let mut record = Instance::new(id, EndpointId::parse(&name(connection))?, address(server, connection));
            record.path.clone_from(&served.path);
            record.mux = Some(VERSION);
            registrations.push(discovery.endpoints().register(record).await?);
        }
        let client = watch.client(builder.discovery_backend(discovery)).connect()?;
        let endpoints = RefCell::new(vec![None; scenario.all_connections()]);
        Ok(Self { client, endpoints, watch, _registrations: registrations })
    }

    /// An endpoint for each connection, all at once: of scenarios with no more than some hundreds.
    pub(super) fn all(&self) -> Result<Vec<ringplane::Endpoint>> {
        let connections = self.endpoints.borrow().len();
        (0..connections).map(|connection| Ok(self.client.endpoint(&name(connection))?)).collect()
    }
}

fn name(connection: usize) -> String {
    format!("bench.backend.connection-{connection}")
}

impl Client for Services {
    type Call = ringplane::Call;

    async fn call(&self, connection: usize, request: Bytes) -> Result<ringplane::Call> {
        let mut endpoints = self.endpoints.borrow_mut();
        let slot = endpoints.get_mut(connection).ok_or("no such connection")?;
        let endpoint = match slot {
            Some(endpoint) => endpoint,
            // A client takes so many wishes at a time: each is asked for when it is first called.
            None => slot.insert(self.client.endpoint(&name(connection))?),
        };
        Ok(endpoint.call(self.watch.request(CallRequest::item(request))?)?)
    }
}

impl Call for ringplane::Call {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        Self::next(self).await.map(|item| item.map_err(Into::into))
    }
}
