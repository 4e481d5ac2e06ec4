//! Request frames of which a part has come.

use crate::buf::ages::{Ages, Ticket};

/// What has come of a request frame that is not whole.
#[derive(Debug)]
pub(in crate::worker) struct Partial {
    pub(super) ticket: Ticket,
    pub(super) bytes: usize,
}

/// Those parts of frames, and what they add up to.
#[derive(Debug, Default)]
pub(in crate::worker) struct Partials {
    pub(in crate::worker) ages: Ages,
    pub(in crate::worker) bytes: usize,
}
