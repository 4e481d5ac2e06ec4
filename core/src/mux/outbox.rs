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
    /// Queues an item unless `limit` bytes are queued already; an empty queue takes any item.
    pub(super) fn push(&mut self, item: Bytes, limit: usize) -> Result<(), Bytes> {
        let weight = item.len() + ITEM_COST as usize;
        if !self.items.is_empty() && self.queued + weight > limit {
            return Err(item);
        }
        self.queued += weight;
        self.items.push_back(item);
        Ok(())
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
            self.queued -= item.len() + ITEM_COST as usize;
        }
        self.front = Front::Unpaid;
    }

    /// Drops everything unsent.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is room again for a writer that was turned away.
    pub(super) const fn has_room(&self, limit: usize) -> bool {
        self.queued * 2 <= limit
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn the_limit_holds_but_an_empty_queue_takes_anything() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(Bytes::from(vec![0; 1000]), 100).is_ok());
        assert!(outbox.push(Bytes::from_static(b"x"), 100).is_err());
        outbox.pop();
        assert!(outbox.push(Bytes::from_static(b"x"), 100).is_ok());
        assert!(outbox.push(Bytes::from_static(b"y"), 70).is_ok());
        assert!(outbox.push(Bytes::from_static(b"z"), 70).is_err(), "the overhead counts");
    }
}
