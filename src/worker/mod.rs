//! Serving endpoints.

pub(crate) mod worker;
