//! Serving endpoints.

pub(crate) mod builder;
pub(crate) mod worker;
