//! `ringplane bench`: load on an endpoint, and how fast it answers.

mod output;
mod plan;
mod run;
mod sums;

pub(crate) use plan::Args;
pub(crate) use run::run;
