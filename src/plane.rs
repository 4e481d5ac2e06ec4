//! How requests reach a worker: over TCP, or by a leg of its own that hands them to the cores.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ringplane_core::discovery::instance::Instance;
#[cfg(feature = "nats")]
use ringplane_core::discovery::instance::{Transport, nats_slug_subject, nats_subject};
#[cfg(feature = "nats")]
use ringplane_core::request::message::Message;
#[cfg(feature = "nats")]
use ringplane_core::wire::ack::SHUTTING_DOWN;
use ringplane_core::worker;
#[cfg(feature = "nats")]
use ringplane_core::worker::config::Prefix;
#[cfg(feature = "nats")]
use ringplane_tokio::nats;

use crate::cores::Cores;
use crate::error::Error;
use crate::legs::Equipment;

/// How requests reach a worker. Answers to Dynamo's callers go over a call-home in each case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum RequestPlane {
    /// Over TCP, from callers that speak mux or Dynamo's protocol.
    #[default]
    Tcp,
    /// As messages of a NATS server, from Dynamo's callers. A message does not say who sent it, so an empty
    /// [`call_home`](worker::config::Config::call_home) is filled with the private networks, and with this host if the
    /// server is on it: whoever may publish there may have a worker dial such an address.
    #[cfg(feature = "nats")]
    Nats(nats::Config),
}

/// The name of a request plane; what it is made of follows from the environment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PlaneName {
    /// [`RequestPlane::Tcp`].
    Tcp,
    /// `RequestPlane::Nats`, in builds with the feature `nats`.
    Nats,
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
}

impl fmt::Display for PlaneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no request plane is called `{name}`; there are tcp and nats"),
            Self::NotBuilt(name) => {
                write!(f, "this build has no request plane `{name}`; build with `--features {name}`")
            }
            #[cfg(feature = "nats")]
            Self::Nats(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PlaneError {}

impl fmt::Display for PlaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Nats => "nats",
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
        }
    }

    /// Its name.
    pub const fn name(&self) -> PlaneName {
        match self {
            Self::Tcp => PlaneName::Tcp,
            #[cfg(feature = "nats")]
            Self::Nats(_) => PlaneName::Nats,
        }
    }

    /// How the worker's own calls reach others behind the same broker.
    pub(crate) fn equipment(&self) -> Equipment {
        match self {
            Self::Tcp => Equipment::default(),
            #[cfg(feature = "nats")]
            Self::Nats(config) => Equipment { nats: Some(config.clone()) },
        }
    }

    /// What the records of a worker's instances say.
    pub(crate) fn announce(&self, instance: Instance) -> Instance {
        match self {
            Self::Tcp => instance,
            #[cfg(feature = "nats")]
            Self::Nats(_) => {
                let subject = nats_subject(instance.id, &instance.endpoint);
                Instance { transport: Transport::Nats(subject), mux: None, ..instance }
            }
        }
    }

    /// Whom to dial home where a request does not say who sent it.
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "TCP requests come from their sender"))]
    pub(crate) fn allow(&self, config: &mut worker::config::Config) {
        match self {
            Self::Tcp => {}
            #[cfg(feature = "nats")]
            Self::Nats(nats) => {
                if config.call_home.iter().all(Option::is_none) {
                    config.call_home = neighbours(nats.is_local());
                }
            }
        }
    }

    /// Starts what brings requests to `instances`, which the cores serve already.
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "the cores listen by themselves"))]
    pub(crate) async fn start(self, instances: &[Instance], cores: &Arc<Cores>) -> Result<Leg, Error> {
        match self {
            Self::Tcp => Ok(Leg::Listener),
            #[cfg(feature = "nats")]
            Self::Nats(config) => start_nats(config, instances, cores).await.map(Leg::Nats),
        }
    }
}

/// What brings requests to a running worker.
#[derive(Debug)]
pub(crate) enum Leg {
    /// The cores' own listeners.
    Listener,
    #[cfg(feature = "nats")]
    Nats(nats::WorkerLeg),
}

