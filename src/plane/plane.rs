//! How requests are to reach a worker, by name and by environment.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

#[cfg(feature = "nats")]
use ringplane_tokio::nats;
#[cfg(feature = "http")]
use ringplane_tokio::request::http;

use crate::error::Error;
use crate::plane::carriers::Equipment;
use crate::plane::intake::Intake;
#[cfg(feature = "http")]
use crate::runtime::listen::advertised;

/// How requests reach a worker. Answers to Dynamo's callers go over a call-home in each case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "a worker has one; which variant is the largest depends on the features")]
pub enum RequestPlane {
    /// Over TCP, from callers that speak mux or Dynamo's protocol.
    #[default]
    Tcp,
    /// As messages of a NATS server, from Dynamo's callers. A message does not say who sent it, so an empty
    /// [`call_home`](ringplane_core::worker::config::Config::call_home) is filled with the private networks, and with this host if the
    /// server is on it: whoever may publish there may have a worker dial such an address.
    #[cfg(feature = "nats")]
    Nats(nats::Config),
    /// As HTTP requests, from callers of Dynamo 1.0 and ours.
    #[cfg(feature = "http")]
    Http(http::Config),
}

/// The name of a request plane; what it is made of follows from the environment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PlaneName {
    /// [`RequestPlane::Tcp`].
    Tcp,
    /// `RequestPlane::Nats`, in builds with the feature `nats`.
    Nats,
    /// `RequestPlane::Http`, in builds with the feature `http`.
    Http,
}

/// A request plane that this build has not, or variables it cannot follow.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PlaneError {
    /// No build has it.
    Unknown(String),
    /// A build with the feature of that name has it.
    NotBuilt(&'static str),
    /// A variable of NATS.
    #[cfg(feature = "nats")]
    Nats(nats::ConfigError),
    /// A variable of HTTP.
    #[cfg(feature = "http")]
    Http(http::ConfigError),
}

impl fmt::Display for PlaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no request plane is called `{name}`; there are tcp, nats and http"),
            Self::NotBuilt(name) => {
                write!(f, "this build has no request plane `{name}`; build with `--features {name}`")
            }
            #[cfg(feature = "nats")]
            Self::Nats(error) => error.fmt(f),
            #[cfg(feature = "http")]
            Self::Http(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PlaneError {}

impl fmt::Display for PlaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Nats => "nats",
            Self::Http => "http",
        })
    }
}

impl FromStr for PlaneName {
    type Err = PlaneError;

    /// As Dynamo reads `DYN_REQUEST_PLANE`: in any case, and nothing else than a name.
    fn from_str(text: &str) -> Result<Self, PlaneError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "nats" if cfg!(feature = "nats") => Ok(Self::Nats),
            "nats" => Err(PlaneError::NotBuilt("nats")),
            "http" if cfg!(feature = "http") => Ok(Self::Http),
            "http" => Err(PlaneError::NotBuilt("http")),
            _ => Err(PlaneError::Unknown(text.to_owned())),
        }
    }
}

impl RequestPlane {
    /// The plane of that name, else the one that `DYN_REQUEST_PLANE` names, else TCP, with what Dynamo's variables say about
    /// it. `get` reads a variable.
    ///
    /// # Errors
    /// See [`PlaneError`]. An empty `DYN_REQUEST_PLANE` is one, as for Dynamo.
    pub fn from_vars(name: Option<PlaneName>, get: impl Fn(&str) -> Option<String>) -> Result<Self, PlaneError> {
        let name = match name {
            Some(name) => name,
            None => get("DYN_REQUEST_PLANE").map_or(Ok(PlaneName::Tcp), |text| text.parse())?,
        };
        match name {
            PlaneName::Tcp => Ok(Self::Tcp),
            #[cfg(feature = "nats")]
            PlaneName::Nats => nats::Config::from_vars(get).map(Self::Nats).map_err(PlaneError::Nats),
            #[cfg(not(feature = "nats"))]
            PlaneName::Nats => Err(PlaneError::NotBuilt("nats")),
            #[cfg(feature = "http")]
            PlaneName::Http => http::Config::from_vars(get).map(Self::Http).map_err(PlaneError::Http),
            #[cfg(not(feature = "http"))]
            PlaneName::Http => Err(PlaneError::NotBuilt("http")),
        }
    }

    /// Its name.
    pub const fn name(&self) -> PlaneName {
        match self {
            Self::Tcp => PlaneName::Tcp,
            #[cfg(feature = "nats")]
            Self::Nats(_) => PlaneName::Nats,
            #[cfg(feature = "http")]
            Self::Http(_) => PlaneName::Http,
        }
    }

    /// How the worker's own calls reach others behind the same broker.
    pub(crate) fn equipment(&self) -> Equipment {
        match self {
            Self::Tcp => Equipment::default(),
            #[cfg(feature = "nats")]
            Self::Nats(config) => Equipment::default().with_nats(config.clone()),
            #[cfg(feature = "http")]
            Self::Http(_) => Equipment::default(),
        }
    }

    /// Binds what is to be announced, for callers that reach this host at the IP address of `advertise`.
    #[cfg_attr(not(feature = "http"), expect(unused_variables, reason = "nothing else is bound here"))]
    pub(crate) fn open(self, advertise: Option<SocketAddr>) -> Result<Intake, Error> {
        Ok(match self {
            Self::Tcp => Intake::Tcp,
            #[cfg(feature = "nats")]
            Self::Nats(config) => Intake::Nats(config),
            #[cfg(feature = "http")]
            Self::Http(config) => {
                let listener = http::Listener::bind(config).map_err(Error::Http)?;
                let wish = advertise.map(|addr| SocketAddr::new(addr.ip(), listener.addr().port()));
                let addr = advertised(wish, listener.addr())?;
                Intake::Http(listener, addr)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_known_by_name_in_any_case_and_unknown_ones_are_refused() {
        assert_eq!("TCP".parse(), Ok(PlaneName::Tcp));
        let nats = if cfg!(feature = "nats") { Ok(PlaneName::Nats) } else { Err(PlaneError::NotBuilt("nats")) };
        assert_eq!("Nats".parse::<PlaneName>(), nats);
        let http = if cfg!(feature = "http") { Ok(PlaneName::Http) } else { Err(PlaneError::NotBuilt("http")) };
        assert_eq!("HTTP".parse::<PlaneName>(), http);
        for text in ["", "quic"] {
            assert_eq!(text.parse::<PlaneName>(), Err(PlaneError::Unknown(text.to_owned())));
        }
    }
}
