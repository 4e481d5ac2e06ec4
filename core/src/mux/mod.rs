//! Many calls over one connection: the mux dialect as a machine, one [`Connection`] for either side.
//!
//! | file | holds |
//! |---|---|
//! | `config` | limits, windows and time bounds |
//! | `credit` | both sides of a credit window |
//! | `event` | what passes between a connection and its owner |
//! | `farewell` | what a connection that ends says last |
//! | `inbox` | items on their way to the reader of one stream |
//! | `stream` | one call's two directions |
//! | `liveness` | pings and stalls |
//! | `bounds` | frames, streams and connections that stand still |
//! | `connection` | the machine: its states, events and deadlines |
//! | `commands` | what the owner does with streams |
//! | `send` | what the owner queues, and who waits for room |
//! | `receive` | what arriving frames do |
//! | `items` | what arriving items do |
//! | `transmit` | what goes out, in which order |

mod bounds;
#[cfg(test)]
mod bounds_tests;
mod commands;
pub mod config;
pub mod connection;
#[cfg(test)]
mod corner_tests;
mod credit;
pub mod event;
mod farewell;
mod inbox;
mod items;
mod liveness;
mod receive;
#[cfg(test)]
mod room_tests;
mod send;
mod stream;
#[cfg(test)]
mod tests;
mod transmit;

pub use crate::buf::outbox::SendError;
pub use config::Config;
pub use connection::Connection;
pub use event::{Ending, Event, Opening, Recv, Role, Stall, Stats};
