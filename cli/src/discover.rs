//! `ringplane discover`: which instances, models and publishers of events there are, now or from now on.

use ringplane::Signals;
use ringplane::discovery::{Backend, Place};
use ringplane_core::discovery::channel::{EventChannel, EventTransport};
use ringplane_core::discovery::event::{EventQuery, Scope};
use ringplane_core::discovery::instance::{Instance, Transport};
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::set::Set;
use ringplane_core::discovery::source::EventSource;
use ringplane_core::id::EndpointId;
use ringplane_core::wire::line::Line;
use serde_json::{Value, json};

use crate::alive::Findings;
use crate::exit::{Exit, Failed};
use crate::lines::Lines;
use crate::options::Discovery;
use crate::output::plain_json;
use crate::place::{self, Missing};
use crate::stderr::say;
use crate::streams::unread;

/// Lines that may wait for the reader of the output.
const AHEAD: usize = 64;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The instances there are now
    List(Listing),
    /// The instances there are now and every change, until a signal
    Watch(Args),
    /// The models that instances serve
    Models(Kept),
    /// Where events are to be had
    Channels(Events),
    /// Who publishes events, and what they say of themselves
    Sources(Events),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only a namespace, a component (namespace.component) or an endpoint (namespace.component.endpoint)
    #[arg(value_parser = query)]
    query: Option<Query>,
    #[command(flatten)]
    discovery: Discovery,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    args: Args,
    /// Dials each of them, for at most 2 s, and says whether it is there and serves what its record says
    #[arg(long)]
    health: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Kept {
    #[command(flatten)]
    args: Args,
    /// Every change too, until a signal
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    kept: Kept,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
}

fn query(text: &str) -> Result<Query, String> {
    // The names are checked as those of an endpoint are: by making it one.
    let text = text.strip_prefix("dyn://").unwrap_or(text).trim_matches(['/', '.']);
    let missing = 2usize.saturating_sub(text.matches(['/', '.']).count());
    let whole = EndpointId::parse(&(text.to_owned() + &".x".repeat(missing))).map_err(|error| error.to_string())?;
    Ok(match missing {
        0 => Query::Endpoint(whole),
        1 => Query::Component { namespace: whole.namespace, component: whole.component },
        _ => Query::Namespace(whole.namespace),
    })
}

impl Events {
    /// What to ask for: events of a scope are those of itself and not of what is within it.
    fn query(&self) -> EventQuery {
        let scope = match self.kept.args.query.clone().unwrap_or(Query::All) {
            Query::All => None,
            Query::Namespace(namespace) => Some(Scope::Namespace(namespace)),
            Query::Component { namespace, component } => Some(Scope::Component { namespace, component }),
            Query::Endpoint(endpoint) => Some(Scope::Endpoint(endpoint)),
        };
        EventQuery { scope, topic: self.topic.clone() }
    }
}

/// Prints records, until there are no more or somebody has had enough.
pub(crate) async fn run(command: Command) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let lines = Lines::start(AHEAD)?;
    let watching = command.watches();
    let enough = || if watching { Ok(()) } else { Err(Failed::new(Exit::Cancelled, "stopped by a signal")) };
    let ended = tokio::select! {
        biased;
        () = signals.next() => enough(),
        ended = records(&command, &lines) => ended,
        () = lines.unread() => Err(unread()),
    };
    tokio::select! {
        biased;
        written = lines.finish() => written.and(ended),
        () = signals.next() => ended.and(enough()),
    }
}

async fn records(command: &Command, lines: &Lines) -> Result<(), Failed> {
    match command {
        Command::List(Listing { args, health: true }) => list_examined(args, lines).await,
        Command::List(Listing { args, .. }) | Command::Watch(args) => {
            show::<Instance>(|at| at.endpoints(), all(args), args, command, lines).await
        }
        Command::Models(Kept { args, .. }) => show::<Model>(|at| at.models(), all(args), args, command, lines).await,
        Command::Channels(events) => {
            show::<EventChannel>(|at| at.channels(), events.query(), &events.kept.args, command, lines).await
        }
        Command::Sources(events) => {
            show::<EventSource>(|at| at.sources(), events.query(), &events.kept.args, command, lines).await
        }
    }
}

impl Command {
    /// Whether it goes on until a signal.
    const fn watches(&self) -> bool {
        match self {
            Self::List(_) => false,
            Self::Watch(_) => true,
            Self::Models(kept) => kept.watch,
            Self::Channels(events) | Self::Sources(events) => events.kept.watch,
        }
    }
}

fn all(args: &Args) -> Query {
    args.query.clone().unwrap_or(Query::All)
}

