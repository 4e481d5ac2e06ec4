//! What `call` and `bench` are asked to call, and the client that they call it through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ringplane::Signals;
use ringplane::discovery::Backend;
#[cfg(feature = "nats")]
use ringplane::request::nats;
use ringplane::{CallRequest, Client, Config, Error};
use ringplane_core::caller::config::Dialect;
use ringplane_core::caller::error::CallError;
use ringplane_core::discovery::instance::{self, Instance};
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::Set;
use ringplane_core::id::EndpointId;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::trace_context::{TraceParent, TraceState};

use crate::absent;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::input;
use crate::observe;
use crate::options::{Discovery, Driver, Sizes, duration, endpoint, router, routers};
use crate::payload::{self, Form};
use crate::place::{self, Sight};

/// How long connections may take to close once the calls are over.
const GOODBYE: Duration = Duration::from_secs(3);

/// What to call, with what, through which client.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Asked {
    /// What to call: namespace.component.endpoint, also with / between or dyn:// in front
    #[arg(value_parser = endpoint)]
    pub(crate) endpoint: EndpointId,
    /// The request as it is, @FILE for a file's content, - for stdin's; none: an empty one
    #[arg(allow_hyphen_values = true)]
    request: Option<String>,
    /// Time for the whole call, such as 5s or 500ms; a number alone is seconds
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[arg(long, default_value = "round-robin", value_name = "POLICY", value_parser = router, help = routers())]
    router: AnyPolicy,
    #[command(flatten)]
    discovery: Discovery,
    /// The worker to call, which is asked what it serves; in short for --discovery static:HOST:PORT
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "discovery")]
    addr: Option<String>,
    #[command(flatten)]
    driver: Driver,
    /// A pair handed to the handler; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// W3C trace context, carried as it is
    #[arg(long, value_name = "TRACEPARENT", value_parser = traceparent)]
    traceparent: Option<String>,
    /// W3C trace state beside it, carried as it is
    #[arg(long, value_name = "TRACESTATE", value_parser = tracestate, requires = "traceparent")]
    tracestate: Option<String>,
    /// What payloads are sent in, msgpack or json [default: JSON is sent in the codec of the worker's record]
    #[arg(long, value_name = "CODEC", value_parser = payload::codec)]
    codec: Option<Codec>,
    /// The items are Annotated, as those of Dynamo's Python endpoints: print their data, end with their error
    #[arg(long)]
    annotated: bool,
    /// Send the request as it is, in no codec, JSON or not; with --bidi each of its lines
    #[arg(long, conflicts_with = "codec")]
    raw: bool,
    /// What is spoken with the worker
    #[arg(long, default_value = "auto")]
    dialect: Spoken,
    #[command(flatten)]
    sizes: Sizes,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
enum Spoken {
    /// Mux where the record offers it, Dynamo's protocol otherwise
    Auto,
    /// Mux
    Mux,
    /// Dynamo's protocol: answers come home
    CallHome,
}

