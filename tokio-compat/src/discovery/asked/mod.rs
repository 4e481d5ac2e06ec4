//! Workers that are asked what they serve: no registry, only addresses. `static:HOST:PORT,…` names them, `dns:NAME:PORT` has
//! a name that stands for all of them.

pub(crate) mod backend;
mod hosts;
mod keeper;
mod question;
mod shared;
mod timing;

pub use backend::Asked;
