//! Listening, and why it does not come to that.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::event::zmq::endpoint::{BadEndpoint, Endpoint};
use crate::event::zmq::socket::Socket;

/// Why something that needs sockets does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be used.
    Endpoint(BadEndpoint),
    /// The system does not let it listen at this address.
    Listen {
        /// Which.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(_) => f.write_str("an address cannot be used"),
            Self::Listen { endpoint, .. } => write!(f, "cannot listen at {endpoint}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Endpoint(error) => Some(error),
            Self::Listen { source, .. } => Some(source),
        }
    }
}

impl From<BadEndpoint> for StartError {
    fn from(error: BadEndpoint) -> Self {
        Self::Endpoint(error)
    }
}

/// Listens at `endpoint`.
pub(super) async fn listen(socket: &Socket, endpoint: &Endpoint) -> Result<SocketAddr, StartError> {
    socket.bind(endpoint).await.map_err(|source| StartError::Listen { endpoint: endpoint.clone(), source })
}
