//! What `queue` and `object` share: the NATS server that the environment names, signals, and how their errors end the tool.

use std::time::Duration;

use ringplane::Signals;
use ringplane::nats::{self, Config, Connection, JetStreamError};
use ringplane::{queue, store};

use crate::environment::{followed, variable};
use crate::exit::{Exit, Failed};
use crate::lines::Lines;
use crate::streams::unread;

/// The longest wait for a server, unless the variable says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server that the environment names, and how long it is waited for.
pub(crate) fn config() -> Result<Config, Failed> {
    let mut config = followed(|get| Config::from_vars(get))?;
    if variable("NATS_STARTUP_CONNECT_TIMEOUT_SECONDS")?.is_none() {
        config.startup = PATIENCE;
    }
    Ok(config)
}

/// Connects to the server that the environment names.
pub(crate) async fn connect() -> Result<Connection, Failed> {
    Connection::open(&config()?).await.map_err(|error| Failed::by(exit(&error), &error))
}

/// How the tool ends when there is no connection.
pub(crate) fn exit(error: &nats::Error) -> Exit {
    match error {
        nats::Error::Server(_) | nats::Error::Login(_) => Exit::Usage,
        nats::Error::Denied { .. } | nats::Error::File { .. } => Exit::Local,
        _ => Exit::Unavailable,
    }
}

/// Works until it is done, a signal comes, or nobody reads the output any more.
pub(crate) async fn interruptible(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    // They look whether anybody reads; what is printed goes its own way.
    let lines = Lines::start(1)?;
    tokio::select! {
        biased;
        () = signals.next() => Err(Failed::new(Exit::Cancelled, "stopped by a signal")),
        ended = work => ended,
        () = lines.unread() => Err(unread()),
    }
}

fn server(error: &JetStreamError) -> Exit {
    match error {
        JetStreamError::Denied(_) => Exit::Local,
        JetStreamError::Unanswered { .. } => Exit::TimedOut,
        JetStreamError::TooLarge { .. } => Exit::TooLarge,
        JetStreamError::Broken(_) => Exit::Disconnected,
        _ => Exit::Unavailable,
    }
}

impl From<queue::Error> for Failed {
    fn from(error: queue::Error) -> Self {
        let exit = match &error {
            queue::Error::Name(_) | queue::Error::Consumer(_) | queue::Error::Event(_) => Exit::Usage,
            queue::Error::NoQueue(_) | queue::Error::NoConsumer(_) => Exit::NoInstances,
            queue::Error::Unknown(_) => Exit::Unavailable,
            queue::Error::JetStream(error) => server(error),
            _ => Exit::Disconnected,
        };
        Self::by(exit, &error)
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        let exit = match &error {
            store::Error::BucketName(_) | store::Error::Name(_) => Exit::Usage,
            store::Error::NoBucket(_) | store::Error::NoObject { .. } => Exit::NoInstances,
            store::Error::File { .. } | store::Error::Read(_) | store::Error::Write(_) => Exit::Local,
            store::Error::TooLarge { .. } => Exit::TooLarge,
            store::Error::Link(_) => Exit::Unavailable,
            store::Error::JetStream(error) => server(error),
            _ => Exit::Disconnected,
        };
        Self::by(exit, &error)
    }
}
