//! What can go wrong between a publisher and its subscribers.

use std::fmt;
use std::time::Duration;

use crate::event::kind::Kind;

/// Why an event was not published, or a subscription does not begin or does not go on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The transport cannot do this.
    Unsupported {
        /// Which.
        transport: Kind,
        /// What.
        what: &'static str,
    },
    /// The event is larger than the transport carries, in bytes with its envelope.
    TooLarge {
        /// Its size.
        size: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The event could not be handed on within this time. Its number is used up: subscribers see a gap.
    Stalled(Duration),
    /// Nothing that would carry the events can be reached.
    Unreachable {
        /// By which transport.
        transport: Kind,
        /// What cannot be reached.
        what: &'static str,
    },
    /// What carries the events does not start, or is no more.
    Broken {
        /// Which.
        transport: Kind,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An envelope cannot be written.
    Envelope(ringplane_core::wire::Error),
    /// A value cannot be the payload of an event.
    Value(Box<dyn std::error::Error + Send + Sync>),
    /// A name is malformed.
    Record(ringplane_core::discovery::error::Error),
    /// Discovery failed.
    Discovery(crate::discovery::error::Error),
}

impl Error {
    /// A failure of what carries events.
    pub fn broken(transport: Kind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken { transport, source: source.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { transport, what } => write!(f, "events by {transport} have no {what}"),
            Self::TooLarge { size, limit } => write!(f, "an event of {size} bytes, of which {limit} are carried"),
            Self::Stalled(time) => write!(f, "an event could not be handed on within {time:?}"),
            Self::Unreachable { transport, what } => write!(f, "events by {transport}: {what} could be reached"),
            Self::Broken { transport, .. } => write!(f, "events by {transport} are not carried"),
            Self::Envelope(_) => f.write_str("an event cannot be written"),
            Self::Value(_) => f.write_str("a value cannot be published"),
            Self::Record(_) => f.write_str("events have no such name"),
            Self::Discovery(_) => f.write_str("discovery failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken { source, .. } => Some(source.as_ref()),
            Self::Envelope(error) => Some(error),
            Self::Value(source) => Some(source.as_ref()),
            Self::Record(error) => Some(error),
            Self::Discovery(error) => Some(error),
            Self::Unsupported { .. } | Self::Unreachable { .. } | Self::TooLarge { .. } | Self::Stalled(_) => None,
        }
    }
}

impl From<ringplane_core::wire::Error> for Error {
    fn from(error: ringplane_core::wire::Error) -> Self {
        Self::Envelope(error)
    }
}

impl From<ringplane_core::discovery::error::Error> for Error {
    fn from(error: ringplane_core::discovery::error::Error) -> Self {
        Self::Record(error)
    }
}

impl From<crate::discovery::error::Error> for Error {
    fn from(error: crate::discovery::error::Error) -> Self {
        Self::Discovery(error)
    }
}
