//! Items on their way out of one stream, and how far the first of them has got.

use bytes::Bytes;

use crate::buf::fifo::Fifo;
use crate::mux::inbox::cost;
use crate::wire::mux::ITEM_COST;

/// Queued items of one direction.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: Fifo<Bytes>,
    queued: usize,
    /// The owner keeps the items anyway: they are no further memory.
    lent: bool,
    pub(super) front: Front,
}

/// How far the first item has got.
///
/// ```text
///  Unpaid ──covered by the windows──▶ Paid{at} ──all bytes out──▶ Unpaid (next item)
///    └──larger than the window──▶ Announced ──reservation──▶ Reserved{at} ──┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Front {
    /// Nothing of it has been sent.
    #[default]
    Unpaid,
    /// Paid whole from the windows; bytes up to `at` are out.
    Paid { at: usize },
    /// Its length has been told; the peer will reserve memory for it.
    Announced,
    /// Paid by the peer's reservation; bytes up to `at` are out.
    Reserved { at: usize },
}

impl Outbox {
    /// Whether an item of this weight may be queued: unless `limit` bytes are queued already; an empty queue takes any.
    pub(super) const fn takes(&self, weight: usize, limit: usize) -> bool {
        self.items.is_empty() || self.queued + weight <= limit
    }

    /// Queues an item.
    pub(super) fn push(&mut self, item: Bytes) {
        self.queued += weight(item.len());
        self.items.push_back(item);
    }

    /// Queues the only item there will be, which its owner keeps as well.
    pub(super) fn lend(&mut self, item: Bytes) {
        self.lent = true;
        self.push(item);
    }

    /// Bytes of memory that are held here and nowhere else.
    pub(super) const fn held(&self) -> usize {
        if self.lent { 0 } else { self.queued }
    }

    /// The first item.
    pub(super) fn first(&self) -> Option<&Bytes> {
        self.items.front()
    }

    /// Credit the first item costs in the windows.
    pub(super) fn first_cost(&self) -> Option<u64> {
        self.first().map(|item| cost(item.len() as u64))
    }

    /// The first item is out.
    pub(super) fn pop(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.queued -= weight(item.len());
        }
        self.front = Front::Unpaid;
    }

    /// Drops everything unsent; what it held.
    pub(super) fn clear(&mut self) -> usize {
        core::mem::take(self).held()
    }

    /// Whether there is room again for a writer that was turned away.
    pub(super) const fn has_room(&self, limit: usize) -> bool {
        self.queued * 2 <= limit
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

/// What an item of `len` bytes counts for while it waits.
pub(super) const fn weight(len: usize) -> usize {
    len + ITEM_COST as usize
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn the_limit_holds_but_an_empty_queue_takes_anything() {
        let mut outbox = Outbox::default();
        assert!(outbox.takes(weight(1000), 100));
        outbox.push(Bytes::from(vec![0; 1000]));
        assert!(!outbox.takes(weight(1), 100));
        outbox.pop();
        outbox.push(Bytes::from_static(b"x"));
        assert!(outbox.takes(weight(1), 70));
        outbox.push(Bytes::from_static(b"y"));
        assert!(!outbox.takes(weight(1), 70), "the overhead counts");
        assert_eq!((outbox.held(), outbox.clear(), outbox.held()), (66, 66, 0));
    }

    #[test]
    fn what_the_owner_keeps_as_well_is_held_by_nobody() {
        let mut outbox = Outbox::default();
        outbox.lend(Bytes::from(vec![0; 1000]));
        assert_eq!((outbox.held(), outbox.first().map(Bytes::len)), (0, Some(1000)));
    }
}
