//! What brings requests to a worker: the cores' own listeners, or a leg that hands them to the cores.

#[cfg(feature = "http")]
use std::net::SocketAddr;
use std::sync::Arc;

use ringplane_core::discovery::instance::Instance;
#[cfg(any(feature = "http", feature = "nats"))]
use ringplane_core::discovery::instance::Transport;
#[cfg(feature = "nats")]
use ringplane_core::discovery::instance::{nats_slug_subject, nats_subject};
#[cfg(any(feature = "http", feature = "nats"))]
use ringplane_core::request::message::Message;
#[cfg(any(feature = "http", feature = "nats"))]
use ringplane_core::wire::ack::SHUTTING_DOWN;
use ringplane_core::worker;
#[cfg(feature = "nats")]
use ringplane_core::worker::config::Prefix;
#[cfg(feature = "http")]
use ringplane_tokio::request::http;
#[cfg(feature = "nats")]
use ringplane_tokio::{nats, request};

use crate::error::Error;
use crate::runtime::cores::Group;

/// A request plane that is about to run.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a worker has one; which variant is the largest depends on the features")]
pub(crate) enum Intake {
    /// The cores' own listeners.
    Tcp,
    #[cfg(feature = "nats")]
    Nats(nats::Config),
    /// A listener, and the address that callers reach it at.
    #[cfg(feature = "http")]
    Http(http::Listener, SocketAddr),
}

impl Intake {
    /// What the records of a worker's instances say.
    pub(crate) fn announce(&self, instance: Instance) -> Instance {
        match self {
            Self::Tcp => instance,
            #[cfg(feature = "nats")]
            Self::Nats(_) => {
                let subject = nats_subject(instance.id, &instance.endpoint);
                Instance { transport: Transport::Nats(subject), mux: None, ..instance }
            }
            #[cfg(feature = "http")]
            Self::Http(listener, addr) => {
                let url = listener.url(*addr, &instance.endpoint.name);
                Instance { transport: Transport::Http(url), mux: None, addr: *addr, ..instance }
            }
        }
    }

    /// Whom to dial home where a request does not say who sent it.
    #[cfg_attr(not(feature = "nats"), expect(unused_variables, reason = "every request says who sent it"))]
    pub(crate) fn allow(&self, config: &mut worker::config::Config) {
        match self {
            Self::Tcp => {}
            #[cfg(feature = "nats")]
            Self::Nats(nats) => {
                if config.call_home.iter().all(Option::is_none) {
                    config.call_home = neighbours(nats.is_local());
                }
            }
            #[cfg(feature = "http")]
            Self::Http(..) => {}
        }
    }

    /// Starts what brings requests to `instances`, which the cores serve already.
    #[cfg_attr(
        not(any(feature = "http", feature = "nats")),
        expect(unused_variables, reason = "the cores listen by themselves")
    )]
    pub(crate) async fn start(self, instances: &[Instance], group: &Arc<Group>) -> Result<Leg, Error> {
        match self {
            Self::Tcp => Ok(Leg::Listener),
            #[cfg(feature = "nats")]
            Self::Nats(config) => start_nats(config, instances, group).await.map(Leg::Nats),
            #[cfg(feature = "http")]
            Self::Http(listener, _) => start_http(listener, instances, group).map(Leg::Http),
        }
    }
}

/// What brings requests to a running worker.
#[derive(Debug)]
pub(crate) enum Leg {
    /// The cores' own listeners.
    Listener,
    #[cfg(feature = "nats")]
    Nats(request::nats::WorkerLeg),
    #[cfg(feature = "http")]
    Http(http::WorkerLeg),
}

impl Leg {
    /// Brings no more, and ends.
    pub(crate) async fn leave(self) {
        match self {
            Self::Listener => {}
            #[cfg(feature = "nats")]
            Self::Nats(leg) => leg.leave().await,
            #[cfg(feature = "http")]
            Self::Http(leg) => leg.leave().await,
        }
    }
}

/// The routing key of each instance.
#[cfg(any(feature = "http", feature = "nats"))]
fn paths(instances: &[Instance]) -> Vec<Arc<str>> {
    instances.iter().map(|instance| instance.path.as_str().into()).collect()
}

#[cfg(feature = "nats")]
async fn start_nats(
    config: nats::Config,
    instances: &[Instance],
    group: &Arc<Group>,
) -> Result<request::nats::WorkerLeg, Error> {
    let subjects = instances.iter().map(|instance| {
        let mut both = vec![nats_subject(instance.id, &instance.endpoint)];
        both.push(nats_slug_subject(instance.id, &instance.endpoint));
        both.dedup();
        both
    });
    let paths = paths(instances);
    let group = group.clone();
    let take = move |request: request::nats::Request| {
        let Some(path) = paths.get(request.endpoint).cloned() else {
            return request.answer.send(SHUTTING_DOWN);
        };
        // A job that finds no room is dropped, and the request's answer with it, which says so.
        let _ = group.submit(move |core| {
            let request::nats::Request { headers, payload, answer, .. } = request;
            let message = Message { path: path.as_bytes(), headers: &headers, payload, peer: None };
            let taken = core.node.request(&message);
            answer.send(taken.as_ref().err().map_or("", |text| text));
        });
    };
    request::nats::WorkerLeg::start(config, subjects.collect(), take).await.map_err(Error::Nats)
}

#[cfg(feature = "http")]
fn start_http(listener: http::Listener, instances: &[Instance], group: &Arc<Group>) -> Result<http::WorkerLeg, Error> {
    let names: Vec<String> = instances.iter().map(|instance| instance.endpoint.name.clone()).collect();
    let paths = paths(instances);
    let group = group.clone();
    let take = move |request: http::Request| {
        let Some(path) = paths.get(request.endpoint).cloned() else {
            return request.answer.send(SHUTTING_DOWN);
        };
        // A job that finds no room is dropped, and the request's answer with it, which says so.
        let _ = group.submit(move |core| {
            let http::Request { headers, payload, peer, answer, .. } = request;
            let message = Message { path: path.as_bytes(), headers: &headers, payload, peer: Some(peer) };
            let taken = core.node.request(&message);
            answer.send(taken.as_ref().err().map_or("", |text| text));
        });
    };
    listener.serve(&names, take).map_err(Error::Http)
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

#[cfg(all(test, feature = "nats"))]
mod tests {
    use super::*;

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

    #[test]
    fn an_allow_list_of_the_users_own_stays_as_it_is() {
        let plane = Intake::Nats(nats::Config::default());
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
