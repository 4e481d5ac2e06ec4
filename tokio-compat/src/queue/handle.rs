//! One queue: what goes in, what is in it, and what is taken out of its way.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::nats::connection::Connection;
use crate::nats::jetstream::{JetStream, NO_CONSUMER, NO_STREAM};
use crate::queue::config::Config;
use crate::queue::consumer::Consumer;
use crate::queue::error::Error;
use crate::queue::names::{self, GROUP, QUEUE};
use crate::queue::rules::{Depth, acknowledged};
use crate::queue::stream::{self, nanos};
use crate::queue::task::Parts;

/// A queue on a NATS server. Clones are the same queue.
///
/// A task is [enqueued](Self::enqueue) and handed to one of those that share a [`Consumer`]; everything goes to each consumer.
#[derive(Clone, Debug)]
pub struct Queue {
    server: JetStream,
    stream: String,
    config: Config,
}

/// What a queue holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The name of its stream.
    pub stream: String,
    /// Messages that are kept, acknowledged ones included until they are purged or too old.
    pub messages: u64,
    /// Their bytes on the server.
    pub bytes: u64,
    /// The sequence of the oldest; zero before there was one.
    pub first: u64,
    /// The sequence of the newest; zero before there was one.
    pub last: u64,
    /// How many consumers there are.
    pub consumers: usize,
    /// The age after which a message is dropped; zero is for ever.
    pub max_age: Duration,
}

/// One consumer of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What it has before it.
    pub depth: Depth,
    /// The sequence up to which it has acknowledged everything; zero is nothing.
    pub acknowledged: u64,
}

impl Queue {
    /// The queue of this name, made if it is not there. The name is written as Dynamo writes it: lower case, with `_` for all
    /// but letters, digits and dashes.
    ///
    /// # Errors
    /// [`Error::Name`], or what JetStream says.
    pub async fn open(connection: &Connection, name: &str, config: Config) -> Result<Self, Error> {
        let stream = names::stream(name)?;
        let server = JetStream::new(connection, config.answer);
        stream::make(&server, &stream, config.max_age).await?;
        Ok(Self { server, stream, config })
    }

    /// The queue of this name, if it is there.
    ///
    /// # Errors
    /// [`Error::NoQueue`], or as [`open`](Self::open).
    pub async fn existing(connection: &Connection, name: &str, config: Config) -> Result<Self, Error> {
        let stream = names::stream(name)?;
        let server = JetStream::new(connection, config.answer);
        match stream::look(&server, &stream).await {
            Err(error) if error.is(NO_STREAM) => Err(Error::NoQueue(name.to_owned())),
            seen => Ok(seen.map(|_| Self { server, stream, config })?),
        }
    }

    /// The name of its stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Adds a task. When this returns, the server keeps it: its sequence.
    ///
    /// # Errors
    /// What JetStream says. After [`Unanswered`](crate::nats::JetStreamError::Unanswered) the task may be there.
    pub async fn enqueue(&self, task: impl Into<Bytes>) -> Result<u64, Error> {
        self.publish(QUEUE, task).await
    }

    /// Adds an event of this name, which Dynamo's queues hold beside tasks and hand out with them.
    ///
    /// # Errors
    /// [`Error::Event`], or as [`enqueue`](Self::enqueue).
    pub async fn publish(&self, event: &str, payload: impl Into<Bytes>) -> Result<u64, Error> {
        let subject = names::subject(&self.stream, event)?;
        Ok(self.server.keep(subject, None, payload.into()).await?)
    }

    /// The consumer that all workers share: each task goes to one of them.
    ///
    /// # Errors
    /// What JetStream says.
    pub async fn group(&self) -> Result<Consumer, Error> {
        self.consumer(GROUP).await
    }

    /// The consumer of this name, made if it is not there: it is handed everything, beginning with what is kept already. Those
    /// that use one name share its messages.
    ///
    /// # Errors
    /// [`Error::Consumer`], or what JetStream says.
    pub async fn consumer(&self, name: &str) -> Result<Consumer, Error> {
        let name = names::consumer(name)?;
        let asked: Result<Seen, _> = self.server.ask(&self.about("CONSUMER.INFO", Some(name)), &json!({})).await;
        let seen = match asked {
            Err(error) if error.is(NO_CONSUMER) => {
                let question = json!({
                    "action": "",
                    "stream_name": self.stream,
                    "config": {
                        "durable_name": name,
                        "ack_policy": "explicit",
                        "ack_wait": nanos(self.config.ack_wait),
                        "deliver_policy": "all",
                        "replay_policy": "instant",
                        "inactive_threshold": nanos(self.inactive(name)),
                    },
                });
                self.server.ask(&self.about("CONSUMER.CREATE", Some(name)), &question).await?
            }
            other => other?,
        };
        let parts = Parts {
            server: self.server.clone(),
            stream: self.stream.clone(),
            name: name.to_owned(),
            // What one that was there already was made with.
            ack_wait: Duration::from_nanos(seen.config.ack_wait),
            max_tries: self.config.max_tries,
            dead_age: self.config.dead_age,
        };
        Ok(Consumer::new(parts))
    }

