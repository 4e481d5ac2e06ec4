//! Items on their way out of a connection that carries one stream.

use bytes::Bytes;

use crate::buf::outbox::{Outbox, SendError};
use crate::buf::room::{FLOOR, Flight, Turn};
use crate::dynamo::cost::{ITEM_COST, cost, cost_of};

/// The items, who waits for room, and what is handed out and not written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: Outbox<ITEM_COST>,
    /// What large items count for that are handed out and not written.
    unwritten: usize,
    flight: Flight,
    /// Where a writer stands that was turned away for what others hold.
    turn: Turn,
}

impl Queue {
    /// Queues an item if `limit` allows, which an empty queue always does, and if the owner of this connection has room for
    /// it beside those of its other connections: `admitted`. Within [`FLOOR`] that is not asked.
    pub(super) fn offer(&mut self, item: Bytes, limit: usize, admitted: bool) -> Result<(), SendError> {
        if !self.admits(item.len(), limit, admitted) {
            return Err(SendError::Blocked(item));
        }
        self.items.push(item);
        Ok(())
    }

    /// Keeps room for an item of `len` bytes, which is sent next; `false` if there is none.
    pub(super) fn reserve(&mut self, len: usize, limit: usize, admitted: bool) -> bool {
        let there_is = self.admits(len, limit, admitted);
        if there_is && self.turn == Turn::None {
            self.turn = Turn::Granted(cost_of(len));
        }
        there_is
    }

    /// Takes the oldest item, to hand it out.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let item = self.items.pop()?;
        if item.len() > Flight::COPIED {
            self.unwritten += cost(&item);
            self.flight.add(cost(&item));
        }
        Some(item)
    }

    /// What was popped is handed out, in so many bytes.
    pub(super) fn on_handed_out(&mut self, bytes: usize) {
        self.flight.on_handed_out(bytes);
    }

    /// So many bytes more are written.
    pub(super) fn on_written(&mut self, bytes: usize) {
        self.unwritten -= self.flight.on_written(bytes);
    }

    /// Whether a writer that was turned away may try again now, as the queue is half empty.
    pub(super) const fn take_room(&mut self, limit: usize) -> bool {
        self.items.take_room(limit)
    }

    /// Drops the items, and what writers wait for.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.close();
    }

    /// No more items will come.
    pub(super) const fn close(&mut self) {
        self.items.take_writer();
        self.turn = Turn::None;
    }

    /// The writer that was turned away does not try again. Whether others that share the stream may have to.
    pub(super) fn forgo(&mut self) -> bool {
        core::mem::take(&mut self.turn) != Turn::None
    }

    /// What the writer weighs that waits for room beside other connections.
    pub(super) const fn awaited(&self) -> Option<usize> {
        self.turn.awaited()
    }

    /// It is that writer's turn: room is kept for it.
    pub(super) const fn grant(&mut self) {
        if let Turn::Waiting(weight) = self.turn {
            self.turn = Turn::Granted(weight);
        }
    }

    /// What items count for that are queued, or large and not written, with what is kept for the next.
    pub(super) const fn outgoing(&self) -> usize {
        self.items.held() + self.unwritten + self.turn.granted()
    }

    /// What the items count for that are not handed out.
    pub(super) const fn held(&self) -> usize {
        self.items.held()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn admits(&mut self, len: usize, limit: usize, admitted: bool) -> bool {
        let (weight, kept) = (cost_of(len), self.turn.granted());
        if kept > 0 {
            self.turn = Turn::None;
        }
        if !self.items.admits(len, limit) {
            return false;
        }
        if admitted || kept >= weight || self.outgoing() + weight <= FLOOR {
            return true;
        }
        self.turn = Turn::Waiting(weight);
        false
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
    fn a_writer_waits_for_its_own_queue_and_for_that_of_all_but_for_the_first_bytes() {
        let mut queue = Queue::default();
        assert!(matches!(queue.offer(item(FLOOR), 1 << 20, false), Err(SendError::Blocked(_))));
        assert_eq!(queue.awaited(), Some(cost_of(FLOOR)));
        assert!(queue.offer(item(FLOOR / 2), 1 << 20, false).is_ok());
        queue.grant();
        assert_eq!((queue.awaited(), queue.outgoing()), (None, cost_of(FLOOR / 2) + cost_of(FLOOR)));
        assert!(queue.offer(item(FLOOR), 1 << 20, false).is_ok());
        assert!(queue.offer(item(2 << 20), 1 << 20, true).is_err());
        assert!(!queue.take_room(10) && queue.pop().is_some() && queue.pop().is_some());
        assert!(queue.take_room(10) && !queue.take_room(10));
    }

    #[test]
    fn a_large_item_counts_until_it_is_written_and_a_small_one_until_it_is_handed_out() {
        let mut queue = Queue::default();
        queue.offer(item(100_000), 1 << 20, true).unwrap();
        queue.offer(item(10), 1 << 20, true).unwrap();
        queue.pop();
        queue.pop();
        queue.on_handed_out(100_050);
        assert_eq!((queue.held(), queue.outgoing()), (0, cost_of(100_000)));
        queue.on_written(100_049);
        assert_eq!(queue.outgoing(), cost_of(100_000));
        queue.on_written(1);
        assert_eq!(queue.outgoing(), 0);
        assert!(queue.reserve(5, 10, true) && queue.outgoing() > 0 && queue.forgo() && !queue.forgo());
    }
}
