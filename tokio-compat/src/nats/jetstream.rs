//! Questions to JetStream, and messages that count once it has kept them.

use std::fmt;
use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::nats::connection::Connection;
use crate::nats::error;

/// JetStream's own number for a stream that is not there.
pub(crate) const NO_STREAM: u64 = 10_059;
/// For a consumer that is not there.
pub(crate) const NO_CONSUMER: u64 = 10_014;
/// For a stream of the same name that was made otherwise.
pub(crate) const NAME_IN_USE: u64 = 10_058;
/// For a message that is not there.
pub(crate) const NO_MESSAGE: u64 = 10_037;
/// For a message that was to follow another than the last one of its subject.
const NOT_LAST: [u64; 2] = [10_071, 10_164];

/// Why JetStream did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nothing there takes the request: no JetStream for this user, or no such stream.
    Absent {
        /// The subject that it went to.
        subject: String,
    },
    /// No answer in time. A message may have been kept all the same.
    Unanswered {
        /// The subject that it went to.
        subject: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server does not let this user do it.
    Denied(error::Error),
    /// JetStream says no.
    Refused {
        /// Its number for the reason.
        code: u64,
        /// Its words.
        text: String,
    },
    /// The payload is larger than the server takes.
    TooLarge {
        /// Bytes that it takes.
        limit: usize,
    },
    /// The request did not leave this process, or the answer cannot be read.
    Broken(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { subject } => {
                write!(f, "nobody takes `{subject}`: the server has no JetStream for this user, or no stream for that")
            }
            Self::Unanswered { subject, after } => write!(f, "no answer on `{subject}` within {after:?}"),
            Self::Denied(_) => f.write_str("not allowed"),
            Self::Refused { code, text } => write!(f, "JetStream refuses: {text} ({code})"),
            Self::TooLarge { limit } => write!(f, "larger than the {limit} bytes that the NATS server takes"),
            Self::Broken(why) => write!(f, "JetStream cannot be asked: {why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Denied(error) => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// Whether JetStream gives this reason.
    pub(crate) fn is(&self, reason: u64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == reason)
    }

    /// Whether another message has come before ours.
    pub(crate) fn is_overtaken(&self) -> bool {
        NOT_LAST.into_iter().any(|reason| self.is(reason))
    }

    /// Whether the server may answer when it is asked again.
    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Unanswered { .. } | Self::Broken(_))
    }
}

/// What an answer holds: what was asked for, or why not.
#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: Reason,
}

/// JetStream, by way of one connection.
#[derive(Clone, Debug)]
pub(crate) struct JetStream {
    connection: Connection,
    /// How long one answer is waited for.
    answer: Duration,
}

impl JetStream {
    pub(crate) fn new(connection: &Connection, answer: Duration) -> Self {
        Self { connection: connection.clone(), answer }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn answer(&self) -> Duration {
        self.answer
    }

    /// Asks `$JS.API.{what}`.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, what: &str, question: &Value) -> Result<T, Error> {
        let message = self.send(format!("$JS.API.{what}"), None, question.to_string().into()).await?;
        read(&message.payload)
    }

    /// Publishes to a stream, and waits until it is kept there: the sequence that it has got.
    pub(crate) async fn keep(&self, to: String, headers: Option<HeaderMap>, payload: Bytes) -> Result<u64, Error> {
        let message = self.send(to.clone(), headers, payload).await?;
        kept(&message, &to)
    }

    /// One message, and what comes back for it.
    pub(crate) async fn send(&self, to: String, headers: Option<HeaderMap>, payload: Bytes) -> Result<Message, Error> {
        let mut request = Request::new().payload(payload).timeout(Some(self.answer));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let (client, before) = (self.connection.client(), self.connection.mark());
        let answered = tokio::select! {
            biased;
            answered = client.send_request(to.clone(), request) => answered,
            denied = self.connection.denied(before, &to) => return Err(Error::Denied(denied)),
        };
        answered.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Error::Absent { subject: to },
            RequestErrorKind::MaxPayloadExceeded => Error::TooLarge { limit: client.max_payload() },
            RequestErrorKind::TimedOut => Error::Unanswered { subject: to, after: self.answer },
            _ => Error::Broken(error.to_string()),
        })
    }
}

/// The sequence of a message that was published to `subject`, from the server's answer to it.
pub(crate) fn kept(answer: &Message, subject: &str) -> Result<u64, Error> {
    #[derive(Deserialize)]
    struct Kept {
        seq: u64,
    }
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(Error::Absent { subject: subject.to_owned() });
    }
    read(&answer.payload).map(|Kept { seq }| seq)
}

/// An answer of JetStream's.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Error> {
    if let Ok(Refusal { error }) = serde_json::from_slice(answer) {
        return Err(Error::Refused { code: error.err_code, text: error.description });
    }
    serde_json::from_slice(answer).map_err(|error| Error::Broken(format!("its answer is malformed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        // As captured from nats-server 2.15.1.
        let refusal = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0}"#;
        let refused = read::<Value>(refusal).unwrap_err();
        assert!(refused.is(NO_STREAM) && !refused.is(NO_CONSUMER));
        assert_eq!(refused.to_string(), "JetStream refuses: stream not found (10059)");
        assert_eq!(read::<Value>(br#"{"stream":"s","seq":4}"#).unwrap()["seq"], 4);
        assert!(matches!(read::<Value>(b"{"), Err(Error::Broken(_))));
    }
}
