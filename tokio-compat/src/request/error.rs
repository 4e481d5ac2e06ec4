//! Why a request plane does not start at a worker.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a request plane does not start. Nothing runs then.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Two endpoints of one worker have this name on the plane, so that a request could be for either.
    Ambiguous {
        /// A NATS subject, or the last part of a URL.
        name: String,
        /// Why nothing else tells them apart.
        why: &'static str,
    },
    /// The address cannot be listened on.
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The broker is not there, or does not let us.
    Broker(Box<dyn std::error::Error + Send + Sync>),
    /// There is no thread for the plane.
    Thread(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous { name, why } => write!(f, "two endpoints of this worker are `{name}`: {why}"),
            Self::Listen { addr, .. } => write!(f, "cannot listen on {addr} for requests"),
            Self::Broker(_) => f.write_str("requests cannot come by the broker"),
            Self::Thread(_) => f.write_str("no thread for a request plane"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Ambiguous { .. } => None,
            Self::Listen { source, .. } | Self::Thread(source) => Some(source),
            Self::Broker(error) => Some(error.as_ref()),
        }
    }
}
