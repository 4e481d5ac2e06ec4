//! How the tool's events travel: the option of `pub` and `sub`, and what the environment says.

use ringplane::events::{Error, EventPlane, Events, Kind, MuxConfig, Scope};
use ringplane_core::chain::Chain;
use ringplane_core::discovery::config::Config;

use crate::environment;
use crate::exit::{Exit, Failed};
use crate::options::{Discovery, Driver};
use crate::place;

/// Dynamo's variable. Empty or unset means ZeroMQ to Dynamo, and mux here.
const VARIABLE: &str = "DYN_EVENT_PLANE";

/// How events travel.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plane {
    /// How events travel: mux, or nats and zmq where built in [default: DYN_EVENT_PLANE, else mux]
    #[arg(long, value_name = "PLANE", value_parser = kind)]
    event_plane: Option<Kind>,
    #[command(flatten)]
    discovery: Discovery,
    #[command(flatten)]
    driver: Driver,
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| "there are inproc, nats, zmq and mux".to_owned())
}

/// Reads a scope.
pub(crate) fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text.strip_prefix("dyn://").unwrap_or(text)).map_err(|error| error.to_string())
}

impl Plane {
    /// Opens it.
    pub(crate) async fn open(&self) -> Result<Events, Failed> {
        let kind = self.kind()?;
        let temporary = environment::temporary()?;
        let config = environment::followed(|get| Config::from_vars(get, &temporary))?;
        let (_, backend) = place::open_with(self.discovery.discovery.clone(), &config)?;
        let plane = self.plane(kind)?;
        Events::builder().discovery_backend(backend).plane(plane).open().await.map_err(failed)
    }

    /// The one asked for, else that of the environment, else mux.
    fn kind(&self) -> Result<Kind, Failed> {
        if let Some(kind) = self.event_plane {
            return Ok(kind);
        }
        let Some(name) = environment::variable(VARIABLE)?.filter(|name| !name.trim().is_empty()) else {
            return Ok(Kind::Mux);
        };
        kind(&name).map_err(|known| Failed::new(Exit::Usage, format_args!("{VARIABLE} is `{name}`; {known}")))
    }

    fn plane(&self, kind: Kind) -> Result<EventPlane, Failed> {
        match kind {
            Kind::Mux => {
                let mut config = MuxConfig::default();
                config.config.driver = self.driver.driver;
                Ok(config.into())
            }
            #[cfg(feature = "nats")]
            Kind::Nats => Ok(crate::nats::config()?.into()),
            #[cfg(feature = "zmq")]
            Kind::Zmq => Ok(environment::followed(|get| ringplane::zmq::ZmqConfig::from_vars(get))?.into()),
            Kind::InProc => {
                let why = "events within one process are heard by no other; there are mux, nats and zmq";
                Err(Failed::new(Exit::Usage, why))
            }
            #[cfg(not(all(feature = "nats", feature = "zmq")))]
            kind => Err(Failed::new(Exit::Usage, format_args!("this build carries no events by {kind}"))),
        }
    }
}

/// How a failure of the event plane ends the tool.
pub(crate) fn failed(error: Error) -> Failed {
    let exit = match &error {
        Error::Record(_) | Error::Unsupported { .. } => Exit::Usage,
        Error::TooLarge { .. } => Exit::TooLarge,
        Error::Stalled(_) => Exit::TimedOut,
        Error::Unreachable { .. } => Exit::Unavailable,
        Error::Broken { source, .. } => broken(source.as_ref()),
        _ => Exit::Local,
    };
    Failed::new(exit, format_args!("events: {}", Chain(&error)))
}

/// How what carries the events ends it.
fn broken(source: &(dyn std::error::Error + 'static)) -> Exit {
    #[cfg(feature = "nats")]
    if let Some(error) = source.downcast_ref() {
        return crate::nats::exit(error);
    }
    source.downcast_ref().map_or(Exit::Local, |error: &ringplane::Error| Exit::from(error.kind()))
}
