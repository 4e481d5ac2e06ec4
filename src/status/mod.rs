//! The status server of a process: probes, metrics, and a page for people, by HTTP.
//!
//! [`Status`] is the server; any number of workers and clients of the process take part in it. It is off unless it is started,
//! listens on the loopback unless it is told otherwise, and changes nothing unless [`StatusConfig::manage`] says that it may.

mod config;
mod errors;
mod gather;
mod hall;
mod page;
mod routes;
mod sample;
pub(crate) mod server;
pub(crate) mod subject;
mod verdict;
mod view;
pub(crate) mod watching;
pub mod words;

pub use config::StatusConfig;
pub use ringplane_tokio::status::Stats as StatusStats;
pub use server::Status;
pub use view::{EndpointView, ErrorView, InstanceRow, PartView, ProcessView, Rates};
