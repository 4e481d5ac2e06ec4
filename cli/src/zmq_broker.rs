//! `ringplane zmq-broker`: a broker for events over ZeroMQ.

use ringplane::Signals;
use ringplane::discovery::random_publisher_id;
use ringplane::zmq::{BROKER_COMPONENT, Broker, BrokerConfig, Config, Endpoint};
use ringplane_core::config::Place;
use ringplane_core::discovery::channel::{EventChannel, EventTransport};
use ringplane_core::discovery::config::Config as Discovery;
use ringplane_core::discovery::event::Scope;

use crate::environment;
use crate::exit::{Exit, Failed};
use crate::options;
use crate::place;
use crate::stderr::say;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where publishers connect: an address, a host or a network interface, with a port or on any free one; `tcp://` may stand
    /// before it [default: ZMQ_BROKER_XSUB_BIND, else 127.0.0.1 and any port]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    xsub: Option<Place>,
    /// Where subscribers connect, likewise [default: ZMQ_BROKER_XPUB_BIND, else 127.0.0.1 and any port]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    xpub: Option<Place>,
    /// Register it in discovery for events of this namespace [default: ZMQ_BROKER_NAMESPACE, else it is not registered]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    discovery: options::Discovery,
}

/// Reads an address as ZeroMQ writes it, or as other options here have it.
fn address(text: &str) -> Result<Place, String> {
    let bare = text.strip_prefix("tcp://").unwrap_or(text);
    match bare.strip_prefix('*') {
        Some(port) => options::listen(&format!("0.0.0.0{}", port.replace(":*", ":0"))),
        None => options::listen(bare),
    }
}

/// The option, else the variable, else the loopback.
fn chosen(option: Option<Place>, variable: &str) -> Result<Place, Failed> {
    match (option, environment::variable(variable)?) {
        (Some(place), _) => Ok(place),
        (None, Some(text)) => {
            address(&text).map_err(|error| Failed::new(Exit::Usage, format_args!("{variable}: {error}")))
        }
        (None, None) => Ok(Place { host: None, port: 0 }),
    }
}

/// Hands on until a signal.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    let sides = [chosen(args.xsub, "ZMQ_BROKER_XSUB_BIND")?, chosen(args.xpub, "ZMQ_BROKER_XPUB_BIND")?];
    let [(xsub, xsub_told), (xpub, xpub_told)] = [environment::bind(&sides[0])?, environment::bind(&sides[1])?];
    let config = BrokerConfig { xsub: xsub.into(), xpub: xpub.into(), socket: Config::default() };
    let broker = Broker::start(config).await.map_err(|error| Failed::local("the broker does not start", error))?;
    let told = |mut addr: std::net::SocketAddr, told: Option<std::net::IpAddr>| {
        addr.set_ip(told.unwrap_or(addr.ip()));
        Endpoint::from(addr).to_string()
    };
    let (xsub, xpub) = (told(broker.xsub_addr(), xsub_told), told(broker.xpub_addr(), xpub_told));
    say(format_args!("ringplane: publishers connect to {xsub}, subscribers to {xpub}"));
    let namespace =
        args.namespace.map_or_else(|| environment::variable("ZMQ_BROKER_NAMESPACE"), |name| Ok(Some(name)))?;
    let mut record = None;
    if let Some(namespace) = namespace {
        let temporary = environment::temporary()?;
        let config = environment::followed(|get| Discovery::from_vars(get, &temporary))?;
        let (url, backend) = place::open_with(args.discovery.discovery, &config)?;
        let scope = Scope::Component { namespace: namespace.clone(), component: BROKER_COMPONENT.to_owned() };
        let transport = EventTransport::ZmqBroker { xsub_endpoints: vec![xsub], xpub_endpoints: vec![xpub] };
        let channel = EventChannel { scope, topic: "broker".to_owned(), publisher: random_publisher_id(), transport };
        let registered = backend.channels().register(channel).await;
        record = Some(registered.map_err(|error| Failed::local("the broker cannot be registered", error))?);
        say(format_args!("ringplane: the broker of namespace `{namespace}` is in {url}"));
    }
    signals.next().await;
    if let Some(record) = record {
        record.unregister().await.map_err(|error| Failed::local("the broker's record may stay for a while", error))?;
    }
    let (from, to) = broker.stats();
    say(format_args!("ringplane: {} messages came, {} went out, {} were dropped", from.received, to.sent, to.dropped));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_as_zeromq_writes_it() {
        for (zeromq, ours) in [
            ("tcp://127.0.0.1:5555", "127.0.0.1:5555"),
            ("tcp://*:5555", "0.0.0.0:5555"),
            ("tcp://*:*", "0.0.0.0:0"),
            ("tcp://[::1]:7", "[::1]:7"),
            ("lo:9", "lo:9"),
        ] {
            assert_eq!(address(zeromq), options::listen(ours), "{zeromq}");
        }
        assert!(address("tcp://").is_err());
    }
}
