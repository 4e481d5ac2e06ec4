//! Ringplane's peers: the same two programs as `tests/peers/*.py`, so that a test need not know whose it talks to; and
//! a worker of a model, for Dynamo's frontend.

mod caller;
mod model;
mod shared;
mod worker;

pub(crate) use shared::run;
