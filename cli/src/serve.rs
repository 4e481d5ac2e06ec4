//! `ringplane serve`: one endpoint, until a signal.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use ringplane::Signals;
use ringplane::{Config, Leftovers, Request, RequestPlane, Responder, Worker, WorkerBuilder};
use ringplane::{PlaneError, PlaneName};
use ringplane_core::chain::Chain;
use ringplane_core::config::{Config as Environment, Place as Listen};
use ringplane_core::id::EndpointId;
use ringplane_core::wire::codec::Codec;

use crate::exec::{Pool, Program};
use crate::exit::{Exit, Failed};
use crate::options::{Discovery, Driver, Sizes, duration, endpoint, listen};
use crate::stderr::say;
use crate::{builtin, environment, exec, model, observe, payload, place, status};

/// Commands that run at once per thread unless said otherwise.
const COMMANDS: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to serve: namespace.component.endpoint, also with / between or dyn:// in front
    #[arg(value_parser = endpoint)]
    endpoint: EndpointId,
    /// Who answers [default: echo, with --model tokens]
    #[arg(long, conflicts_with = "exec")]
    handler: Option<Builtin>,
    #[command(flatten)]
    model: model::Wish,
    /// Where to listen: an address, a host or a network interface, with a port or on any free one. Of a wildcard such as
    /// 0.0.0.0:7000, callers are told the address that this host's traffic leaves from [default: DYN_TCP_RPC_HOST and
    /// DYN_TCP_RPC_PORT, else 127.0.0.1:0]
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    listen: Option<Listen>,
    /// The address callers shall dial, if another; port 0: the one listened on
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<SocketAddr>,
    /// What callers shall write their payloads in: msgpack or json [default: DYN_REQUEST_PLANE_CODEC, else msgpack]
    #[arg(long, value_name = "CODEC", value_parser = payload::codec)]
    codec: Option<Codec>,
    /// Wrap every item as Dynamo's Python endpoints do: {"data":ITEM}
    #[arg(long)]
    annotated: bool,
    /// How Dynamo's callers send requests: tcp; nats in builds with that feature, with NATS_SERVER; http in builds with
    /// that one, with DYN_HTTP_RPC_HOST and _PORT [default: DYN_REQUEST_PLANE, else tcp]
    #[arg(long, value_name = "PLANE")]
    request_plane: Option<PlaneName>,
    #[command(flatten)]
    discovery: Discovery,
    #[command(flatten)]
    driver: Driver,
    /// Threads, one event loop each
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) cores: usize,
    /// Calls that may run at once per thread [default: 4096, with --exec 16]
    #[arg(long, value_name = "N")]
    max_running: Option<usize>,
    /// Calls that may wait per thread; further ones are refused [default: 64]
    #[arg(long, value_name = "N")]
    max_queued: Option<usize>,
    /// The longest that running calls may take after a signal [default: 30]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    drain_timeout: Option<Duration>,
    /// Send this request to the endpoint, over a socket of its own, when it has answered nobody for a while; while it is not
    /// answered, callers do not find the endpoint. DYN_CANARY_WAIT_TIME says when (10 s), DYN_HEALTH_CHECK_REQUEST_TIMEOUT how
    /// long an answer may take (3 s)
    #[arg(long, value_name = "REQUEST")]
    canary: Option<String>,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    status: status::StatusServer,
    /// Run this command per request instead, as in `--exec python3 answer.py`; everything behind belongs to it. Request on
    /// stdin (each item ended by a line break), each line of stdout an item (up to 1 MiB), stderr passed through. Stop is
    /// SIGTERM, kill SIGKILL, to its process group; an exit code other than 0 is a failure. Python runs as with -u
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub(crate) exec: Vec<OsString>,
    /// Start the command of --exec so many times and let it stay: each answers one call after the other, a line of JSON in
    /// and lines out, as docs/exec.md says
    #[arg(long, value_name = "N", requires = "exec", value_parser = clap::value_parser!(u16).range(1..=1024))]
    exec_workers: Option<u16>,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum Builtin {
    /// Sends every item back
    Echo,
    /// Counts: {"n":5,"delay_ms":0,"size":0}, each optional
    Count,
    /// Answers a prompt of Dynamo's frontend with its own tokens: {"token_ids":[1,2]}
    Tokens,
}

