//! Why a service does not begin, or cannot be asked.

use std::fmt;

use crate::nats::error::Error as Server;

/// Why a service does not begin, or cannot be asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A name that services cannot have: letters, digits, `-` and `_` only.
    Name(String),
    /// The server does not take what it is asked.
    Server(Server),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "a service cannot be called {name:?}: letters, digits, - and _ only"),
            Self::Server(_) => f.write_str("services cannot be reached by NATS"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(_) => None,
            Self::Server(error) => Some(error),
        }
    }
}

impl From<Server> for Error {
    fn from(error: Server) -> Self {
        Self::Server(error)
    }
}
