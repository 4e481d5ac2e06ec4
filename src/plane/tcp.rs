//! Requests over TCP: the cores listen by themselves.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use ringplane_core::discovery::instance::Instance;
use ringplane_core::worker;

use crate::error::Error;
use crate::plane::intake::{Intake, Starting};
use crate::plane::name::PlaneName;
use crate::plane::plane::{Built, Plane, RequestPlane};
use crate::runtime::cores::Group;

/// The plane that every build has.
pub(crate) const BUILT: Built =
    Built { name: PlaneName::Tcp, from_vars: |_| Ok(RequestPlane::default()), carrier: |_| () };

/// Over TCP, from callers that speak mux or Dynamo's protocol.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Tcp;

impl Default for RequestPlane {
    /// Over TCP, from callers that speak mux or Dynamo's protocol.
    fn default() -> Self {
        Self::of(Tcp)
    }
}

impl Plane for Tcp {
    fn name(&self) -> PlaneName {
        PlaneName::Tcp
    }

    fn open(&self, _: Option<SocketAddr>, _: &worker::config::Config) -> Result<Box<dyn Intake>, Error> {
        Ok(Box::new(Self))
    }
}

impl Intake for Tcp {
    fn announce(&self, instance: Instance) -> Instance {
        instance
    }

    fn start(self: Box<Self>, _instances: &[Instance], _group: &Arc<Group>) -> Starting {
        Box::pin(ready(Ok(None)))
    }
}
