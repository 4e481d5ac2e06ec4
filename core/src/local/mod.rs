//! The async face of a machine on the thread that drives it: no IO of its own, no other thread, no lock.
//!
//! | file | holds |
//! |---|---|
//! | `env` | what a driver drives and what it lends |
//! | `host` | a [`Node`](crate::node::Node) with its handlers and waiting tasks |
//! | `call` | a call as a stream of items |
//! | `pace` | how long tasks may run |
//! | `job` | a request as its handler sees it |
//! | `layer` | a machine between a driver and a host |
//! | `waiting` | which tasks wait for what |

pub mod call;
pub mod env;
pub mod host;
pub mod job;
pub mod layer;
pub mod pace;
#[cfg(test)]
mod tests;
mod waiting;

pub use call::{LocalCall, LocalSender};
pub use env::{Env, Host, LocalTask, Timers};
pub use host::LocalNode;
pub use job::{Failure, Incoming, Responder, SendItemError};
pub use layer::{Inner, Layered};
