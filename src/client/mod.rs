//! Calling endpoints: from any thread, or from one of the client's own.

pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod hedge;
pub(crate) mod migrate;
pub(crate) mod request;
#[cfg(feature = "status")]
mod seat;
#[cfg(feature = "serde")]
pub(crate) mod typed;
pub(crate) mod view;
pub(crate) mod watch;