    /// Takes a consumer away, and its place with it. One that is not there is none.
    ///
    /// # Errors
    /// [`Error::Consumer`], or what JetStream says.
    pub async fn remove_consumer(&self, name: &str) -> Result<(), Error> {
        let about = self.about("CONSUMER.DELETE", Some(names::consumer(name)?));
        match self.server.ask::<Value>(&about, &json!({})).await {
            Err(error) if !error.is(NO_CONSUMER) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What the default group has before it. Before there is one, it is all that is kept.
    ///
    /// # Errors
    /// What JetStream says.
    pub async fn depth(&self) -> Result<Depth, Error> {
        self.depth_of(GROUP).await
    }

    /// What the consumer of this name has before it, or would have.
    ///
    /// # Errors
    /// [`Error::Consumer`], or what JetStream says.
    pub async fn depth_of(&self, consumer: &str) -> Result<Depth, Error> {
        let about = self.about("CONSUMER.INFO", Some(names::consumer(consumer)?));
        match self.server.ask::<Seen>(&about, &json!({})).await {
            Err(error) if error.is(NO_CONSUMER) => {
                Ok(Depth { pending: self.info().await?.messages, unacknowledged: 0 })
            }
            seen => Ok(seen?.depth()),
        }
    }

    /// What the queue holds.
    ///
    /// # Errors
    /// What JetStream says.
    pub async fn info(&self) -> Result<Info, Error> {
        let stream::Seen { config, state } = stream::look(&self.server, &self.stream).await?;
        Ok(Info {
            stream: self.stream.clone(),
            messages: state.messages,
            bytes: state.bytes,
            first: state.first_seq,
            last: state.last_seq,
            consumers: state.consumer_count,
            max_age: Duration::from_nanos(config.max_age),
        })
    }

    /// All consumers, by name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with those that the server knows nothing of at the moment, or what JetStream says.
    pub async fn consumers(&self) -> Result<Vec<Group>, Error> {
        let mut groups = Vec::new();
        loop {
            let question = json!({ "offset": groups.len() });
            let page: Page = self.server.ask(&self.about("CONSUMER.LIST", None), &question).await?;
            if !page.missing.is_empty() {
                return Err(Error::Unknown(page.missing));
            }
            let consumers = page.consumers.unwrap_or_default();
            let done = consumers.is_empty();
            groups.extend(consumers.into_iter().map(|seen| Group {
                depth: seen.depth(),
                acknowledged: seen.ack_floor.stream_seq,
                name: seen.name,
            }));
            if done || groups.len() >= page.total {
                groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                return Ok(groups);
            }
        }
    }

    /// Takes out all messages before this sequence, whatever consumers have done with them: how many there were.
    ///
    /// # Errors
    /// What JetStream says.
    pub async fn purge_before(&self, sequence: u64) -> Result<u64, Error> {
        // To the server a zero is no bound, and everything would go.
        if sequence <= 1 { Ok(0) } else { self.purge(json!({ "seq": sequence })).await }
    }

    /// Takes out what every consumer has acknowledged: how many messages there were. One that has acknowledged nothing yet
    /// keeps all of them; without a consumer nothing goes.
    ///
    /// # Errors
    /// As [`consumers`](Self::consumers).
    pub async fn purge_acknowledged(&self) -> Result<u64, Error> {
        let consumers = self.consumers().await?;
        match acknowledged(consumers.iter().map(|group| group.acknowledged)) {
            Some(first) => self.purge_before(first).await,
            None => Ok(0),
        }
    }

    /// Takes out everything: how many messages there were.
    ///
    /// # Errors
    /// What JetStream says.
    pub async fn purge_all(&self) -> Result<u64, Error> {
        self.purge(json!({})).await
    }

    async fn purge(&self, question: Value) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let Purged { purged } = self.server.ask(&self.about("STREAM.PURGE", None), &question).await?;
        Ok(purged)
    }

    fn inactive(&self, consumer: &str) -> Duration {
        if consumer == GROUP { self.config.group_inactive } else { self.config.inactive }
    }

    fn about(&self, what: &str, consumer: Option<&str>) -> String {
        match consumer {
            Some(consumer) => format!("{what}.{}.{consumer}", self.stream),
            None => format!("{what}.{}", self.stream),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    total: usize,
    consumers: Option<Vec<Seen>>,
    #[serde(default)]
    missing: Vec<String>,
}

#[derive(Deserialize)]
struct Seen {
    name: String,
    config: ConsumerConfig,
    ack_floor: Floor,
    num_pending: u64,
    num_ack_pending: u64,
}

#[derive(Deserialize)]
struct ConsumerConfig {
    #[serde(default)]
    ack_wait: u64,
}

#[derive(Deserialize)]
struct Floor {
    stream_seq: u64,
}

impl Seen {
    fn depth(&self) -> Depth {
        Depth { pending: self.num_pending, unacknowledged: self.num_ack_pending }
    }
}
