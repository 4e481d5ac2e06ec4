//! The calling side: routes, dials, opens, matches answers, fails over, retries, gives up in time.
//!
//! | file | holds |
//! |---|---|
//! | `config` | limits and time bounds |
//! | `error` | every way a call can end badly |
//! | `call` | one call and its states |
//! | `home` | Dynamo's protocol: request frames, acks, responses that come home |
//! | `line` | what a connection speaks |
//! | `head` | what a request in Dynamo's protocol says before its body |
//! | `leg` | Dynamo's protocol where a broker or HTTP brings the request |
//! | `machine` | the machine: commands and events |
//! | `timeouts` | when time bounds are due, and what happens then |
//! | `dispatch` | from a call to an instance to a stream, and back when that fails |
//! | `stranded` | calls whose every instance is down |

mod call;
pub mod config;
mod dispatch;
pub mod error;
mod head;
mod home;
#[cfg(test)]
mod home_tests;
pub mod leg;
#[cfg(test)]
mod leg_tests;
mod line;
pub mod machine;
mod stranded;
#[cfg(test)]
mod stranded_tests;
#[cfg(test)]
mod tests;
mod timeouts;
#[cfg(test)]
mod version_tests;

pub use config::{CallHome, Config, Dialect};
pub use error::CallError;
pub use machine::{CallId, Caller, EndpointKey, Event, Recv, Request, Target};
