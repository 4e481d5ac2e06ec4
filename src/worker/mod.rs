//! Serving endpoints.

pub(crate) mod builder;
mod canary;
mod endpoints;
pub(crate) mod health;
#[cfg(test)]
mod idle_tests;
mod records;
#[cfg(feature = "status")]
mod seat;
pub(crate) mod served;
pub(crate) mod signals;
#[cfg(feature = "serde")]
mod typed;
#[cfg(test)]
mod upkeep_tests;
pub(crate) mod worker;
