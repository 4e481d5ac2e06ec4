//! `ringplane call`: one call, its items on stdout.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ringplane::Signals;
use ringplane::discovery::Backend;
#[cfg(feature = "nats")]
use ringplane::request::nats;
use ringplane::{Call, CallRequest, CallSender, Client, Config, Error};
use ringplane_core::caller::config::Dialect;
use ringplane_core::caller::error::CallError;
use ringplane_core::discovery::instance::{self, Instance};
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::Set;
use ringplane_core::id::EndpointId;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::annotated::Annotated;
use ringplane_core::wire::trace_context::TraceParent;
use tokio::sync::mpsc;

use crate::absent;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::lines::Lines;
use crate::observe;
use crate::options::{Discovery, Driver, Sizes, duration, endpoint, router, routers};
use crate::output::{json_line, plain_json};
use crate::payload::{self, Form};
use crate::place::{self, Sight};
use crate::stderr::say;
use crate::streams::{Input, unread};
use crate::times::Times;

/// How long connections may take to close once the call is over.
const GOODBYE: Duration = Duration::from_secs(3);
/// Lines that may wait for the reader of the output.
const AHEAD: usize = 64;
/// Lines of stdin that may wait to be sent.
const FED: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to call: namespace.component.endpoint, also with / between or dyn:// in front
    #[arg(value_parser = endpoint)]
    endpoint: EndpointId,
    /// The request as it is, @FILE for a file's content, - for stdin's; none: an empty one
    #[arg(conflicts_with = "bidi", allow_hyphen_values = true)]
    request: Option<String>,
    /// Time for the whole call, such as 5s or 500ms; a number alone is seconds
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
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
    /// What payloads are sent in, msgpack or json [default: JSON is sent in the codec of the worker's record]
    #[arg(long, value_name = "CODEC", value_parser = payload::codec)]
    codec: Option<Codec>,
    /// The items are Annotated, as those of Dynamo's Python endpoints: print their data, end with their error
    #[arg(long)]
    annotated: bool,
    /// Send the request, or each line of --bidi, as it is, in no codec, JSON or not
    #[arg(long, conflicts_with = "codec")]
    raw: bool,
    /// Send each line of stdin as an item of the request while the answer comes in
    #[arg(long)]
    bidi: bool,
    /// What is spoken with the worker
    #[arg(long, default_value = "auto")]
    dialect: Spoken,
    /// Say on stderr which instance answered, and in what time
    #[arg(short, long)]
    verbose: bool,
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

/// Calls, prints, and says how it ended.
pub(crate) async fn run(mut args: Args) -> Result<(), Failed> {
    let (begun, timeout) = (Instant::now(), args.timeout);
    // What is left of the time for the whole call, which looking for the worker takes its part of.
    let left = || timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
    let mut signals = Signals::new()?;
    let mut environment = environment::read(Default::default(), 1)?;
    args.sizes.apply(&mut environment);
    let named = args.addr.as_ref().map(|addr| format!("static:{addr}"));
    let named = named.or_else(|| args.discovery.discovery.clone());
    let sight = place::look_with(named, environment.discovery.clone())?;
    let config = config(&args, environment)?;
    let (max_item, patience) = (config.caller.mux.max_item, config.caller.instance_timeout);
    let named = (args.request.clone(), args.codec);
    let reading = tokio::task::spawn_blocking(move || body(named.0.as_deref(), named.1, max_item));
    let body = tokio::select! {
        biased;
        () = signals.next() => return Err(unmade()),
        body = reading => body.map_err(|error| Failed::new(Exit::Internal, error))??,
    };
    let opened = tokio::select! {
        biased;
        () = signals.next() => return Err(unmade()),
        opened = tokio::time::timeout(waits(&args, patience), sight.wait::<Instance>()) => opened,
    };
    let backend = opened.unwrap_or_else(|_elapsed| Err(nothing(&args.endpoint, &sight)))?;
    args.timeout = left();
    let builder = observe::client(Client::builder()).discovery_backend(backend.clone()).router(args.router.clone());
    #[cfg(feature = "nats")]
    let builder = match environment::followed(|get| nats::Config::from_vars(get)) {
        Ok(config) => builder.carrier(config),
        Err(_) if !is_behind_nats(&args, &*backend, patience).await => builder,
        Err(failed) => return Err(failed),
    };
    let client = builder.config(config).connect()?;
    args.timeout = left();
    let codec = tokio::select! {
        biased;
        () = signals.next() => return Err(unmade()),
        codec = codec(&args, &*backend, patience) => codec,
    };
    let codec = match codec {
        Ok(codec) => codec,
        Err(failed) => return Err(absent::explained(failed, &args.endpoint, &sight.url, &*backend).await),
    };
    args.timeout = left();
    let (request, codec) = request(&args, body, codec)?;
    let form = Form { codec, annotated: args.annotated };
    let mut call = client.call(request)?;
    let feeding = if args.bidi { Some(stdin_lines(max_item)?) } else { None };
    let mut times = Times::begin();
    let mut ended = converse(&mut call, feeding, form, &mut signals, &mut times).await;
    if args.verbose {
        say(times.line(call.instance(), call.attempts()));
    }
    if let Err(failed) = ended {
        ended = Err(absent::explained(failed, &args.endpoint, &sight.url, &*backend).await);
    }
    // The outcome is known; how the connection closes changes nothing about it.
    let _ = tokio::time::timeout(GOODBYE, client.shutdown()).await;
    ended
}

