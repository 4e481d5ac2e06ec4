//! How requests reach a worker: over TCP, by a broker, by HTTP.

pub(crate) mod carriers;
pub(crate) mod intake;
pub(crate) mod plane;
