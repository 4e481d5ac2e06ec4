//! Metrics of workers and clients.
//!
//! | file | holds |
//! |---|---|
//! | `handle` | what is asked for them |
//! | `sources` | whose they are, and what those that are gone have counted |
//! | `counted` | snapshots as metrics |
//! | `told`, `beside` | what programs tell beside them |
//! | `instances` | instances as metrics, as many as there is room for |

mod beside;
pub(crate) mod counted;
pub(crate) mod handle;
pub(crate) mod instances;
pub(crate) mod sources;
pub(crate) mod told;