fn config(args: &Args, environment: ringplane_core::config::Config) -> Result<Config, Failed> {
    let mut config = Config::new(environment.worker, environment.caller);
    config.driver = args.driver.driver;
    (config.caller.call_home.bind, config.caller.call_home.advertise) = environment::bind(&environment.home)?;
    config.caller.dialect = args.dialect.into();
    Ok(config)
}

/// How long to wait for an instance.
fn waits(args: &Args, patience: Duration) -> Duration {
    args.timeout.map_or(patience, |timeout| timeout.min(patience))
}

/// There is no directory that records could be in.
fn nothing(endpoint: &EndpointId, sight: &Sight) -> Failed {
    let url = &sight.url;
    Failed::new(Exit::NoInstances, format_args!("no instance of {endpoint} in {url}: there is no such directory"))
}

fn unmade() -> Failed {
    Failed::new(Exit::Cancelled, "stopped by a signal before the call was made")
}

/// The codec to write in: the one given, else the one that the endpoint's records name. A request stream over mux goes as
/// it is.
async fn codec(args: &Args, backend: &dyn Backend, patience: Duration) -> Result<Option<Codec>, Failed> {
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
    if args.bidi && instances.iter().all(over_mux) {
        return Ok(None);
    }
    // Whoever reads msgpack reads JSON too; older workers read nothing else.
    let json = instances.iter().any(|instance| instance.codec == instance::Codec::Json);
    Ok(Some(if json { Codec::Json } else { Codec::Msgpack }))
}

/// The endpoint's instances, once there is one.
async fn instances(args: &Args, backend: &dyn Backend) -> Result<Vec<Instance>, Failed> {
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
async fn is_behind_nats(args: &Args, backend: &dyn Backend, patience: Duration) -> bool {
    let instances = tokio::time::timeout(waits(args, patience), instances(args, backend)).await;
    let nats = |instance: &Instance| matches!(instance.transport, instance::Transport::Nats(_));
    matches!(instances, Ok(Ok(instances)) if instances.iter().any(nats))
}

/// What a word of the command line stands for: itself, a file's content, or stdin's.
pub(crate) fn body(request: Option<&str>, codec: Option<Codec>, max_item: u64) -> Result<Vec<u8>, Failed> {
    Ok(match request {
        None if codec.is_some() => b"null".to_vec(),
        None => Vec::new(),
        Some("-") => all(Input::new().map_err(|error| Failed::local("stdin", error))?, "stdin", max_item)?,
        Some(text) => match text.strip_prefix('@') {
            None => text.as_bytes().to_vec(),
            Some(path) => {
                let file = File::open(path).map_err(|error| Failed::local(path, error))?;
                all(file, path, max_item)?
            }
        },
    })
}

/// The request, and the codec it is in: a body that is no JSON goes as it is, in none.
fn request(args: &Args, body: Vec<u8>, codec: Option<Codec>) -> Result<(CallRequest, Option<Codec>), Failed> {
    let name = args.endpoint.to_string();
    let converted = codec.and_then(|codec| payload::from_json(codec, &body));
    if args.codec.is_some() && converted.is_none() && !args.bidi {
        return Err(Failed::new(Exit::Usage, "with --codec the request is JSON"));
    }
    if converted.is_none() && !args.raw && !args.bidi {
        whole_json(&body)?;
    }
    let codec = codec.filter(|_| args.bidi || converted.is_some());
    let mut request = match converted {
        _ if args.bidi => CallRequest::streaming(name),
        Some(converted) => CallRequest::new(name, converted),
        None => CallRequest::new(name, body),
    };
    if let Some(codec) = codec {
        request = request.with_codec(codec);
    }
    if let Some(timeout) = args.timeout {
        request = request.with_timeout(timeout);
    }
    if let Some(trace) = &args.traceparent {
        request = request.with_trace(trace, None);
    }
    for (key, value) in &args.metadata {
        request = request.with_metadata(key, value);
    }
    Ok((request, codec))
}

/// Refuses what looks like JSON and is none: whoever writes that means JSON.
fn whole_json(text: &[u8]) -> Result<(), Failed> {
    payload::broken_json(text).map_or(Ok(()), |why| {
        let why = format_args!("the request looks like JSON and is none: {why}; --raw sends it as it is");
        Err(Failed::new(Exit::Usage, why))
    })
}

/// Reads everything, but not more than an item may have.
fn all(source: impl Read, name: &str, limit: u64) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Failed::local(name, error))?;
    if bytes.len() as u64 > limit { Err(CallError::TooLarge { limit }.into()) } else { Ok(bytes) }
}

