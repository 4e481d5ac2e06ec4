//! Messages of a stream in order, a few asked for at a time: the pieces of an object, or the descriptions of all.

use std::future::poll_fn;
use std::pin::Pin;

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures_core::Stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::nats::delivery::Delivery;
use crate::nats::jetstream::{self, JetStream};
use crate::store::error::Error;

/// How often in a row pieces may fail to come.
const TRIES: u32 = 3;
/// Seconds after which the server forgets a reader that does not ask.
const FORGOTTEN: u64 = 300;

/// Which messages.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    /// All of a subject. A lost connection is made good from the last that came.
    All,
    /// The newest of each subject.
    Newest,
}

/// A reader of one subject.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    server: &'a JetStream,
    stream: &'a str,
    subject: String,
    which: Which,
    ahead: usize,
    reader: Option<Reader>,
    /// The sequence of the last that came.
    after: u64,
    left: usize,
    failures: u32,
}

/// One message of the stream.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) subject: Subject,
    pub(crate) payload: Bytes,
}

/// A consumer on the server, and what was asked of it.
#[derive(Debug)]
struct Reader {
    name: String,
    messages: Option<Subscriber>,
    due: usize,
}

#[derive(Deserialize)]
struct Made {
    name: String,
    num_pending: usize,
}

impl<'a> Pieces<'a> {
    /// Begins to read; [`left`](Self::left) are there.
    pub(crate) async fn new(
        server: &'a JetStream,
        stream: &'a str,
        subject: String,
        which: Which,
        ahead: usize,
    ) -> Result<Self, Error> {
        let mut pieces =
            Self { server, stream, subject, which, ahead: ahead.max(1), reader: None, after: 0, left: 0, failures: 0 };
        pieces.left = pieces.make().await?;
        Ok(pieces)
    }

    /// How many are still to come.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Error> {
        while self.left > 0 {
            if self.reader.is_none()
                && let Err(error) = self.make().await
            {
                // A server that has just come back says at once that it has nothing yet.
                let at_once = !matches!(error, jetstream::Error::Unanswered { .. });
                self.fail(error.into())?;
                if at_once {
                    sleep(self.server.answer()).await;
                }
                continue;
            }
            match self.message().await? {
                Some((sequence, piece)) if sequence > self.after => {
                    (self.after, self.failures) = (sequence, 0);
                    self.left -= 1;
                    return Ok(Some(piece));
                }
                Some(_) => {}
                None => self.fail(Error::Incomplete { left: self.left })?,
            }
        }
        Ok(None)
    }

    /// A piece has not come, or nobody who would send it: it is asked for anew unless that has been in vain too often.
    fn fail(&mut self, error: Error) -> Result<(), Error> {
        self.failures += 1;
        self.reader = None;
        let lost = match &error {
            Error::Incomplete { .. } => true,
            Error::JetStream(error) => error.is_lost(),
            _ => false,
        };
        if lost && self.failures < TRIES && self.which == Which::All { Ok(()) } else { Err(error) }
    }

    /// Nothing more is read: the server may forget it.
    pub(crate) async fn end(self) {
        if let Some(reader) = &self.reader {
            // It forgets by itself too.
            let about = format!("CONSUMER.DELETE.{}.{}", self.stream, reader.name);
            let _ = self.server.ask::<Value>(&about, &json!({})).await;
        }
    }

    /// Makes a consumer behind what has come: how many it has before it.
    async fn make(&mut self) -> Result<usize, jetstream::Error> {
        let mut config = json!({
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": self.subject,
            "inactive_threshold": FORGOTTEN * 1_000_000_000,
            "mem_storage": true,
            "num_replicas": 1,
        });
        match (self.which, self.after) {
            (Which::Newest, _) => config["deliver_policy"] = json!("last_per_subject"),
            (Which::All, 0) => config["deliver_policy"] = json!("all"),
            (Which::All, after) => {
                config["deliver_policy"] = json!("by_start_sequence");
                config["opt_start_seq"] = json!(after + 1);
            }
        }
        let question = json!({ "action": "", "stream_name": self.stream, "config": config });
        let made: Made = self.server.ask(&format!("CONSUMER.CREATE.{}", self.stream), &question).await?;
        self.reader = Some(Reader { name: made.name, messages: None, due: 0 });
        Ok(made.num_pending)
    }

    /// One message and its sequence, if it comes in time.
    async fn message(&mut self) -> Result<Option<(u64, Piece)>, Error> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        if reader.due == 0 {
            let client = self.server.connection().client();
            let broken = |error: &dyn std::fmt::Display| jetstream::Error::Broken(error.to_string());
            let inbox = client.new_inbox();
            let messages = client.subscribe(inbox.clone()).await.map_err(|error| broken(&error))?;
            reader.due = self.ahead.min(self.left);
            let question = json!({ "batch": reader.due, "no_wait": true }).to_string();
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, reader.name);
            let asked = client.publish_with_reply(subject, inbox, question.into()).await;
            asked.map_err(|error| broken(&error))?;
            reader.messages = Some(messages);
        }
        let Some(messages) = &mut reader.messages else { return Ok(None) };
        reader.due -= 1;
        let came = timeout(self.server.answer(), poll_fn(|cx| Pin::new(&mut *messages).poll_next(cx))).await;
        Ok(came.ok().flatten().and_then(read))
    }
}

/// A message of the stream; anything else says that there is none.
fn read(message: Message) -> Option<(u64, Piece)> {
    let delivery = Delivery::read(message.reply.as_deref()?)?;
    Some((delivery.sequence, Piece { subject: message.subject, payload: message.payload }))
}