/// Ends early once nothing more is written; whoever finishes the lines hears why.
async fn show<R: Shown>(
    kind: impl Fn(&dyn Backend) -> &dyn Place<R>,
    query: R::Query,
    args: &Args,
    command: &Command,
    lines: &Lines,
) -> Result<(), Failed> {
    let json = args.json;
    if !command.watches() {
        for record in listed(kind, query, args).await? {
            let line = if json { plain_json(&record.object().to_string()) } else { record.line() };
            if lines.put(line).await.is_err() {
                break;
            }
        }
        return Ok(());
    }
    let sight = place::look(args.discovery.discovery.clone())?;
    let missing = sight.missing::<R>();
    if let Some(Missing::Root(root)) = missing {
        say(format_args!("ringplane: no worker has made `{}` yet; waiting for it", root.display()));
    }
    let backend = sight.wait::<R>().await?;
    let mut watch = kind(&*backend).watch(query).await.map_err(|error| Failed::local("discovery", error))?;
    let mut set = Set::default();
    loop {
        let Some(change) = watch.next().await else { return Err(Failed::new(Exit::Local, "discovery has ended")) };
        let diff = set.apply(change);
        let removed = diff.removed.iter().map(|record| ("removed", "-", record));
        let added = diff.added.iter().map(|record| ("added", "+", record));
        let updated = diff.updated.iter().map(|record| ("updated", "~", record));
        for (event, sign, record) in removed.chain(added).chain(updated) {
            let line = if json { changed(event, record) } else { format!("{sign} {}", record.line()) };
            if lines.put(line).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// The records there are now. That there are none is said.
async fn listed<R: Shown>(
    kind: impl Fn(&dyn Backend) -> &dyn Place<R>,
    query: R::Query,
    args: &Args,
) -> Result<Vec<R>, Failed> {
    let sight = place::look(args.discovery.discovery.clone())?;
    let records = match sight.missing::<R>() {
        Some(Missing::Root(root)) => {
            say(format_args!("ringplane: nothing is there: no worker has made `{}` yet", root.display()));
            return Ok(Vec::new());
        }
        Some(Missing::Bucket) => Vec::new(),
        None => {
            let backend = sight.open()?;
            kind(&*backend).list(query).await.map_err(|error| Failed::local("discovery", error))?
        }
    };
    if records.is_empty() {
        say(format_args!("ringplane: nothing of that kind is in {}", sight.url));
    }
    Ok(records)
}

/// The instances there are now, each with what is found where it should be.
async fn list_examined(args: &Args, lines: &Lines) -> Result<(), Failed> {
    let instances: Vec<Instance> = listed(|at| at.endpoints(), all(args), args).await?;
    let findings = Findings::of(&instances).await?;
    for instance in instances {
        let line = if args.json {
            plain_json(&examined(&instance, &findings).to_string())
        } else {
            format!("{}  {}", instance.line(), findings.line(&instance))
        };
        if lines.put(line).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// An instance with what is found where it should be, for programs.
pub(crate) fn examined(instance: &Instance, findings: &Findings) -> Value {
    let mut object = instance.object();
    object["health"] = findings.object(instance);
    object
}

fn changed(event: &str, record: &impl Shown) -> String {
    let mut object = record.object();
    object["event"] = Value::from(event);
    plain_json(&object.to_string())
}

/// A record, printed.
trait Shown: Kind {
    /// For people.
    fn line(&self) -> String;

    /// For programs.
    fn object(&self) -> Value;
}

impl Shown for Instance {
    fn line(&self) -> String {
        let name = plain(&self.endpoint.to_string());
        format!("{:<16}  {name}  {}  {}", self.id.to_string(), address(self), dialect(self))
    }

    fn object(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "endpoint": self.endpoint.to_string(),
            "address": address(self),
            "dialect": dialect(self),
        })
    }
}

impl Shown for Model {
    fn line(&self) -> String {
        let facts = self.card.facts();
        let suffix = self.suffix.as_ref().map(|suffix| format!("  adapter={}", plain(suffix))).unwrap_or_default();
        let taints = facts.taints.iter().map(|taint| plain(taint)).collect::<Vec<_>>().join(",");
        let taints = if taints.is_empty() { taints } else { format!("  taints={taints}") };
        let (name, endpoint) = (plain(&facts.display_name), plain(&self.endpoint.to_string()));
        format!("{:<16}  {endpoint}  {name}{suffix}{taints}", self.id.to_string())
    }

    fn object(&self) -> Value {
        let facts = self.card.facts();
        json!({
            "id": self.id.to_string(),
            "endpoint": self.endpoint.to_string(),
            "suffix": self.suffix,
            "name": facts.display_name,
            "taints": facts.taints,
            "card": self.card.json().value(),
        })
    }
}

impl Shown for EventChannel {
    fn line(&self) -> String {
        let (scope, topic) = (plain(&self.scope.to_string()), plain(&self.topic));
        let (transport, addresses) = self.transport.parts();
        format!("{:<14}  {scope}  {topic}  {transport}  {}", self.publisher.to_string(), plain(&addresses.join(",")))
    }

    fn object(&self) -> Value {
        let (transport, addresses) = self.transport.parts();
        json!({
            "publisher": self.publisher.to_string(),
            "scope": self.scope.to_string(),
            "topic": self.topic,
            "transport": transport,
            "addresses": addresses,
        })
    }
}

impl Shown for EventSource {
    fn line(&self) -> String {
        let (scope, topic) = (plain(&self.scope.to_string()), plain(&self.topic));
        let metadata = plain_json(&self.metadata.value().to_string());
        format!("{:<14}  {scope}  {topic}  {metadata}", self.publisher.to_string())
    }

    fn object(&self) -> Value {
        json!({
            "publisher": self.publisher.to_string(),
            "scope": self.scope.to_string(),
            "topic": self.topic,
            "metadata": self.metadata.value(),
        })
    }
}

/// A foreign record may hold anything but the `/` of a key.
fn plain(text: &str) -> String {
    Line(text).to_string()
}

/// How a subscriber gets events, and where from.
trait Parts {
    fn parts(&self) -> (&'static str, Vec<&str>);
}

impl Parts for EventTransport {
    fn parts(&self) -> (&'static str, Vec<&str>) {
        match self {
            Self::Nats { subject_prefix } => ("nats", vec![subject_prefix.as_str()]),
            Self::Zmq { endpoint } => ("zmq", vec![endpoint.as_str()]),
            Self::ZmqBroker { xpub_endpoints, .. } => {
                ("zmq-broker", xpub_endpoints.iter().map(String::as_str).collect())
            }
        }
    }
}

/// `mux/1` and the like for ringplane's own protocol, `dynamo` for Dynamo's, `dynamo-nats` and `dynamo-http` if requests do
/// not come over TCP.
fn dialect(instance: &Instance) -> String {
    if instance.transport != Transport::Tcp {
        return format!("dynamo-{}", instance.transport.name());
    }
    instance.mux.map_or_else(|| "dynamo".to_owned(), |version| format!("mux/{version}"))
}

/// Where requests go: an address, a subject or a URL.
fn address(instance: &Instance) -> String {
    match &instance.transport {
        Transport::Tcp => instance.addr.to_string(),
        Transport::Nats(name) | Transport::Http(name) => plain(name),
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::discovery::card::Card;
    use ringplane_core::discovery::event::PublisherId;
    use ringplane_core::discovery::json::Json;
    use ringplane_core::id::InstanceId;

    use super::*;

    #[test]
    fn a_query_has_one_to_three_names() {
        let component = Query::Component { namespace: "a".to_owned(), component: "b".to_owned() };
        assert_eq!(query("a"), Ok(Query::Namespace("a".to_owned())));
        assert_eq!(query("a.b"), Ok(component.clone()));
        assert_eq!(query("dyn://a/b/"), Ok(component));
        assert_eq!(query("a/b/c"), Ok(Query::Endpoint(EndpointId::new("a", "b", "c"))));
        for text in ["", "a.b.c.d", "a b", "a..b"] {
            assert!(query(text).is_err(), "{text}: {:?}", query(text));
        }
    }

    #[test]
    fn an_instance_shows_its_id_endpoint_address_and_dialect() {
        let mut instance =
            Instance::new(InstanceId(0xab), EndpointId::new("a", "b", "c\n"), "127.0.0.1:5".parse().unwrap());
        assert_eq!(instance.line(), "ab                a.b.c\\n  127.0.0.1:5  dynamo");
        instance.mux = Some(1);
        assert_eq!(instance.object()["dialect"], "mux/1");
        instance.transport = Transport::Nats("a_b.c-ab".to_owned());
        assert_eq!(instance.line(), "ab                a.b.c\\n  a_b.c-ab  dynamo-nats");
    }

    #[test]
    fn a_model_shows_its_name_its_taints_and_which_adapter_it_is() {
        let card = r#"{"display_name":"m\n","runtime_config":{"taints":["x","y"]}}"#;
        let (endpoint, card) = (EndpointId::new("a", "b", "c"), Card::new(card).unwrap());
        let model = Model { endpoint, id: InstanceId(0xab), suffix: Some("l".to_owned()), card };
        assert_eq!(model.line(), "ab                a.b.c  m\\n  adapter=l  taints=x,y");
        assert_eq!(model.object()["card"]["display_name"], "m\n");
    }

    #[test]
    fn channels_and_sources_show_their_publisher_scope_and_topic() {
        let (scope, topic) = (Scope::Namespace("n".to_owned()), "kv-events".to_owned());
        let transport = EventTransport::Zmq { endpoint: "tcp://127.0.0.1:5".to_owned() };
        let publisher = PublisherId(0x1ba3);
        let channel = EventChannel { scope: scope.clone(), topic: topic.clone(), publisher, transport };
        assert_eq!(channel.line(), "1ba3            n  kv-events  zmq  tcp://127.0.0.1:5");
        let source = EventSource { scope, topic, publisher, metadata: Json::new("{\"a\": 1}").unwrap() };
        assert_eq!(source.line(), "1ba3            n  kv-events  {\"a\":1}");
        assert_eq!(source.object()["metadata"]["a"], 1);
    }
}
