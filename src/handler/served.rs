//! What is said of an endpoint when it is served.

use ringplane_core::wire::codec::Codec;

/// How an endpoint's payloads look where a call does not say it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Served {
    /// The codec that its record names.
    pub(crate) codec: Codec,
    /// Whether values are sent as the data of Dynamo's Annotated.
    pub(crate) annotated: bool,
}