pub(crate) type StdinLines = mpsc::Receiver<Result<Vec<u8>, Failed>>;

/// Reads stdin on a thread: a terminal that nobody types on must not keep the call from ending.
pub(crate) fn stdin_lines(limit: u64) -> Result<StdinLines, Failed> {
    let (queue, lines) = mpsc::channel(FED);
    let mut stdin = BufReader::new(Input::new().map_err(|error| Failed::local("stdin", error))?);
    let run = move || {
        while let Some(line) = next_line(&mut stdin, limit).transpose() {
            let over = line.is_err();
            if queue.blocking_send(line).is_err() || over {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("stdin".to_owned()).spawn(run);
    started.map(|_| lines).map_err(|error| Failed::local("cannot start a thread", error))
}

/// The next line without its end.
fn next_line(source: &mut impl BufRead, limit: u64) -> Result<Option<Vec<u8>>, Failed> {
    let mut line = Vec::new();
    let read = source.take(limit + 1).read_until(b'\n', &mut line).map_err(|error| Failed::local("stdin", error))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() as u64 > limit {
        return Err(CallError::TooLarge { limit }.into());
    }
    Ok((read > 0).then_some(line))
}

/// Sends and reads to the end of the call. The first signal stops the call, the second kills it.
async fn converse(
    call: &mut Call,
    feeding: Option<StdinLines>,
    form: Form,
    signals: &mut Signals,
    times: &mut Times,
) -> Result<(), Failed> {
    let lines = Lines::start(AHEAD)?;
    let terminal = io::stdout().is_terminal();
    let sender = call.take_sender();
    let mut feeding = std::pin::pin!(feed(feeding, sender, form));
    let (mut stopped, mut fed) = (false, false);
    // The line that waits for room.
    let mut line: Option<Vec<u8>> = None;
    let outcome = loop {
        tokio::select! {
            biased;
            () = signals.next() => {
                if stopped {
                    return Err(killed(call));
                }
                stopped = true;
                call.stop();
            }
            room = lines.room(), if line.is_some() => match (room, line.take()) {
                (Ok(room), Some(ready)) => room.send(ready),
                _ => break Ok(()),
            },
            () = lines.unread() => return Err(unread()),
            item = call.next(), if line.is_none() => match item {
                Some(Ok(item)) => {
                    times.on_item();
                    match printed(form, terminal, &item) {
                        Ok(printed) => line = printed,
                        Err(failed) => break Err(failed),
                    }
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            result = &mut feeding, if !fed => {
                fed = true;
                result?;
            }
        }
    };
    times.on_end();
    tokio::select! {
        biased;
        written = lines.finish() => written?,
        () = signals.next() => return Err(killed(call)),
    }
    match outcome {
        Ok(()) if stopped => Err(Failed::new(Exit::Cancelled, "stopped by a signal; the worker ended the call early")),
        outcome => outcome,
    }
}

/// Sends every line as an item of the request.
async fn feed(lines: Option<StdinLines>, sender: Option<CallSender>, form: Form) -> Result<(), Failed> {
    let (Some(mut lines), Some(sender)) = (lines, sender) else { return Ok(()) };
    while let Some(line) = lines.recv().await {
        let mut line = line?;
        if let Some(codec) = form.codec {
            whole_json(&line)?;
            line = payload::from_line(codec, &line);
        }
        // A call that is over says why where it is read.
        if sender.send(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The line of an item; none for an Annotated one without data.
fn printed(form: Form, terminal: bool, item: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
    let unreadable = |error: String| Failed::new(Exit::Handler, format_args!("an item cannot be read: {error}"));
    let codec = form.codec.unwrap_or_default();
    let annotated = match form.annotated {
        true => Annotated::read(codec, item).map_err(|error| unreadable(error.to_string()))?,
        false => Annotated::of(item),
    };
    if let Some(failure) = annotated.failure() {
        return Err(Failed::new(Exit::Handler, failure));
    }
    let Some(data) = annotated.data else { return Ok(None) };
    // A handler that answers in no codec is shown as it is.
    let line = payload::to_json(codec, data).map_or_else(|_| json_line(data), |json| json_line(&json));
    match str::from_utf8(&line) {
        Ok(text) if terminal => Ok(Some(plain_json(text).into_bytes())),
        _ => Ok(Some(line)),
    }
}

fn killed(call: &Call) -> Failed {
    call.kill();
    Failed::at_once("killed by a second signal")
}
