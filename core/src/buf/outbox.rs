//! Items that wait to be written to one stream, and whether its writer may queue another.

use bytes::Bytes;

use crate::buf::fifo::Fifo;

/// Why an item was not queued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// There is no room; an event follows that says when to try again. The item comes back.
    Blocked(Bytes),
    /// This direction is over.
    Closed,
    /// The peer takes no item this large. Only mux peers have such a limit.
    TooLarge {
        /// What it takes, in bytes.
        limit: u64,
    },
}

/// The queue of one stream. Each item counts with its bytes and `KEEP` more, so that any number of tiny ones stays within a
/// bound in bytes.
///
/// ```text
///  open ──an item does not fit──▶ its writer waits ──half of the limit is free──▶ open
/// ```
#[derive(Debug, Default)]
pub(crate) struct Outbox<const KEEP: usize> {
    items: Fifo<Bytes>,
    queued: usize,
    /// The owner keeps the items anyway: they are no further memory.
    lent: bool,
    /// A writer was turned away and waits to hear of room.
    waits: bool,
}

impl<const KEEP: usize> Outbox<KEEP> {
    /// What an item of `len` bytes counts for while it waits.
    pub(crate) const fn weight(len: usize) -> usize {
        len + KEEP
    }

    /// Whether an item of `len` bytes fits within `limit`. An empty queue takes any. A writer that is turned away waits.
    pub(crate) const fn admits(&mut self, len: usize, limit: usize) -> bool {
        let fits = self.items.is_empty() || self.queued + Self::weight(len) <= limit;
        self.waits |= !fits;
        fits
    }

    /// Queues an item.
    pub(crate) fn push(&mut self, item: Bytes) {
        self.queued += Self::weight(item.len());
        self.items.push_back(item);
    }

    /// Queues the only item there will be, which its owner keeps as well.
    pub(crate) fn lend(&mut self, item: Bytes) {
        self.lent = true;
        self.push(item);
    }

    /// The oldest item.
    pub(crate) const fn first(&self) -> Option<&Bytes> {
        self.items.front()
    }

    /// Takes the oldest item.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let item = self.items.pop_front()?;
        self.queued -= Self::weight(item.len());
        Some(item)
    }

    /// Drops the items; what they held.
    pub(crate) fn clear(&mut self) -> usize {
        let held = self.held();
        self.items = Fifo::default();
        self.queued = 0;
        held
    }

    /// Whether the writer that was turned away may try again now, as half of `limit` is free; each answer once.
    pub(crate) const fn take_room(&mut self, limit: usize) -> bool {
        self.queued <= limit / 2 && self.take_writer()
    }

    /// The writer that was turned away has nothing more to wait for; whether there was one.
    pub(crate) const fn take_writer(&mut self) -> bool {
        core::mem::replace(&mut self.waits, false)
    }

    /// Bytes of memory that are held here and nowhere else, as they count.
    pub(crate) const fn held(&self) -> usize {
        if self.lent { 0 } else { self.queued }
    }

    /// Items queued.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none is.
    pub(crate) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn item(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    #[test]
    fn the_limit_holds_but_an_empty_queue_takes_anything() {
        let mut outbox = Outbox::<32>::default();
        assert!(outbox.admits(1000, 100));
        outbox.push(item(1000));
        assert!(!outbox.admits(1, 100));
        assert_eq!(outbox.pop().map(|item| item.len()), Some(1000));
        outbox.push(item(1));
        assert!(outbox.admits(1, 70));
        outbox.push(item(1));
        assert!(!outbox.admits(1, 70), "the overhead counts");
        assert_eq!((outbox.held(), outbox.clear(), outbox.held(), outbox.len()), (66, 66, 0, 0));
    }

    #[test]
    fn a_writer_that_was_turned_away_may_try_again_once_half_is_free() {
        let mut outbox = Outbox::<10>::default();
        (0..4).for_each(|_| outbox.push(item(10)));
        assert!(!outbox.take_room(80), "nobody waits");
        assert!(!outbox.admits(10, 80) && !outbox.take_room(79));
        outbox.pop();
        outbox.pop();
        assert!(!outbox.take_room(79) && outbox.take_room(80) && !outbox.take_room(80));
        assert!(!outbox.admits(100, 80) && outbox.take_writer() && !outbox.take_writer());
    }

    #[test]
    fn what_the_owner_keeps_as_well_is_held_by_nobody() {
        let mut outbox = Outbox::<32>::default();
        outbox.lend(item(1000));
        assert_eq!((outbox.held(), outbox.first().map(Bytes::len)), (0, Some(1000)));
    }
}
