//! Requests by HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use ringplane_core::discovery::instance::{Instance, Transport};
use ringplane_core::worker;
use ringplane_tokio::request::http::{CallerConfig, Config, Listener, carrier};

use crate::error::Error;
use crate::plane::carriers::Carrier;
use crate::plane::intake::{Intake, Starting, take};
use crate::plane::name::PlaneName;
use crate::plane::plane::{Built, Plane, RequestPlane};
use crate::runtime::cores::Group;
use crate::runtime::listen::advertised;

/// Its carrier needs nothing.
pub(crate) const BUILT: Built = Built {
    name: PlaneName::Http,
    from_vars: |get| Config::from_vars(get).map(RequestPlane::from),
    carrier: |carriers| carriers.set(CallerConfig::default().into()),
};

impl From<Config> for RequestPlane {
    /// As HTTP requests, from callers of Dynamo 1.0 and ours.
    fn from(config: Config) -> Self {
        Self::of(config)
    }
}

impl From<CallerConfig> for Carrier {
    /// To workers behind HTTP, within these bounds.
    fn from(config: CallerConfig) -> Self {
        Self::new(PlaneName::Http, move |report| carrier(config.clone(), report))
    }
}

impl Plane for Config {
    fn name(&self) -> PlaneName {
        PlaneName::Http
    }

    fn open(&self, advertise: Option<SocketAddr>, worker: &worker::config::Config) -> Result<Box<dyn Intake>, Error> {
        let max_body = self.max_body.or(Some(worker.requests.max_message));
        let listener = Listener::bind(Self { max_body, ..self.clone() })?;
        let wish = advertise.map(|addr| SocketAddr::new(addr.ip(), listener.addr().port()));
        let addr = advertised(wish, listener.addr())?;
        Ok(Box::new(Bound { listener, addr }))
    }
}

/// A listener, and the address that callers reach it at.
struct Bound {
    listener: Listener,
    addr: SocketAddr,
}

impl Intake for Bound {
    fn announce(&self, instance: Instance) -> Instance {
        let url = self.listener.url(self.addr, &instance.endpoint.name);
        Instance { transport: Transport::Http(url), mux: None, addr: self.addr, ..instance }
    }

    fn start(self: Box<Self>, instances: &[Instance], group: &Arc<Group>) -> Starting {
        let names: Vec<String> = instances.iter().map(|instance| instance.endpoint.name.clone()).collect();
        let take = take(instances, group);
        Box::pin(async move { self.listener.serve(&names, take).await.map(Some) })
    }
}
