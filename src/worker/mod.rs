//! Serving endpoints.

pub(crate) mod builder;
pub(crate) mod health;
#[cfg(test)]
mod idle_tests;
mod records;
pub(crate) mod served;
pub(crate) mod signals;
#[cfg(feature = "serde")]
mod typed;
pub(crate) mod worker;
