//! How requests are to reach a worker: what every plane can do, and the one that a worker has.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ringplane_core::worker;
use ringplane_tokio::vars;

use crate::error::Error;
use crate::plane::carriers::Carriers;
use crate::plane::intake::Intake;
use crate::plane::name::PlaneName;

/// The way in which requests of Dynamo's callers reach a worker: TCP by default, otherwise NATS or HTTP, made from the
/// configuration of that plane ([`request`](crate::request)). Whichever it is, the answers go over a connection that the worker
/// dials to its caller, a *call-home*. Callers of ours may use it too, where a record offers nothing else.
///
/// ```
/// use ringplane::{PlaneName, RequestPlane, Worker};
///
/// // What `DYN_REQUEST_PLANE` and the variables of that plane say; TCP where they say nothing.
/// let plane = RequestPlane::from_vars(None, |name| std::env::var(name).ok())?;
/// assert_eq!(plane.name(), PlaneName::Tcp);
/// let builder = Worker::builder().request_plane(plane);
/// # Ok::<(), ringplane::PlaneError>(())
/// ```
#[derive(Clone)]
pub struct RequestPlane(Arc<dyn Plane>);

/// A request plane as it is configured.
pub(crate) trait Plane: fmt::Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> PlaneName;

    /// Lets the worker's own calls reach others by the same plane.
    fn equip(&self, _carriers: &mut Carriers) {}

    /// Binds what is to be announced, for callers that reach this host at the IP address of `advertise`. What is not bounded
    /// by the plane's own configuration is by that of the worker.
    fn open(&self, advertise: Option<SocketAddr>, worker: &worker::config::Config) -> Result<Box<dyn Intake>, Error>;
}

/// Reads a variable.
pub(crate) type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a build knows of a plane that it has.
#[derive(Debug)]
pub(crate) struct Built {
    /// Its name.
    pub(crate) name: PlaneName,
    /// The plane that Dynamo's variables describe.
    pub(crate) from_vars: fn(Get<'_>) -> Result<RequestPlane, vars::Error>,
    /// Adds its carrier to those of a group of threads for which nothing has been configured.
    pub(crate) carrier: fn(&mut Carriers),
}

impl RequestPlane {
    pub(crate) fn of(plane: impl Plane + 'static) -> Self {
        Self(Arc::new(plane))
    }

    /// Its name, as records and the tool have it.
    pub fn name(&self) -> PlaneName {
        self.0.name()
    }

    pub(crate) fn equip(&self, carriers: &mut Carriers) {
        self.0.equip(carriers);
    }

    pub(crate) fn open(
        &self,
        advertise: Option<SocketAddr>,
        worker: &worker::config::Config,
    ) -> Result<Box<dyn Intake>, Error> {
        self.0.open(advertise, worker)
    }
}

impl fmt::Debug for RequestPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
