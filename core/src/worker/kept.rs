//! What one request takes beside every credit.

use crate::buf::slab::Key;

/// What a request counts for beside its bytes.
const COST: usize = 64;

/// What one request takes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The connection it came on, if it came on one of ours.
    pub(super) link: Option<Key>,
    pub(super) header: usize,
    pub(super) body: usize,
}

impl Kept {
    /// A request that came on `link`, of so many bytes of header and of body.
    pub(super) const fn new(link: Option<Key>, header: usize, body: usize) -> Self {
        Self { link, header: header + COST, body }
    }
}
