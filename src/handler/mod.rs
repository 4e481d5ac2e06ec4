//! What a user writes to answer requests, on the core that received them or on a runtime of the user's own.

pub(crate) mod local;
pub mod remote;
