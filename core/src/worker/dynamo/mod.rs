//! The worker's side of Dynamo's protocol: requests come in frames or by an intake, answers go over connections dialed home.
//!
//! | file | holds |
//! |---|---|
//! | `dial` | a connection that is dialed home |
//! | `partial` | request frames of which a part has come |
//! | `failures` | how an outcome is told |
//! | `reading` | what a request says |
//! | `answer` | requests, the dials they ask for, and the answers those carry |
//! | `items` | the items of requests that are streams |

pub(super) mod answer;
#[cfg(test)]
mod answer_tests;
pub(super) mod dial;
pub(super) mod failures;
pub(super) mod items;
#[cfg(test)]
mod items_tests;
pub(super) mod partial;
pub(super) mod reading;
