//! What can go wrong before a call is made. Outcomes of calls are [`CallError`]s.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use ringplane_core::caller::error::{CallError, Kind as CallKind};
use ringplane_core::id::NameError;
use ringplane_core::mux::config::ConfigError;
use ringplane_driver::error::SubmitError;
use ringplane_tokio::{discovery, request};

/// Why a worker or a client does not start or stop.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint's name is malformed.
    Name(NameError),
    /// Windows, limits and time bounds contradict each other, or one is nothing.
    Bounds(ConfigError),
    /// A knob of [`Config`](crate::Config) is out of its bounds.
    Config(&'static str),
    /// The address cannot be listened on.
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Callers cannot dial the address that would be advertised.
    Advertise(SocketAddr),
    /// io_uring was required and is refused.
    #[cfg(target_os = "linux")]
    IoUring(ringplane_io_uring::Error),
    /// io_uring was required and this is not Linux.
    #[cfg(not(target_os = "linux"))]
    IoUring,
    /// This build has no such driver; the feature to build with has its name.
    NotBuilt(&'static str),
    /// tokio does not start.
    Tokio(ringplane_tokio::tcp::Error),
    /// Discovery failed.
    Discovery(discovery::Error),
    /// The request plane does not start.
    RequestPlane(request::Error),
    /// A worker without endpoints.
    NothingToServe,
    /// A call cannot be begun.
    Call(CallError),
    /// The threads have ended.
    Stopped,
}

/// Where the cause of an [`Error`] lies. Unlike errors these are all there are, so that whoever reacts to each of them is told
/// by the compiler.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// In a call, whose end was of this kind.
    Call(CallKind),
    /// In what was asked for: a name, a knob, an address that cannot be.
    Usage,
    /// In this machine or what it reaches: a driver, an address, discovery, a broker.
    Local,
    /// The threads have ended.
    Stopped,
}

impl Error {
    /// Where the cause lies.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Call(error) => Kind::Call(error.kind()),
            Self::Name(_) | Self::Config(_) | Self::Bounds(_) | Self::Advertise(_) | Self::NothingToServe => {
                Kind::Usage
            }
            #[cfg(target_os = "linux")]
            Self::IoUring(_) => Kind::Local,
            #[cfg(not(target_os = "linux"))]
            Self::IoUring => Kind::Local,
            Self::Listen { .. } | Self::NotBuilt(_) | Self::Tokio(_) | Self::Discovery(_) | Self::RequestPlane(_) => {
                Kind::Local
            }
            Self::Stopped => Kind::Stopped,
        }
    }
}

/// Why a core does not take a job, which is dropped unrun.
impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full => Self::Call(CallError::Overloaded),
            SubmitError::Stopped => Self::Stopped,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Bounds(error) => error.fmt(f),
            Self::Config(what) => f.write_str(what),
            Self::Listen { addr, source } => write!(f, "cannot listen on {addr}: {source}"),
            Self::Advertise(addr) => {
                write!(f, "{addr} cannot be dialed from elsewhere; say which address callers shall use (advertise)")
            }
            #[cfg(target_os = "linux")]
            Self::IoUring(error) => error.fmt(f),
            #[cfg(not(target_os = "linux"))]
            Self::IoUring => f.write_str("io_uring exists on Linux only"),
            Self::NotBuilt(name) => UnknownDriver::NotBuilt(name).fmt(f),
            Self::Tokio(error) => error.fmt(f),
            Self::Discovery(error) => write!(f, "discovery: {error}"),
            Self::RequestPlane(error) => error.fmt(f),
            Self::NothingToServe => f.write_str("a worker needs at least one endpoint"),
            Self::Call(error) => error.fmt(f),
            Self::Stopped => f.write_str("the driver threads have ended"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::RequestPlane(error) => error.source(),
            _ => None,
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<discovery::Error> for Error {
    fn from(error: discovery::Error) -> Self {
        Self::Discovery(error)
    }
}

impl From<request::Error> for Error {
    fn from(error: request::Error) -> Self {
        Self::RequestPlane(error)
    }
}

/// A text that names no driver of this build.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UnknownDriver {
    /// No build has it.
    Name(String),
    /// A build with the feature of that name has it.
    NotBuilt(&'static str),
}

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "no driver is called `{name}`; there are auto, io-uring, tokio, monoio and tokio-uring")
            }
            Self::NotBuilt(name) => {
                write!(f, "this build has no driver `{name}`; build for Linux with `--features {name}`")
            }
        }
    }
}

impl std::error::Error for UnknownDriver {}
