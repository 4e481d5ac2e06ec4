//! The threads that workers and clients live on.

pub(crate) mod background;
pub(crate) mod config;
pub(crate) mod cores;
pub(crate) mod crossing;
pub(crate) mod driver;
pub(crate) mod hub;
pub(crate) mod known;
pub(crate) mod lane;
pub(crate) mod listen;
pub(crate) mod observers;
pub(crate) mod place;
pub(crate) mod port;
pub(crate) mod pump;
pub(crate) mod room;
pub(crate) mod snapshot;
pub(crate) mod sync;
pub(crate) mod upkeep;
pub(crate) mod watchdog;