impl Leg {
    /// Brings no more, and ends.
    pub(crate) async fn leave(self) {
        match self {
            Self::Listener => {}
            #[cfg(feature = "nats")]
            Self::Nats(leg) => leg.leave().await,
        }
    }
}

#[cfg(feature = "nats")]
async fn start_nats(
    config: nats::Config,
    instances: &[Instance],
    cores: &Arc<Cores>,
) -> Result<nats::WorkerLeg, Error> {
    let subjects = instances.iter().map(|instance| {
        let mut both = vec![nats_subject(instance.id, &instance.endpoint)];
        both.push(nats_slug_subject(instance.id, &instance.endpoint));
        both.dedup();
        both
    });
    let paths: Vec<Arc<str>> = instances.iter().map(|instance| instance.path.as_str().into()).collect();
    // The leg must not keep the cores alive.
    let cores = Arc::downgrade(cores);
    let take = move |request: nats::Request| {
        let (Some(path), Some(cores)) = (paths.get(request.endpoint).cloned(), cores.upgrade()) else {
            return request.answer.send(SHUTTING_DOWN);
        };
        // A job that finds no room is dropped, and the request's answer with it, which says so.
        let _ = cores.submit(move |core| {
            let nats::Request { headers, payload, answer, .. } = request;
            let message = Message { path: path.as_bytes(), headers: &headers, payload, peer: None };
            let taken = core.node.request(&message);
            answer.send(taken.as_ref().err().map_or("", |text| text));
        });
    };
    nats::WorkerLeg::start(config, subjects.collect(), take).await.map_err(Error::Nats)
}

/// The private networks, and this host's own addresses.
#[cfg(feature = "nats")]
fn neighbours(this_host: bool) -> [Option<Prefix>; 8] {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    let v4 = |a, b, bits| Some(Prefix { addr: IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), bits });
    let mut allowed = [None; 8];
    allowed[0] = v4(10, 0, 8);
    allowed[1] = v4(172, 16, 12);
    allowed[2] = v4(192, 168, 16);
    allowed[3] = v4(100, 64, 10);
    allowed[4] = Some(Prefix { addr: IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), bits: 7 });
    if this_host {
        allowed[5] = v4(127, 0, 8);
        allowed[6] = Some(Prefix { addr: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 });
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_known_by_name_in_any_case_and_unknown_ones_are_refused() {
        assert_eq!("TCP".parse(), Ok(PlaneName::Tcp));
        let nats = if cfg!(feature = "nats") { Ok(PlaneName::Nats) } else { Err(PlaneError::NotBuilt("nats")) };
        assert_eq!("Nats".parse::<PlaneName>(), nats);
        for text in ["", "quic"] {
            assert_eq!(text.parse::<PlaneName>(), Err(PlaneError::Unknown(text.to_owned())));
        }
    }

    #[cfg(feature = "nats")]
    #[test]
    fn a_broker_on_this_host_lets_callers_of_this_host_be_dialed_and_no_broker_the_link_local_ones() {
        let allows = |this_host, addr: &str| {
            let addr = addr.parse().unwrap();
            neighbours(this_host).iter().flatten().any(|prefix| prefix.contains(addr))
        };
        assert!(allows(true, "127.0.0.1") && allows(true, "::1") && !allows(false, "127.0.0.1"));
        assert!(allows(false, "10.1.2.3") && allows(false, "172.31.0.1") && !allows(false, "172.32.0.1"));
        assert!(!allows(true, "169.254.169.254") && !allows(true, "8.8.8.8"));
    }

    #[cfg(feature = "nats")]
    #[test]
    fn an_allow_list_of_the_users_own_stays_as_it_is() {
        let plane = RequestPlane::Nats(nats::Config::default());
        let mut config = worker::config::Config::default();
        plane.allow(&mut config);
        assert_eq!(config.call_home, neighbours(true));
        config.call_home = [None; 8];
        config.call_home[7] = neighbours(true)[0];
        let own = config.call_home;
        plane.allow(&mut config);
        assert_eq!(config.call_home, own);
    }
}
