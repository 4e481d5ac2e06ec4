//! The pieces of an object on their way up: a few at a time, and taken back if the object does not come about.

use std::future::poll_fn;
use std::pin::Pin;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::nats::jetstream::{self, Error, JetStream};

/// An upload. Dropped before its pieces are to [stay](Self::stay), it takes them back.
pub(crate) struct Upload {
    /// `None` once there is nothing to take back.
    pending: Option<Pending>,
    inbox: String,
    ahead: usize,
}

/// What has been sent, and what the server has not answered for.
struct Pending {
    server: JetStream,
    stream: String,
    subject: String,
    answers: Subscriber,
    unkept: usize,
}

impl Upload {
    /// Begins one of pieces on the subject that `subject` makes of an id of its own: the upload and the id.
    pub(crate) async fn new(
        server: &JetStream,
        stream: &str,
        ahead: usize,
        subject: impl FnOnce(&str) -> String,
    ) -> Result<(Self, String), Error> {
        let client = server.connection().client();
        let inbox = client.new_inbox();
        let id = inbox.rsplit('.').next().unwrap_or_default().to_owned();
        let answers = client.subscribe(inbox.clone()).await.map_err(|error| Error::Broken(error.to_string()))?;
        let (server, stream, subject) = (server.clone(), stream.to_owned(), subject(&id));
        let pending = Pending { server, stream, subject, answers, unkept: 0 };
        Ok((Self { pending: Some(pending), inbox, ahead: ahead.max(1) }, id))
    }

    /// Sends a piece, once few enough are on their way.
    pub(crate) async fn send(&mut self, piece: Bytes) -> Result<(), Error> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        while pending.unkept >= self.ahead {
            pending.kept().await?;
        }
        let client = pending.server.connection().client();
        // It counts before it may have gone.
        pending.unkept += 1;
        let sent = client.publish_with_reply(pending.subject.clone(), self.inbox.clone(), piece).await;
        sent.map_err(|error| Error::Broken(error.to_string()))
    }

    /// Waits until the server keeps all of them.
    pub(crate) async fn all_kept(&mut self) -> Result<(), Error> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        while pending.unkept > 0 {
            pending.kept().await?;
        }
        Ok(())
    }

    /// Its pieces stay from here on.
    pub(crate) fn stay(mut self) {
        self.pending = None;
    }
}

impl Pending {
    /// Waits until one more piece is kept.
    async fn kept(&mut self) -> Result<(), Error> {
        let after = self.server.answer();
        let Self { answers, subject, .. } = self;
        match timeout(after, poll_fn(|cx| Pin::new(&mut *answers).poll_next(cx))).await {
            Ok(Some(message)) => {
                self.unkept -= 1;
                jetstream::kept(&message, subject).map(drop)
            }
            Ok(None) => Err(Error::Broken("the connection is closed".to_owned())),
            Err(_) => Err(Error::Unanswered { subject: subject.clone(), after }),
        }
    }

    /// Takes all back. The server purges beside what it still takes in, so that is waited for.
    async fn take_back(mut self) -> Result<(), Error> {
        while self.unkept > 0 {
            if let Err(Error::Unanswered { .. } | Error::Broken(_)) = self.kept().await {
                break;
            }
        }
        purge(&self.server, &self.stream, &self.subject).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let connection = pending.server.connection().clone();
        drop(connection.finish(async move {
            if let Err(error) = pending.take_back().await {
                tracing::debug!(%error, "pieces of an object that was not put stay");
            }
        }));
    }
}

/// Takes all messages of a subject out of a stream.
pub(crate) async fn purge(server: &JetStream, stream: &str, subject: &str) -> Result<(), Error> {
    server.ask::<Value>(&format!("STREAM.PURGE.{stream}"), &json!({ "filter": subject })).await.map(drop)
}
