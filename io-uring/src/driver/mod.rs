//! The driver on a ring of our own: connections, their sockets and the loop of the thread.

pub(crate) mod accept;
pub(crate) mod config;
pub(crate) mod conn;
pub(crate) mod listener;
pub(crate) mod net;
pub(crate) mod polling;
pub(crate) mod probe;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod sender;
pub(crate) mod share;
pub(crate) mod start;
pub(crate) mod turn;
