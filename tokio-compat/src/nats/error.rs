//! Why a NATS server cannot be used.

use std::fmt;
use std::path::PathBuf;

use crate::vars;

/// Why a server cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A server's address is malformed, or none is named.
    Server(String),
    /// No server within the time for it: what the last attempt heard.
    Connect(String),
    /// A subscription was not taken.
    Subscribe(String),
    /// The server does not allow its user what is needed.
    Denied {
        /// `subscribe to` or `publish to`.
        what: &'static str,
        /// Which subject.
        subject: String,
    },
    /// The login in an address cannot be used.
    Login(vars::Error),
    /// The server does not let us in: what it says of our login.
    Refused(String),
    /// A file with keys or certificates cannot be used.
    File {
        /// What it should hold.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why it cannot be used.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(text) => write!(f, "`{text}` is no address of a NATS server"),
            Self::Connect(why) => write!(f, "no NATS server: {why}"),
            Self::Subscribe(why) => write!(f, "NATS takes no subscription: {why}"),
            Self::Denied { what, subject } => {
                write!(f, "the NATS server does not let this user {what} `{subject}`; its permissions must allow that")
            }
            Self::Login(_) => f.write_str("the login of the NATS server cannot be used"),
            Self::Refused(why) => write!(f, "the NATS server does not take this login: {why}"),
            Self::File { what, path, .. } => write!(f, "`{}` does not hold {what} for NATS", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Login(error) => Some(error),
            Self::File { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
