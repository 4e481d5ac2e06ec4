//! `ringplane bench`: load on an endpoint, and how fast it answers.

mod chart;
mod output;
mod page;
mod plan;
mod run;
mod sums;
mod timeline;

pub(crate) use plan::Args;
pub(crate) use run::run;
