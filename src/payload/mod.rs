//! Values as payloads: written and read in the codec of a call.

pub(crate) mod error;
pub(crate) mod value;