/// Serves until the first signal, then drains; the second ends it at once.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let mut defaults = Environment::default();
    if !args.exec.is_empty() {
        defaults.worker.max_running = args.exec_workers.map_or(COMMANDS, usize::from);
    }
    let mut environment = environment::read(defaults, args.cores)?;
    args.sizes.apply(&mut environment);
    let (place, backend) = place::open_with(args.discovery.discovery.clone(), &environment.discovery)?;
    let name = args.endpoint.to_string();
    let card = args.model.card()?;
    let answering = Answering::begin(&args)?;
    let status = args.status.start()?;
    let plane = plane(&args)?;
    let planned = plane.name();
    let (listen, advertise) = addresses(&args, &environment)?;
    let mut builder =
        builder(&args, &name, &answering)?.listen(listen).request_plane(plane).discovery_backend(backend.clone());
    if let Some(addr) = advertise {
        builder = builder.advertise(addr);
    }
    if let Some(status) = &status {
        builder = builder.status(status);
    }
    if let Some(request) = &args.canary {
        builder = builder.canary(&name, request.clone());
    }
    let worker = tokio::select! {
        biased;
        () = signals.next() => return Err(Failed::new(Exit::Cancelled, "stopped by a signal before it served")),
        worker = builder.config(config(&args, &environment)).serve() => worker?,
    };
    let (addr, id, driver) = (worker.addr(), worker.instance_id(), worker.driver());
    let model = model::register(&*backend, &args.endpoint, id, card).await?;
    let at = if planned == PlaneName::Tcp { addr.to_string() } else { planned.to_string() };
    say(format_args!("ringplane: serving {name} at {at}, instance {id}, discovery {place}, driver {driver}"));

    signals.next().await;
    say("ringplane: draining; a second signal ends it at once");
    tokio::select! {
        biased;
        () = signals.next() => Err(Failed::at_once("ended before every call was done")),
        ended = async {
            model::leave(model).await;
            let cut_off = worker.drain().await;
            let left = worker.shutdown().await;
            answering.end().await;
            if let Some(status) = status {
                status.shutdown().await;
            }
            clean(left).and(in_time(cut_off))
        } => ended,
    }
}

/// How requests are to come, by the option or the variable.
fn plane(args: &Args) -> Result<RequestPlane, Failed> {
    environment::followed(|get| {
        RequestPlane::from_vars(args.request_plane, get).map_err(|error| match error {
            // These know only what was asked for, not where.
            PlaneError::Unknown(_) | PlaneError::NotBuilt(_) if args.request_plane.is_none() => {
                format!("DYN_REQUEST_PLANE: {error}")
            }
            error => Chain(&error).to_string(),
        })
    })
}

/// Who answers.
enum Answering {
    Builtin(Builtin),
    /// A command per request.
    Command(Program),
    /// Commands that stay.
    Commands(Pool),
}

impl Answering {
    fn begin(args: &Args) -> Result<Self, Failed> {
        if args.exec.is_empty() {
            let otherwise = if args.model.is_there() { Builtin::Tokens } else { Builtin::Echo };
            return Ok(Self::Builtin(args.handler.unwrap_or(otherwise)));
        }
        let program = Program::find(&args.exec)?;
        Ok(match args.exec_workers {
            Some(many) => Self::Commands(Pool::start(&program, many.into())),
            None => Self::Command(program),
        })
    }

    async fn end(self) {
        if let Self::Commands(pool) = self {
            pool.end().await;
        }
    }
}

fn builder(args: &Args, name: &str, answering: &Answering) -> Result<WorkerBuilder, Failed> {
    let builder = observe::worker(Worker::builder()).codec(payload::advertised(args.codec)?);
    let annotated = args.annotated || args.model.is_there();
    let here = tokio::runtime::Handle::current();
    Ok(match answering {
        Answering::Builtin(Builtin::Echo) => {
            builder.endpoint(name, move |r: Request, out: Responder| builtin::echo(r, out, annotated))
        }
        Answering::Builtin(Builtin::Count) => {
            builder.endpoint(name, move |r: Request, out: Responder| builtin::count(r, out, annotated))
        }
        Answering::Builtin(Builtin::Tokens) => {
            builder.endpoint(name, move |r: Request, out: Responder| builtin::tokens(r, out, annotated))
        }
        Answering::Command(program) => {
            let program = program.clone();
            builder.endpoint_on(here, name, move |request: Request<_>, out: Responder<_>| {
                let program = program.clone();
                async move { exec::run(&program, annotated, request, out).await }
            })
        }
        Answering::Commands(pool) => {
            let calls = pool.calls();
            builder.endpoint_on(here, name, move |request: Request<_>, out: Responder<_>| {
                let calls = calls.clone();
                async move { calls.run(annotated, request, out).await }
            })
        }
    })
}

/// Where to listen, and the address callers shall dial if it is another.
fn addresses(args: &Args, environment: &Environment) -> Result<(SocketAddr, Option<SocketAddr>), Failed> {
    let (listen, told) = environment::bind(args.listen.as_ref().unwrap_or(&environment.listen))?;
    Ok((listen, args.advertise.or(told.map(|ip| SocketAddr::new(ip, 0)))))
}

fn config(args: &Args, environment: &Environment) -> Config {
    let mut config = Config::new(environment.worker, environment.caller);
    (config.driver, config.cores) = (args.driver.driver, args.cores);
    let worker = &mut config.worker;
    worker.max_running = args.max_running.unwrap_or(worker.max_running);
    worker.max_queued = args.max_queued.unwrap_or(worker.max_queued);
    worker.drain_timeout = args.drain_timeout.unwrap_or(worker.drain_timeout);
    worker.canary.enabled |= args.canary.is_some();
    config
}

/// Whether a stopped group of threads left nothing behind.
pub(crate) fn clean(left: Leftovers) -> Result<(), Failed> {
    if left == Leftovers::default() {
        return Ok(());
    }
    Err(Failed::new(Exit::Internal, format_args!("something was left behind: {left:?}")))
}

/// Whether a drain ended every call by itself.
fn in_time(cut_off: u64) -> Result<(), Failed> {
    let calls = match cut_off {
        0 => return Ok(()),
        1 => "1 call was".to_owned(),
        more => format!("{more} calls were"),
    };
    Err(Failed::new(Exit::TimedOut, format_args!("{calls} not done in time and ended by the drain")))
}
