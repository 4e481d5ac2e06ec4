//! The calling side: routes, dials, opens, matches answers, fails over, retries, gives up in time.
//!
//! | file | holds |
//! |---|---|
//! | `config` | limits and time bounds |
//! | `error` | every way a call can end badly |
//! | `request` | what a caller is asked, and what it says |
//! | `target` | where an instance is, and how requests reach it |
//! | `stats` | what a caller counts, and what it holds |
//! | `call` | one call: its states, and what events make of it |
//! | `outcome` | what the end of a try says of its instance |
//! | `phase` | how far a worker has got with a try |
//! | `line` | what a connection speaks |
//! | `pool` | the connections: which one a call goes on, when one is dialed or left |
//! | `view` | what can be seen of instances from outside |
//! | `waiting` | calls that wait for the same thing |
//! | `endpoints` | the endpoints: instances, policies, calls that wait for news |
//! | `dynamo` | Dynamo's protocol: requests in frames or by a carrier, responses on call-home connections |
//! | `machine` | the machine: what it knows, and what a driver asks of it |
//! | `commands` | what the application does with a call |
//! | `timeouts` | when time bounds are due, and what happens then |
//! | `dispatch` | from a call to an instance to a connection to a stream |
//! | `streams` | what calls hear of their streams over mux |
//! | `ending` | how a try ends, and how a call does |
//! | `migration` | whether an answer that broke off goes on at another worker |
//! | `stranded` | calls whose every instance is down |
//! | `front` | the calls of one endpoint that wait for a free place |
//! | `crowded` | calls whose every instance is full |

#[cfg(test)]
mod again_tests;
mod call;
mod commands;
pub mod config;
mod crowded;
#[cfg(test)]
mod crowded_tests;
mod dispatch;
pub mod dynamo;
mod ending;
mod endpoints;
pub mod error;
pub mod front;
mod line;
pub mod machine;
pub mod migration;
#[cfg(test)]
mod news_tests;
#[cfg(test)]
mod observer_tests;
mod outcome;
mod phase;
mod pool;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod report_tests;
pub mod request;
#[cfg(test)]
mod slow_tests;
pub mod stats;
mod stranded;
#[cfg(test)]
mod stranded_tests;
mod streams;
pub mod target;
#[cfg(test)]
mod tests;
mod timeouts;
pub mod view;
#[cfg(test)]
mod view_tests;
mod waiting;

pub use config::{CallHome, Config, Dialect};
pub use error::CallError;
pub use machine::Caller;
pub use request::{CallId, EndpointKey, Event, Recv, Request};
pub use stats::{Footprint, Stats};
pub use target::Target;
