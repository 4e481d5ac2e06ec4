//! One task in hand: its payload, and what is said of it to the queue.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::nats::delivery::Delivery;
use crate::nats::jetstream::{self, JetStream};
use crate::queue::error::Error;
use crate::queue::names;
use crate::queue::rules::{Verdict, failed};
use crate::queue::stream::{self, nanos};

/// Headers of a dead letter: where it comes from.
const FROM_QUEUE: &str = "Ringplane-Queue";
const FROM_CONSUMER: &str = "Ringplane-Consumer";
const FROM_SEQUENCE: &str = "Ringplane-Sequence";
const FROM_TRIES: &str = "Ringplane-Tries";
/// A message that comes twice with the same one within two minutes is kept once.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// What the tasks of a consumer have in common.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) server: JetStream,
    pub(crate) stream: String,
    pub(crate) name: String,
    pub(crate) ack_wait: Duration,
    pub(crate) max_tries: u32,
    pub(crate) dead_age: Duration,
}

/// A task in hand. It is done when it is [acknowledged](Self::ack); one that is dropped is handed out again after
/// [`ack_wait`](super::Config::ack_wait).
#[derive(Debug)]
pub struct Task {
    parts: Arc<Parts>,
    subject: Subject,
    reply: Subject,
    delivery: Delivery,
    payload: Bytes,
    headers: Option<HeaderMap>,
}

/// Where a dead letter comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dead {
    /// The queue it was in.
    pub queue: String,
    /// The consumer that could not do it.
    pub consumer: String,
    /// Its sequence there.
    pub sequence: u64,
    /// How often it was handed out there.
    pub tries: u64,
}

impl Task {
    pub(crate) fn new(parts: Arc<Parts>, message: Message, reply: Subject, delivery: Delivery) -> Self {
        let Message { subject, payload, headers, .. } = message;
        Self { parts, subject, reply, delivery, payload, headers }
    }

    /// It is done. When this returns the server knows, and the task does not come again.
    ///
    /// # Errors
    /// [`Error::NoConsumer`], or what JetStream says; the task may come again then.
    pub async fn ack(&self) -> Result<(), Error> {
        self.say("+ACK".into()).await
    }

    /// It has failed: another try comes after `pause`, or it goes to the dead-letter queue if this was the last one.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn retry(&self, pause: Duration) -> Result<(), Error> {
        match failed(self.delivery.tries, self.parts.max_tries) {
            Verdict::Try => self.say(format!("-NAK {}", json!({ "delay": nanos(pause) })).into()).await,
            Verdict::Bury => self.bury().await,
        }
    }

    /// It will never do: it goes to the dead-letter queue, and does not come again.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn bury(&self) -> Result<(), Error> {
        let Parts { server, stream, name, dead_age, .. } = &*self.parts;
        let dead = names::dead(stream);
        stream::make(server, &dead, *dead_age).await?;
        let mut headers = self.headers.as_ref().map(kept).unwrap_or_default();
        // A worker that ends before the next step buries it again.
        headers.insert(MESSAGE_ID, format!("{stream}.{name}.{}", self.delivery.sequence));
        headers.insert(FROM_QUEUE, stream.as_str());
        headers.insert(FROM_CONSUMER, name.as_str());
        headers.insert(FROM_SEQUENCE, self.delivery.sequence.to_string());
        headers.insert(FROM_TRIES, self.delivery.tries.to_string());
        match server.keep(names::subject(&dead, self.event())?, Some(headers), self.payload.clone()).await {
            Err(jetstream::Error::TooLarge { .. }) => self.bury_bare(&dead).await?,
            kept => drop(kept?),
        }
        tracing::debug!(queue = %stream, consumer = %name, sequence = self.delivery.sequence, "a task is a dead letter");
        self.say("+TERM".into()).await
    }

    /// Its payload leaves no room for headers: the last word of its subject says where it comes from.
    async fn bury_bare(&self, dead: &str) -> Result<(), Error> {
        let Parts { server, name, .. } = &*self.parts;
        let Delivery { sequence, tries } = self.delivery;
        let subject = names::subject(dead, &names::bare(self.event(), name, sequence, tries))?;
        let about = format!("STREAM.MSG.GET.{dead}");
        // Without a header it is not known by the server whether it has been buried before.
        match server.ask::<Value>(&about, &json!({ "last_by_subj": subject })).await {
            Err(error) if error.is(jetstream::NO_MESSAGE) => {
                server.keep(subject, None, self.payload.clone()).await?;
                Ok(())
            }
            there => Ok(there.map(drop)?),
        }
    }

    /// It is being worked on: `ack_wait` begins anew.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn extend(&self) -> Result<(), Error> {
        self.say("+WPI".into()).await
    }

    /// Does `work`, and keeps the task from others as long as it takes: [`extend`](Self::extend) three times in each
    /// `ack_wait`.
    pub async fn keep<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.extended() => match never {},
        }
    }

    async fn extended(&self) -> Infallible {
        loop {
            sleep(self.parts.ack_wait / 3).await;
            if let Err(error) = self.extend().await {
                tracing::debug!(error = %ringplane_core::chain::Chain(&error), "a task in hand is not extended");
            }
        }
    }

    /// What it is about.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The last word of its subject: [`QUEUE`](super::QUEUE) for a task, the event's name for an event.
    pub fn event(&self) -> &str {
        let word = names::event(&self.subject);
        names::read_bare(&self.parts.stream, word).map_or(word, |(event, ..)| event)
    }

    /// Its place in the queue.
    pub fn sequence(&self) -> u64 {
        self.delivery.sequence
    }

    /// How often it was handed out to this consumer, this time included.
    pub fn tries(&self) -> u64 {
        self.delivery.tries
    }

    /// Where it comes from, if it is a dead letter.
    pub fn dead(&self) -> Option<Dead> {
        let stream = &self.parts.stream;
        if let Some((_, consumer, sequence, tries)) = names::read_bare(stream, names::event(&self.subject)) {
            let queue = stream.strip_suffix(names::DEAD).unwrap_or(stream).to_owned();
            return Some(Dead { queue, consumer: consumer.to_owned(), sequence, tries });
        }
        let headers = self.headers.as_ref()?;
        let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        Some(Dead {
            queue: text(FROM_QUEUE)?,
            consumer: text(FROM_CONSUMER)?,
            sequence: text(FROM_SEQUENCE)?.parse().ok()?,
            tries: text(FROM_TRIES)?.parse().ok()?,
        })
    }

    /// Tells the server, and waits until it knows.
    async fn say(&self, word: Bytes) -> Result<(), Error> {
        match self.parts.server.send(self.reply.to_string(), None, word).await {
            Ok(_) => Ok(()),
            Err(jetstream::Error::Absent { .. }) => Err(Error::NoConsumer(self.parts.name.clone())),
            Err(error) => Err(error.into()),
        }
    }
}

/// The headers that stay with a message which goes to another queue: not the server's.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| !AsRef::<str>::as_ref(*name).starts_with("Nats-")) {
        for value in values {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}
