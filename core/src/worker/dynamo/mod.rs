//! The worker's side of Dynamo's protocol: requests come in frames or by an intake, answers go over connections
//! that the worker dials to its caller.
//!
//! | file | holds |
//! |---|---|
//! | `dial` | a dialed connection: what it is for, and how far its dial is |
//! | `partial` | request frames of which a part has come |
//! | `failures` | how an outcome is told |
//! | `reading` | what a request says |
//! | `requests` | requests: read and acknowledged, refused, or made a call |
//! | `dialed` | the connections that are dialed for the streams of calls |
//! | `answer` | answers, and what a caller says to them |
//! | `items` | the items of requests that are streams |

pub(super) mod answer;
#[cfg(test)]
mod answer_tests;
pub(super) mod dial;
mod dialed;
pub(super) mod failures;
pub(super) mod items;
#[cfg(test)]
mod items_tests;
pub(super) mod partial;
pub(super) mod reading;
mod requests;
