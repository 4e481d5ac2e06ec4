//! Dynamo's call-home connection: one per call, dialed by the worker, carrying the response and the caller's cancellation.
//!
//! | file | holds |
//! |---|---|
//! | `sender` | the worker's end |

pub mod sender;
