//! What a queue can refuse.

use std::fmt;

use crate::nats::jetstream;

/// Why a queue did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is left of the queue's name in lower case without characters other than `a-z 0-9 - _`.
    Name(String),
    /// A consumer's name is empty or holds what separates words at NATS.
    Consumer(String),
    /// The name of an event is empty or holds what separates words at NATS.
    Event(String),
    /// There is no such queue.
    NoQueue(String),
    /// The consumer is not there any more: another has removed it, or the server has forgotten it after
    /// [`Config::inactive`](super::Config::inactive). Its place is lost; one of that name begins with all that is kept.
    NoConsumer(String),
    /// The server cannot say what these consumers have acknowledged, so nothing is purged.
    Unknown(Vec<String>),
    /// What came out of the queue is no message of JetStream's: its subject for the acknowledgement.
    NoTask(String),
    /// JetStream did not do it.
    JetStream(jetstream::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}` is no name of a queue: it needs a letter or a digit"),
            Self::Consumer(name) => {
                write!(
                    f,
                    "`{name}` is no name of a consumer: letters, digits and other characters but space . * > / \\"
                )
            }
            Self::Event(name) => {
                write!(f, "`{name}` is no name of an event: letters, digits and other characters but space . * >")
            }
            Self::NoQueue(name) => write!(f, "there is no queue `{name}`"),
            Self::NoConsumer(name) => {
                write!(f, "the consumer `{name}` is gone: removed, or forgotten after too long without a request")
            }
            Self::Unknown(names) => {
                write!(f, "the server does not know what {} have acknowledged; nothing is purged", names.join(", "))
            }
            Self::NoTask(reply) => write!(f, "a message that cannot be acknowledged came from the queue: `{reply}`"),
            Self::JetStream(_) => f.write_str("the queue does not answer as it should"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::JetStream(error) => Some(error),
            _ => None,
        }
    }
}

impl From<jetstream::Error> for Error {
    fn from(error: jetstream::Error) -> Self {
        Self::JetStream(error)
    }
}
