//! One consumer of a queue: it takes tasks, one at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::nats::delivery::Delivery;
use crate::nats::jetstream::{self, NO_CONSUMER};
use crate::queue::error::Error;
use crate::queue::rules::{Verdict, taken};
use crate::queue::stream::nanos;
use crate::queue::task::{Parts, Task};

/// The longest that the server keeps one request.
const REQUEST: Duration = Duration::from_secs(30);
/// How often it says meanwhile that it has the request.
const BEAT: Duration = Duration::from_secs(1);
/// Silence after which a request is lost, with a connection or with a server.
const SILENCE: Duration = Duration::from_secs(3);
/// The pause before a server is asked again that cannot answer at the moment.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest wait, as good as for ever.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// One consumer of a queue. Clones, and others of its name wherever they are, share its messages.
#[derive(Clone, Debug)]
pub struct Consumer(Arc<Parts>);

/// What came of one request for a message.
enum Pulled {
    Message(Message),
    Nothing,
    /// The server cannot say.
    NotNow(jetstream::Error),
}

impl Consumer {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Takes the next task, waiting for one if need be: `None` if none has come in that time. Nothing is taken ahead of it. A
    /// task that was handed out [`max_tries`](super::Config::max_tries) times goes to the dead-letter queue on the way.
    ///
    /// If this is dropped while it waits, a task that is just arriving comes again after `ack_wait`.
    ///
    /// # Errors
    /// [`Error::NoConsumer`], or what JetStream says: a server that is lost is waited for, and told at the end.
    pub async fn dequeue(&self, wait: Duration) -> Result<Option<Task>, Error> {
        let until = Instant::now() + wait.min(FOR_EVER);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.pull(left.min(REQUEST)).await? {
                Pulled::Message(message) => {
                    if let Some(task) = self.checked(message).await? {
                        return Ok(Some(task));
                    }
                }
                Pulled::Nothing if left.is_zero() => return Ok(None),
                Pulled::Nothing => {}
                Pulled::NotNow(error) if left.is_zero() => return Err(error.into()),
                Pulled::NotNow(_) => sleep(left.min(PAUSE)).await,
            }
        }
    }

    /// The message as a task, if it is not one too many.
    async fn checked(&self, message: Message) -> Result<Option<Task>, Error> {
        let reply = message.reply.clone().unwrap_or_else(|| "".into());
        let delivery = Delivery::read(&reply).ok_or_else(|| Error::NoTask(reply.to_string()))?;
        let task = Task::new(Arc::clone(&self.0), message, reply, delivery);
        match taken(delivery.tries, self.0.max_tries) {
            Verdict::Try => Ok(Some(task)),
            Verdict::Bury => {
                task.bury().await?;
                Ok(None)
            }
        }
    }

    /// Asks for one message, which the server may keep waiting for so long.
    async fn pull(&self, wait: Duration) -> Result<Pulled, Error> {
        let server = &self.0.server;
        let client = server.connection().client();
        let broken = |error: &dyn std::fmt::Display| jetstream::Error::Broken(error.to_string());
        let inbox = client.new_inbox();
        let mut messages = client.subscribe(inbox.clone()).await.map_err(|error| broken(&error))?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.0.stream, self.0.name);
        let beats = wait >= 2 * BEAT;
        let question = match () {
            () if wait.is_zero() => json!({ "batch": 1, "no_wait": true }),
            () if beats => json!({ "batch": 1, "expires": nanos(wait), "idle_heartbeat": nanos(BEAT) }),
            () => json!({ "batch": 1, "expires": nanos(wait) }),
        };
        let asked = client.publish_with_reply(subject.clone(), inbox, question.to_string().into()).await;
        asked.map_err(|error| broken(&error))?;
        let patience = if beats { SILENCE } else { wait + server.answer() };
        let message = loop {
            match timeout(patience, poll_fn(|cx| Pin::new(&mut messages).poll_next(cx))).await {
                Err(_) => return Ok(Pulled::NotNow(jetstream::Error::Unanswered { subject, after: patience })),
                Ok(None) => return Err(broken(&"the connection is closed").into()),
                Ok(Some(message)) if message.status == Some(StatusCode::IDLE_HEARTBEAT) => {}
                Ok(Some(message)) => break message,
            }
        };
        let text = message.description.clone().unwrap_or_default();
        let refused = |code: u16| jetstream::Error::Refused { code: code.into(), text };
        match message.status.map(|status| status.as_u16()) {
            None | Some(200) => Ok(Pulled::Message(message)),
            Some(404 | 408) => Ok(Pulled::Nothing),
            // No consumer, or a server that has not found it yet after its start.
            Some(503) => self.there().await.map(|()| Pulled::NotNow(jetstream::Error::Absent { subject })),
            // It was taken away, its leader changes, the server ends, too many wait: the consumer itself says which.
            Some(409) => self.there().await.map(|()| Pulled::NotNow(refused(409))),
            Some(code) => Err(refused(code).into()),
        }
    }

    /// Whether the consumer is there, as far as the server can say.
    async fn there(&self) -> Result<(), Error> {
        let about = format!("CONSUMER.INFO.{}.{}", self.0.stream, self.0.name);
        match self.0.server.ask::<Value>(&about, &json!({})).await {
            Err(error) if error.is(NO_CONSUMER) || error.is(jetstream::NO_STREAM) => {
                Err(Error::NoConsumer(self.0.name.clone()))
            }
            _ => Ok(()),
        }
    }
}
