//! The engines. Adding one is a file beside this one and a row in `all`.

pub mod all;
pub mod floor;
pub mod nats;
pub(crate) mod nats_server;
pub mod peer;
pub mod peers;
pub mod ringplane;
pub mod tonic;

pub use all::{ALL, find};
