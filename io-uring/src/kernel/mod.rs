//! What the kernel offers: a ring, its operations and their memory. The three files with `unsafe` are here.

pub(crate) mod bell;
pub(crate) mod op;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod ring;
pub(crate) mod setup;
