//! Requests as messages of a NATS server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ringplane_core::discovery::instance::{Instance, Transport, nats_slug_subject, nats_subject};
use ringplane_core::worker;
use ringplane_core::worker::config::Prefix;
use ringplane_tokio::request::nats::{Config, Listening, carrier, intake};

use crate::error::Error;
use crate::plane::carriers::{Carrier, Carriers};
use crate::plane::intake::{Intake, Starting, take};
use crate::plane::name::PlaneName;
use crate::plane::plane::{Built, Plane, RequestPlane};
use crate::runtime::cores::Group;

/// Its carrier must be told which server.
pub(crate) const BUILT: Built = Built {
    name: PlaneName::Nats,
    from_vars: |get| Config::from_vars(get).map(RequestPlane::from),
    carrier: |carriers| carriers.know(PlaneName::Nats),
};

impl From<Config> for RequestPlane {
    /// As messages of a NATS server. A message does not say who sent it, so an empty
    /// [`call_home`](ringplane_core::worker::config::Config::call_home) is filled with the private networks, and with this
    /// host if the server is on it: anybody who may publish there may have a worker dial such an address.
    fn from(config: Config) -> Self {
        Self::of(config)
    }
}

impl From<Config> for Carrier {
    /// To workers behind a NATS server, which is connected to with the first such call.
    fn from(config: Config) -> Self {
        Self::new(PlaneName::Nats, move |report| carrier(config.clone(), report))
    }
}

impl Plane for Config {
    fn name(&self) -> PlaneName {
        PlaneName::Nats
    }

    fn equip(&self, carriers: &mut Carriers) {
        carriers.set(self.clone().into());
    }

    fn open(&self, _: Option<SocketAddr>, _: &worker::config::Config) -> Result<Box<dyn Intake>, Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Intake for Config {
    fn announce(&self, instance: Instance) -> Instance {
        let subject = nats_subject(instance.id, &instance.endpoint);
        Instance { transport: Transport::Nats(subject), mux: None, ..instance }
    }

    fn allow(&self, config: &mut worker::config::Config) {
        if config.call_home.iter().all(Option::is_none) {
            config.call_home = neighbours(self.server.is_local());
        }
    }

    fn start(self: Box<Self>, instances: &[Instance], group: &Arc<Group>) -> Starting {
        let endpoints = instances.iter().map(|instance| {
            let mut subjects = vec![nats_subject(instance.id, &instance.endpoint)];
            subjects.push(nats_slug_subject(instance.id, &instance.endpoint));
            subjects.dedup();
            Listening { endpoint: instance.endpoint.clone(), subjects }
        });
        let (endpoints, take) = (endpoints.collect(), take(instances, group));
        Box::pin(async move { intake(*self, endpoints, take).await.map(Some) })
    }
}

/// The private networks, and this host's own addresses.
fn neighbours(this_host: bool) -> [Option<Prefix>; 8] {
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
        let plane = Config::default();
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
