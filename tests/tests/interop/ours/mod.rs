//! Ringplane's peers: the same two programs as `tests/peers/*.py`, so that a test need not know whose it talks to.

mod caller;
mod shared;
mod worker;

pub(crate) use shared::run;
