//! What a user writes to answer requests, on the core that received them or on a runtime of the user's own.

pub(crate) mod crossing;
pub(crate) mod local;
mod panics;
pub(crate) mod remote;
pub(crate) mod request;
pub(crate) mod served;
pub(crate) mod side;
#[cfg(feature = "serde")]
pub(crate) mod typed;
