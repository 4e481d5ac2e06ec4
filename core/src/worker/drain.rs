//! A drain under way.

use crate::buf::wheel::TimerId;
use crate::links::LINK_TOKEN;
use crate::time::Instant;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) until: Instant,
    pub(super) told: bool,
    /// Connections of before that are not gone.
    pub(super) links_left: usize,
    pub(super) timer: Option<TimerId>,
}

/// Wheel token of the drain bound; no job key is this large.
pub(super) const DRAIN_TOKEN: u64 = LINK_TOKEN - 1;
