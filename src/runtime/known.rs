//! What is known of an endpoint, on whatever thread.

use ringplane_core::route::policy::any::AnyPolicy;

/// An endpoint that clients of a group call.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its number, which no other has in this process.
    pub(crate) number: u64,
    /// `namespace.component.endpoint`.
    pub(crate) name: String,
    /// How its instances are picked.
    pub(crate) policy: AnyPolicy,
}
