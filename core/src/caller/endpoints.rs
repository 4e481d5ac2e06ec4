//! An endpoint that is called, and what is known of its instances.

use alloc::collections::{BTreeSet, VecDeque};

use crate::caller::request::CallId;
use crate::caller::target::Target;
use crate::id::InstanceId;
use crate::route::instances::Instances;
use crate::route::policy::any::AnyPolicy;

pub(super) struct Endpoint {
    pub(super) instances: Instances<Target>,
    pub(super) policy: AnyPolicy,
    /// Calls that wait for an instance to appear or to come back.
    pub(super) waiting: VecDeque<CallId>,
    /// Instances that listen on the second spelling of their NATS subject.
    pub(super) slugged: BTreeSet<InstanceId>,
}
