//! Events by a NATS server, as Dynamo's: core publish and subscribe, without JetStream.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_nats::{Client, PublishErrorKind, Subscriber};
use futures_core::Stream as _;
use ringplane_core::discovery::channel::EventTransport;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::inbox::Slow;
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::discovery::backend::BoxFuture;
use crate::event::error::Error;
use crate::event::kind::Kind;
use crate::event::listen::Listen;
use crate::event::nats_replay as replay;
use crate::event::subscription::{Feeder, Subscription, subscription};
use crate::event::transport::{Kept, Transport};
use crate::nats::config::Config as Server;
use crate::nats::connect::{Events, Mark, PUBLISH, SUBSCRIBE, connect, next, settle};
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
    /// Tasks that give out again what publishers keep.
    kept: Mutex<HashMap<PublisherId, Answering>>,
}

/// A task that ends when this is dropped.
struct Answering(JoinHandle<()>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
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
        Ok(Self { client, events, stall: config.stall, runtime: Handle::current(), kept: Mutex::default() })
    }

    /// How often the client library found no room for an event that came, and dropped it.
    pub fn dropped(&self) -> u64 {
        self.events.dropped()
    }

    /// How often the connection was lost.
    pub fn losses(&self) -> u64 {
        self.events.losses()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<PublisherId, Answering>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server has worked off what was sent, where its denials are heard meanwhile.
    async fn settle(&self) -> Result<(), Error> {
        let (client, events) = (self.client.clone(), Arc::clone(&self.events));
        let settled = self.runtime.spawn(async move { settle(&client, &events).await });
        settled.await.map_err(|error| Error::broken(Kind::Nats, error))?.map_err(broken)
    }

    async fn subscriber(&self, subject: &Subject, group: Option<&str>, before: Mark) -> Result<Subscriber, Error> {
        let name = subject.as_str().to_owned();
        let made = match group {
            None => self.client.subscribe(name).await,
            Some(group) => self.client.queue_subscribe(name, group.to_owned()).await,
        };
        let subscriber = made.map_err(|error| broken(ServerError::Subscribe(error.to_string())))?;
        self.settle().await?;
        self.events.denied(before, SUBSCRIBE, Some(subject.as_str())).map_err(broken)?;
        Ok(subscriber)
    }
}

fn broken(error: ServerError) -> Error {
    Error::broken(Kind::Nats, error)
}

/// Events that are taken from the client library before anything else is looked at.
const BATCH: usize = 256;

/// A subscription from the server's side.
struct Pump {
    subscriber: Subscriber,
    feeder: Feeder,
    events: Arc<Events>,
    subject: String,
    before: Mark,
}

impl Pump {
    /// Brings what comes to the subscriber until it is gone, or the server does not allow it any more.
    async fn run(mut self) {
        let denied = {
            let mut gone = pin!(self.feeder.gone());
            let mut denied = pin!(self.events.is_denied(self.before, SUBSCRIBE, Some(&self.subject)));
            loop {
                let message = tokio::select! {
                    biased;
                    () = &mut gone => return,
                    error = &mut denied => break error,
                    message = next(&mut self.subscriber) => message,
                };
                let Some(mut message) = message else { return };
                for _ in 0..BATCH {
                    self.feeder.push_envelope(message.payload).await;
                    match ready(&mut self.subscriber).await {
                        Some(more) => message = more,
                        None => break,
                    }
                }
            }
        };
        self.feeder.fail(broken(denied));
    }
}

/// The next message that has come; `None` if none has, or none will.
async fn ready(subscriber: &mut Subscriber) -> Option<async_nats::Message> {
    let look = poll_fn(|cx| match Pin::new(&mut *subscriber).poll_next(cx) {
        Poll::Ready(message) => Poll::Ready(message),
        Poll::Pending => Poll::Ready(None),
    });
    look.await
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

    fn keep<'a>(
        &'a self,
        subject: &'a Subject,
        publisher: PublisherId,
        ring: Kept,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let (asked, before) = (replay::subject(subject, publisher), self.events.mark());
            let made = self.client.subscribe(asked.clone()).await;
            let questions = made.map_err(|error| broken(ServerError::Subscribe(error.to_string())))?;
            self.settle().await?;
            self.events.denied(before, SUBSCRIBE, Some(&asked)).map_err(broken)?;
            let answering = self.runtime.spawn(replay::answer(self.client.clone(), questions, ring));
            self.kept().insert(publisher, Answering(answering));
            Ok(())
        })
    }

    fn close(&self, _: &Subject, publisher: PublisherId) {
        self.kept().remove(&publisher);
    }

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

    fn flush<'a>(&'a self, subject: Option<&'a Subject>) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.settle().await?;
            self.events.take_denied(PUBLISH, subject.map(Subject::as_str)).map_err(broken)
        })
    }

    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        Box::pin(async move {
            if listen.inbox.slow == Slow::Wait {
                // The server would drop in the subscriber's place.
                return Err(Error::Unsupported { transport: Kind::Nats, what: "publishers that wait for subscribers" });
            }
            let before = self.events.mark();
            let subscriber = self.subscriber(subject, listen.group.as_deref(), before).await?;
            let (feeder, subscription) = subscription(subject.topic(), &listen);
            let subscription = match listen.replay {
                Some(patience) => {
                    let asker = replay::Asker { client: self.client.clone(), subject: subject.clone(), patience };
                    let runtime = self.runtime.clone();
                    let max_bytes = listen.inbox.max_bytes;
                    subscription.fetching(Box::new(move |gap, tell| {
                        runtime.spawn(asker.clone().ask(gap, max_bytes, tell));
                    }))
                }
                None => subscription,
            };
            let (events, subject) = (Arc::clone(&self.events), subject.as_str().to_owned());
            self.runtime.spawn(Pump { subscriber, feeder, events, subject, before }.run());
            Ok(subscription)
        })
    }
}
