//! Serving endpoints.

pub(crate) mod builder;
pub(crate) mod served;
pub(crate) mod worker;
