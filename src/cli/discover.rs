//! `ringplane discover`: which instances there are, now or from now on.

use std::io::{self, Write};
use std::sync::Arc;

use ringplane::core::discovery::instance::{Instance, Transport};
use ringplane::core::discovery::key::Query;
use ringplane::core::discovery::set::Set;
use ringplane::core::id::EndpointId;
use ringplane::discovery::Backend;
use serde_json::{Value, json};

use crate::cli::args::Discovery;
use crate::cli::exit::{Exit, Failed};
use crate::cli::place;
use crate::cli::signals::Signals;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Those there are now
    List(Args),
    /// Those there are now and every change, until a signal
    Watch(Args),
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

/// Prints instances.
pub(crate) async fn run(command: Command) -> Result<(), Failed> {
    let (args, watching) = match command {
        Command::List(args) => (args, false),
        Command::Watch(args) => (args, true),
    };
    let mut signals = Signals::new()?;
    let (_, backend) = place::open(args.discovery.discovery)?;
    let query = args.query.unwrap_or(Query::All);
    if watching {
        return watch(backend, query, args.json, &mut signals).await;
    }
    let found = backend.list(query).await.map_err(|error| Failed::local("discovery", error))?;
    print(found.iter().map(|instance| if args.json { object(instance).to_string() } else { line(instance) }))
}

async fn watch(backend: Arc<dyn Backend>, query: Query, json: bool, signals: &mut Signals) -> Result<(), Failed> {
    let mut watch = backend.watch(query).await.map_err(|error| Failed::local("discovery", error))?;
    let mut set = Set::default();
    loop {
        let change = tokio::select! {
            biased;
            () = signals.next() => return Ok(()),
            change = watch.next() => change,
        };
        let Some(change) = change else { return Err(Failed::new(Exit::Local, "discovery has ended")) };
        let diff = set.apply(change);
        let removed = diff.removed.iter().map(|instance| ("removed", "-", instance));
        let added = diff.added.iter().map(|instance| ("added", "+", instance));
        print(removed.chain(added).map(|(event, sign, instance)| {
            if !json {
                return format!("{sign} {}", line(instance));
            }
            let mut object = object(instance);
            object["event"] = Value::from(event);
            object.to_string()
        }))?;
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

fn line(instance: &Instance) -> String {
    // A foreign record may hold anything but the `/` of a key.
    let name = instance.endpoint.to_string().escape_debug().to_string();
    format!("{:<16}  {name}  {}  {}", instance.id.to_string(), address(instance), dialect(instance))
}

/// Where requests go: an address, a subject or a URL.
fn address(instance: &Instance) -> String {
    match &instance.transport {
        Transport::Tcp => instance.addr.to_string(),
        Transport::Nats(name) | Transport::Http(name) => name.escape_debug().to_string(),
    }
}

fn object(instance: &Instance) -> Value {
    json!({
        "id": instance.id.to_string(),
        "endpoint": instance.endpoint.to_string(),
        "address": address(instance),
        "dialect": dialect(instance),
    })
}

fn print(lines: impl Iterator<Item = String>) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    let write = || lines.into_iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    match write() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failed::new(Exit::Cancelled, "nobody reads the output"))
        }
        result => result.map_err(|error| Failed::local("stdout", error)),
    }
}

#[cfg(test)]
mod tests {
    use ringplane::core::id::InstanceId;

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
        assert_eq!(line(&instance), "ab                a.b.c\\n  127.0.0.1:5  dynamo");
        instance.mux = Some(1);
        assert_eq!(object(&instance)["dialect"], "mux/1");
        instance.transport = Transport::Nats("a_b.c-ab".to_owned());
        assert_eq!(line(&instance), "ab                a.b.c\\n  a_b.c-ab  dynamo-nats");
    }
}
