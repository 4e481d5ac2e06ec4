//! Serving endpoints.

pub(crate) mod builder;
#[cfg(test)]
mod idle_tests;
pub(crate) mod served;
pub(crate) mod worker;
