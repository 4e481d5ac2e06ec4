//! What holds of a worker's endpoints, for those that ask from outside: an orchestrator's probe, a status page.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// What holds of one endpoint of a worker.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EndpointState {
    /// It is served, and discovery has its record: callers find it.
    Ready,
    /// It is served, and discovery could not be brought to take its record.
    Unregistered,
    /// Its [canary](crate::WorkerBuilder::canary) is not answered; its record is taken out.
    Unhealthy,
    /// It has been [drained](crate::Worker::drain_endpoint).
    Drained,
    /// The worker as a whole is leaving, or gone.
    Leaving,
}

impl EndpointState {
    /// As it is shown: `ready`, `unregistered`, `unhealthy`, `drained`, `leaving`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unregistered => "unregistered",
            Self::Unhealthy => "unhealthy",
            Self::Drained => "drained",
            Self::Leaving => "leaving",
        }
    }

    /// Why it is so, in words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Ready => "it is served, and callers find it",
            Self::Unregistered => "discovery has not taken its record",
            Self::Unhealthy => "its canary is not answered, and callers do not find it",
            Self::Drained => "it has been drained, and waits to be resumed",
            Self::Leaving => "the worker is leaving",
        }
    }

    /// Whether callers are to be sent here.
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One endpoint of a worker, and what holds of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointHealth {
    /// Its name: `namespace.component.endpoint`.
    pub endpoint: String,
    /// What holds of it.
    pub state: EndpointState,
}

/// The health of a worker's endpoints, as it is whenever it is asked for. Clones share it; it does not keep the worker, whose
/// endpoints are [leaving](EndpointState::Leaving) once it is gone.
#[derive(Clone, Debug)]
pub struct WorkerHealth(Shown);

impl WorkerHealth {
    /// Each endpoint, in the order in which they were given to the builder. Waits for nothing.
    pub fn endpoints(&self) -> Vec<EndpointHealth> {
        self.0.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether callers are to be sent to every endpoint.
    pub fn is_ready(&self) -> bool {
        let shown = self.0.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.iter().all(|endpoint| endpoint.state.is_ready())
    }
}

/// What is shown of the endpoints.
#[derive(Clone, Default, Debug)]
pub(super) struct Shown(Arc<RwLock<Vec<EndpointHealth>>>);

impl Shown {
    /// That is how it is now.
    pub(super) fn set(&self, endpoints: Vec<EndpointHealth>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = endpoints;
    }

    /// For those that ask.
    pub(super) fn handle(&self) -> WorkerHealth {
        WorkerHealth(self.clone())
    }
}
