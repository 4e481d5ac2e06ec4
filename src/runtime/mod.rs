//! The threads that workers and clients live on.

pub(crate) mod background;
pub(crate) mod config;
pub(crate) mod cores;
pub(crate) mod driver;
pub(crate) mod listen;
pub(crate) mod place;
pub(crate) mod room;
pub(crate) mod snapshot;
pub(crate) mod watchdog;
