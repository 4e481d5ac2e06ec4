//! What an item that waits in memory counts for.

use bytes::Bytes;

/// What an item takes beside its bytes: its handle, and its share of the allocator.
pub(super) const ITEM_COST: usize = 64;

/// Bytes of memory an item takes while it waits, so that any number of tiny ones stays within a bound in bytes.
pub(crate) const fn cost(item: &Bytes) -> usize {
    cost_of(item.len())
}

/// The same of an item of `len` bytes.
pub(crate) const fn cost_of(len: usize) -> usize {
    len + ITEM_COST
}
