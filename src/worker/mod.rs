//! Serving endpoints.

pub(crate) mod builder;
#[cfg(test)]
mod idle_tests;
pub(crate) mod served;
#[cfg(feature = "serde")]
mod typed;
pub(crate) mod worker;
