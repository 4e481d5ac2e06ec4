//! What can go wrong before a call is made. Outcomes of calls are [`CallError`]s.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use ringplane_core::caller::error::{CallError, Kind as CallKind};
use ringplane_core::chain::Chain;
use ringplane_core::config::Error as VariableError;
use ringplane_core::id::NameError;
use ringplane_core::local::Failure;
use ringplane_core::mux::config::ConfigError;
use ringplane_driver::config::OutOfBounds;
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
    Config(OutOfBounds),
    /// A variable cannot be followed.
    Variable(VariableError),
    /// A variable names a network interface where an address is needed.
    Interface(String),
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
    IoUring(ringplane_io_uring::Error),
    /// This build has no such driver; the feature to build with has its name.
    NotBuilt(&'static str),
    /// tokio does not start.
    Tokio(ringplane_tokio::tcp::Error),
    /// Discovery failed.
    Discovery(discovery::Error),
    /// The request plane does not start.
    RequestPlane(request::Error),
    /// Spans cannot be sent anywhere.
    #[cfg(feature = "otel")]
    Telemetry(ringplane_tokio::observe::telemetry::Error),
    /// The worker has no endpoint of this name.
    NotServed(String),
    /// Signals cannot be listened for.
    Signals(io::Error),
    /// A worker without endpoints.
    NothingToServe,
    /// A request whose items follow was given where it has to be made again.
    NotWhole,
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
            Self::Name(_)
            | Self::Config(_)
            | Self::Bounds(_)
            | Self::Variable(_)
            | Self::Interface(_)
            | Self::Advertise(_)
            | Self::NotWhole
            | Self::NotServed(_)
            | Self::NothingToServe => Kind::Usage,
            #[cfg(feature = "otel")]
            Self::Telemetry(_) => Kind::Usage,
            Self::IoUring(_) | Self::Signals(_) => Kind::Local,
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
            Self::Name(_) => f.write_str("this is no endpoint's name"),
            Self::Bounds(_) | Self::Config(_) => f.write_str("the configuration cannot be kept"),
            Self::Variable(_) => f.write_str("the environment cannot be followed"),
            Self::Interface(name) => write!(f, "`{name}` is no address; name one of this host's"),
            Self::Listen { addr, .. } => write!(f, "cannot listen on {addr}"),
            Self::Advertise(addr) => {
                write!(f, "{addr} cannot be dialed from elsewhere; say which address callers shall use (advertise)")
            }
            Self::IoUring(_) => f.write_str("the io_uring driver does not start"),
            Self::NotBuilt(name) => UnknownDriver::NotBuilt(name).fmt(f),
            Self::Tokio(_) => f.write_str("tokio does not start"),
            Self::Discovery(_) => f.write_str("discovery failed"),
            Self::RequestPlane(_) => f.write_str("the request plane does not start"),
            #[cfg(feature = "otel")]
            Self::Telemetry(_) => f.write_str("spans cannot be exported"),
            Self::NothingToServe => f.write_str("a worker needs at least one endpoint"),
            Self::NotServed(name) => write!(f, "this worker does not serve `{name}`"),
            Self::Signals(_) => f.write_str("cannot listen for signals"),
            Self::NotWhole => f.write_str("a request whose items follow cannot be made again; give it one item"),
            Self::Call(_) => f.write_str("the call cannot be begun"),
            Self::Stopped => f.write_str("the driver threads have ended"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Bounds(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::Variable(error) => Some(error),
            Self::Listen { source, .. } => Some(source),
            Self::IoUring(error) => Some(error),
            Self::Tokio(error) => Some(error),
            Self::Discovery(error) => Some(error),
            Self::RequestPlane(error) => Some(error),
            #[cfg(feature = "otel")]
            Self::Telemetry(error) => Some(error),
            Self::Call(error) => Some(error),
            Self::Signals(error) => Some(error),
            Self::Interface(_)
            | Self::Advertise(_)
            | Self::NotBuilt(_)
            | Self::NothingToServe
            | Self::NotServed(_)
            | Self::NotWhole
            | Self::Stopped => None,
        }
    }
}

/// What a handler that calls on tells its own caller. The outcome of a call stays what it is.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Call(error) => error.into(),
            Error::Stopped => CallError::Closed.into(),
            error => Self::internal(Chain(&error)),
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

#[cfg(feature = "otel")]
impl From<ringplane_tokio::observe::telemetry::Error> for Error {
    fn from(error: ringplane_tokio::observe::telemetry::Error) -> Self {
        Self::Telemetry(error)
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
                write!(f, "this build has no driver `{name}`; build with `--features {name}`")
            }
        }
    }
}

impl std::error::Error for UnknownDriver {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use ringplane_core::wire::class::Class;

    use super::*;

    #[test]
    fn an_error_names_its_cause_and_does_not_repeat_it() {
        let refused = || io::Error::from(io::ErrorKind::AddrInUse);
        let addr = SocketAddr::from(([127, 0, 0, 1], 80));
        let error = Error::Listen { addr, source: refused() };
        assert_eq!(error.to_string(), "cannot listen on 127.0.0.1:80");
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        assert_eq!(source, Some(io::ErrorKind::AddrInUse));
        assert_eq!(Chain(&error).to_string(), format!("cannot listen on 127.0.0.1:80: {}", refused()));

        let name = ringplane_core::id::EndpointId::parse("no endpoint").unwrap_err();
        let record = ringplane_core::discovery::error::Error::Topic;
        for (error, cause) in [
            (Error::from(name.clone()), name.to_string()),
            (Error::Bounds(ConfigError::Zero("max_calls")), ConfigError::Zero("max_calls").to_string()),
            (Error::Tokio(ringplane_tokio::tcp::Error::Panicked), ringplane_tokio::tcp::Error::Panicked.to_string()),
            (Error::IoUring(ringplane_io_uring::Error::Make), ringplane_io_uring::Error::Make.to_string()),
            (
                Error::Discovery(discovery::Error::Record(record.clone())),
                format!("the record cannot be written down: {record}"),
            ),
            (Error::Call(CallError::Idle), CallError::Idle.to_string()),
        ] {
            assert_eq!(Chain(&error).to_string(), format!("{error}: {cause}"));
        }
        assert!(Error::Stopped.source().is_none());
    }

    #[test]
    fn a_handler_that_calls_on_fails_as_the_call_did() {
        assert_eq!(Failure::from(Error::Call(CallError::Overloaded)).class, Class::CapacityExhausted);
        assert_eq!(Failure::from(Error::Stopped).class, Class::Unavailable);
        let failure = Failure::from(Error::NothingToServe);
        assert_eq!((failure.class, &*failure.message), (Class::Internal, "a worker needs at least one endpoint"));
    }
}