impl From<Spoken> for Dialect {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Auto => Self::Auto,
            Spoken::Mux => Self::Mux,
            Spoken::CallHome => Self::CallHome,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn traceparent(text: &str) -> Result<String, String> {
    TraceParent::read(text.as_bytes()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn tracestate(text: &str) -> Result<String, String> {
    TraceState::read(text.as_bytes()).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// How the items of a request come to it.
pub(crate) enum Body {
    /// As the command line says.
    Asked,
    /// This text, of which JSON is sent in the codec of the worker's record.
    Given(Vec<u8>),
    /// One by one, once it is sent.
    Streamed,
}

/// A client, and all that a request to its endpoint is made of.
pub(crate) struct Ready {
    pub(crate) client: Client,
    pub(crate) form: Form,
    /// The largest item, in bytes.
    pub(crate) max_item: u64,
    /// What is left of the time for the whole call, which looking for the worker takes its part of.
    pub(crate) left: Option<Duration>,
    asked: Asked,
    /// None of a request whose items follow.
    body: Option<Vec<u8>>,
    url: String,
    backend: Arc<dyn Backend>,
}

impl Asked {
    /// Reads the request, looks for the worker and connects, unless a signal comes.
    pub(crate) async fn ready(self, body: Body, signals: &mut Signals) -> Result<Ready, Failed> {
        tokio::select! {
            biased;
            () = signals.next() => Err(Failed::new(Exit::Cancelled, "stopped by a signal before the call was made")),
            ready = self.look(body) => ready,
        }
    }

    async fn look(mut self, body: Body) -> Result<Ready, Failed> {
        let (begun, timeout) = (Instant::now(), self.timeout);
        let left = || timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let mut environment = environment::read(Default::default(), 1)?;
        self.sizes.apply(&mut environment);
        let named = self.addr.as_ref().map(|addr| format!("static:{addr}"));
        let named = named.or_else(|| self.discovery.discovery.clone());
        let sight = place::look_with(named, environment.discovery.clone())?;
        let router = match self.router.clone() {
            AnyPolicy::DeviceAware(_) => AnyPolicy::DeviceAware(environment.device_aware),
            other => other,
        };
        let config = config(&self, environment)?;
        let (max_item, patience) = (config.caller.mux.max_item, config.caller.instance_timeout);
        let body = self.read(body, max_item).await?;
        let opened = tokio::time::timeout(waits(&self, patience), sight.wait::<Instance>()).await;
        let backend = opened.unwrap_or_else(|_elapsed| Err(nothing(&self.endpoint, &sight)))?;
        self.timeout = left();
        let builder = observe::client(Client::builder()).discovery_backend(backend.clone()).router(router);
        #[cfg(feature = "nats")]
        let builder = match environment::followed(|get| nats::Config::from_vars(get)) {
            Ok(config) => builder.carrier(config),
            Err(_) if !is_behind_nats(&self, &*backend, patience).await => builder,
            Err(failed) => return Err(failed),
        };
        let client = builder.config(config).connect()?;
        self.timeout = left();
        let codec = match codec(&self, body.is_none(), &*backend, patience).await {
            Ok(codec) => codec,
            Err(failed) => return Err(absent::explained(failed, &self.endpoint, &sight.url, &*backend).await),
        };
        let (body, codec) = self.convert(body, codec)?;
        let form = Form { codec, annotated: self.annotated };
        Ok(Ready { client, form, max_item, left: left(), asked: self, body, url: sight.url, backend })
    }

    /// The one item of the request, as people write it.
    async fn read(&self, body: Body, max_item: u64) -> Result<Option<Vec<u8>>, Failed> {
        match body {
            Body::Streamed => Ok(None),
            Body::Given(body) => Ok(Some(body)),
            Body::Asked => {
                let (request, codec) = (self.request.clone(), self.codec);
                let reading = tokio::task::spawn_blocking(move || input::body(request.as_deref(), codec, max_item));
                reading.await.map_err(|error| Failed::new(Exit::Internal, error))?.map(Some)
            }
        }
    }

    /// The item as it is sent, and the codec it is in: what is no JSON goes as it is, in none.
    fn convert(&self, body: Option<Vec<u8>>, codec: Option<Codec>) -> Result<(Option<Vec<u8>>, Option<Codec>), Failed> {
        let Some(body) = body else { return Ok((None, codec)) };
        if let Some(converted) = codec.and_then(|codec| payload::from_json(codec, &body)) {
            return Ok((Some(converted), codec));
        }
        if self.codec.is_some() {
            return Err(Failed::new(Exit::Usage, "with --codec the request is JSON"));
        }
        if !self.raw {
            payload::whole_json(&body)?;
        }
        Ok((Some(body), None))
    }
}

impl Ready {
    /// A new request, with this time for it.
    pub(crate) fn request(&self, timeout: Option<Duration>) -> CallRequest {
        let Asked { endpoint, traceparent, tracestate, metadata, .. } = &self.asked;
        let mut request = match &self.body {
            Some(body) => CallRequest::new(endpoint.to_string(), body.clone()),
            None => CallRequest::streaming(endpoint.to_string()),
        };
        if let Some(codec) = self.form.codec {
            request = request.with_codec(codec);
        }
        if let Some(timeout) = timeout {
            request = request.with_timeout(timeout);
        }
        if let Some(trace) = traceparent {
            request = request.with_trace(trace, tracestate.clone());
        }
        for (key, value) in metadata {
            request = request.with_metadata(key, value);
        }
        request
    }

    /// A bad end with what is there instead of the worker, if it is that there is none.
    pub(crate) async fn explained(&self, failed: Failed) -> Failed {
        absent::explained(failed, &self.asked.endpoint, &self.url, &*self.backend).await
    }

    /// Closes the connections. How they close changes nothing about the outcome, which is known.
    pub(crate) async fn close(client: Client) {
        let _ = tokio::time::timeout(GOODBYE, client.shutdown()).await;
    }
}

fn config(args: &Asked, environment: ringplane_core::config::Config) -> Result<Config, Failed> {
    let mut config = Config::new(environment.worker, environment.caller);
    config.driver = args.driver.driver;
    (config.caller.call_home.bind, config.caller.call_home.advertise) = environment::bind(&environment.home)?;
    config.caller.dialect = args.dialect.into();
    Ok(config)
}

/// How long to wait for an instance.
fn waits(args: &Asked, patience: Duration) -> Duration {
    args.timeout.map_or(patience, |timeout| timeout.min(patience))
}

/// There is no directory that records could be in.
fn nothing(endpoint: &EndpointId, sight: &Sight) -> Failed {
    let url = &sight.url;
    Failed::new(Exit::NoInstances, format_args!("no instance of {endpoint} in {url}: there is no such directory"))
}

/// The codec to write in: the one given, else the one that the endpoint's records name. A request stream over mux goes as
/// it is.
async fn codec(args: &Asked, bidi: bool, backend: &dyn Backend, patience: Duration) -> Result<Option<Codec>, Failed> {
    if args.codec.is_some() || args.raw {
        return Ok(args.codec);
    }
    let instances = tokio::time::timeout(waits(args, patience), instances(args, backend)).await;
    let instances = instances.unwrap_or_else(|_elapsed| Err(CallError::NoInstances.into()))?;
    let over_mux = |instance: &Instance| match args.dialect {
        Spoken::Auto => instance.mux.is_some(),
        Spoken::Mux => true,
        Spoken::CallHome => false,
    };
    if bidi && instances.iter().all(over_mux) {
        return Ok(None);
    }
    // Whoever reads msgpack reads JSON too; older workers read nothing else.
    let json = instances.iter().any(|instance| instance.codec == instance::Codec::Json);
    Ok(Some(if json { Codec::Json } else { Codec::Msgpack }))
}

/// The endpoint's instances, once there is one.
async fn instances(args: &Asked, backend: &dyn Backend) -> Result<Vec<Instance>, Failed> {
    let refused = |error| Failed::from(Error::from(error));
    let mut watch = backend.endpoints().watch(Query::Endpoint(args.endpoint.clone())).await.map_err(refused)?;
    let mut set = Set::default();
    loop {
        let Some(change) = watch.next().await else { return Err(Failed::new(Exit::Local, "discovery has ended")) };
        let diff = set.apply(change);
        if !diff.added.is_empty() {
            return Ok(diff.added);
        }
    }
}

/// Whether an instance takes requests by NATS.
#[cfg(feature = "nats")]
async fn is_behind_nats(args: &Asked, backend: &dyn Backend, patience: Duration) -> bool {
    let instances = tokio::time::timeout(waits(args, patience), instances(args, backend)).await;
    let nats = |instance: &Instance| matches!(instance.transport, instance::Transport::Nats(_));
    matches!(instances, Ok(Ok(instances)) if instances.iter().any(nats))
}
