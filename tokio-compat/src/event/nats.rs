//! Events by a NATS server, as Dynamo's: core publish and subscribe, without JetStream.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, PublishErrorKind, Subscriber};
use ringplane_core::discovery::channel::EventTransport;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::inbox::Slow;
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::discovery::backend::BoxFuture;
use crate::event::error::Error;
use crate::event::kind::Kind;
use crate::event::listen::Listen;
use crate::event::subscription::{Feeder, Subscription, subscription};
use crate::event::transport::Transport;
use crate::nats::config::Config as Server;
use crate::nats::connect::{Events, connect, next, settle};
use crate::nats::error::Error as ServerError;

/// Which NATS server events go by, and the bounds of this end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which server, and how to log in there.
    pub server: Server,
    /// Events of a subscription that may wait to be read from the client library, which drops further ones; subscribers see a gap.
    /// Default 65,536.
    pub waiting: usize,
    /// Events of all publishers that may wait to be written, also while the server is away. Default 2,048.
    pub unwritten: usize,
    /// How long a publisher waits for room among those. Default 5 s.
    pub stall: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { server: Server::default(), waiting: 65_536, unwritten: 2048, stall: Duration::from_secs(5) }
    }
}

impl From<Server> for Config {
    /// By this server, with the default bounds.
    fn from(server: Server) -> Self {
        Self { server, ..Self::default() }
    }
}

/// A connection to a NATS server that comes back by itself, for any number of publishers and subscribers. Subscriptions are made
/// again with it; what was published meanwhile is lost to them, and told.
pub struct Nats {
    client: Client,
    events: Arc<Events>,
    stall: Duration,
    runtime: Handle,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("stats", &self.client.statistics()).finish_non_exhaustive()
    }
}

impl Nats {
    /// Connects, for at most the server's `startup`. The connection and its subscriptions are tasks of the tokio runtime that this
    /// runs on.
    ///
    /// # Errors
    /// [`Error::Broken`] with a [`crate::nats::Error`].
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let events = Arc::new(Events::default());
        let tune = |options: async_nats::ConnectOptions| {
            options.subscription_capacity(config.waiting.max(1)).client_capacity(config.unwritten.max(1))
        };
        let client = connect(&config.server, &events, tune).await.map_err(broken)?;
        Ok(Self { client, events, stall: config.stall, runtime: Handle::current() })
    }

    /// How often the client library found no room for an event that came, and dropped it.
    pub fn dropped(&self) -> u64 {
        self.events.dropped()
    }

    /// How often the connection was lost.
    pub fn losses(&self) -> u64 {
        self.events.losses()
    }

    async fn subscriber(&self, subject: &Subject, group: Option<&str>) -> Result<Subscriber, Error> {
        let name = subject.as_str().to_owned();
        let made = match group {
            None => self.client.subscribe(name).await,
            Some(group) => self.client.queue_subscribe(name, group.to_owned()).await,
        };
        let subscriber = made.map_err(|error| broken(ServerError::Subscribe(error.to_string())))?;
        settle(&self.client, &self.events).await.map_err(broken)?;
        Ok(subscriber)
    }
}

fn broken(error: ServerError) -> Error {
    Error::broken(Kind::Nats, error)
}

/// Brings what comes to the subscriber until it is gone.
async fn pump(mut subscriber: Subscriber, feeder: Feeder) {
    let mut gone = pin!(feeder.gone());
    loop {
        tokio::select! {
            biased;
            () = &mut gone => return,
            message = next(&mut subscriber) => match message {
                Some(message) => feeder.push_envelope(message.payload).await,
                None => return,
            },
        }
    }
}

impl Transport for Nats {
    fn kind(&self) -> Kind {
        Kind::Nats
    }

    fn open<'a>(
        &'a self,
        subject: &'a Subject,
        _: PublisherId,
    ) -> BoxFuture<'a, Result<Option<EventTransport>, Error>> {
        let subject_prefix = subject.prefix();
        Box::pin(std::future::ready(Ok(Some(EventTransport::Nats { subject_prefix }))))
    }

    fn close(&self, _: &Subject, _: PublisherId) {}

    fn publish<'a>(&'a self, subject: &'a Subject, message: Message) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let size = message.envelope.len();
            let sent = self.client.publish(subject.as_str().to_owned(), message.envelope);
            let sent = timeout(self.stall, sent).await.map_err(|_| Error::Stalled(self.stall))?;
            sent.map_err(|error| match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => Error::TooLarge { size, limit: self.client.max_payload() },
                _ => Error::broken(Kind::Nats, error),
            })
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { settle(&self.client, &self.events).await.map_err(broken) })
    }

    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        Box::pin(async move {
            if listen.inbox.slow == Slow::Wait {
                // The server would drop in the subscriber's place.
                return Err(Error::Unsupported { transport: Kind::Nats, what: "publishers that wait for subscribers" });
            }
            let subscriber = self.subscriber(subject, listen.group.as_deref()).await?;
            let (feeder, subscription) = subscription(subject.topic(), &listen);
            self.runtime.spawn(pump(subscriber, feeder));
            Ok(subscription)
        })
    }
}
