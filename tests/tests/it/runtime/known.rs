//! An endpoint of which nothing needs to be known here.

/// An endpoint.
pub(crate) struct Known;
