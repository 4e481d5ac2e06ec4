//! One direction of a call between a core and another thread: items in order, then an end.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::runtime::room::Room;

/// Items in order. The first takes no memory of its own: most calls have one.
#[derive(Default)]
pub(crate) struct Queue {
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
}

impl Queue {
    fn push(&mut self, item: Bytes) {
        if self.is_empty() {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn next_len(&self) -> Option<usize> {
        self.first.as_ref().or_else(|| self.rest.front()).map(Bytes::len)
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }
}

/// What a reader has taken of a lane and reads without asking it. The first item is the reader's as soon as it is taken; the
/// room of the others is given back with the next [`Lane::read`] after they have been read.
pub(crate) struct Hand {
    items: Queue,
    read: Room,
    /// The next item has given its room back already, or the last one had.
    paid: bool,
    last_paid: bool,
}

impl Default for Hand {
    fn default() -> Self {
        Self { items: Queue::default(), read: Room::NONE, paid: false, last_paid: false }
    }
}

impl Hand {
    /// The next item.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let item = self.items.pop()?;
        self.last_paid = std::mem::take(&mut self.paid);
        if !self.last_paid {
            self.read.give(item.len());
        }
        Some(item)
    }

    /// The item that was [popped](Self::pop) last has not been read after all.
    pub(crate) fn put_back(&mut self, item: Bytes) {
        self.paid = self.last_paid;
        if !self.paid {
            self.read.take(item.len());
        }
        match self.items.first.replace(item) {
            None => {}
            Some(second) => self.items.rest.push_front(second),
        }
    }

    /// Whether everything has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Items to be sent: one, or a number of them.
pub(crate) trait Items {
    /// Hands over those at the front for which `fits` holds.
    fn take_while(&mut self, fits: impl FnMut(&Bytes) -> bool, take: impl FnMut(Bytes));

    /// Whether none is left.
    fn is_empty(&self) -> bool;
}

impl Items for Option<Bytes> {
    fn take_while(&mut self, mut fits: impl FnMut(&Bytes) -> bool, take: impl FnMut(Bytes)) {
        self.take_if(|item| fits(item)).into_iter().for_each(take);
    }

    fn is_empty(&self) -> bool {
        self.is_none()
    }
}

impl Items for Vec<Bytes> {
    fn take_while(&mut self, mut fits: impl FnMut(&Bytes) -> bool, take: impl FnMut(Bytes)) {
        let count = self.iter().position(|item| !fits(item)).unwrap_or(self.len());
        self.drain(..count).for_each(take);
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// Items on their way, then an end: what is queued and what is in the reader's hand stays within its room.
pub(crate) struct Lane<E> {
    items: Queue,
    room: Room,
    part: Room,
    end: Option<E>,
    closed: bool,
}

impl<E> Lane<E> {
    /// A lane for that many items.
    pub(crate) fn new(items: usize) -> Self {
        let room = Room::of(items);
        Self { items: Queue::default(), room, part: room.part(), end: None, closed: false }
    }

    /// Room for more.
    pub(crate) const fn room(&self) -> Room {
        self.room
    }

    /// An item that fits.
    pub(crate) fn push(&mut self, item: Bytes) {
        self.room.take(item.len());
        self.items.push(item);
    }

    /// Takes items from the front while they fit; whether none is left.
    pub(crate) fn push_all(&mut self, items: &mut impl Items) -> bool {
        let Self { items: queue, room, .. } = self;
        let fits = |item: &Bytes| {
            let fits = room.fits(item.len());
            if fits {
                room.take(item.len());
            }
            fits
        };
        items.take_while(fits, |item| queue.push(item));
        items.is_empty()
    }

    /// Nothing follows. Of several ends the first counts.
    pub(crate) fn end(&mut self, end: E) {
        self.end.get_or_insert(end);
    }

    /// Nobody reads it any more. What is dropped is handed over: dropping it may run anything.
    #[must_use]
    pub(crate) fn close(&mut self) -> Queue {
        self.closed = true;
        std::mem::take(&mut self.items)
    }

    /// Whether nobody reads it any more.
    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes back the room of what has been read and, if nothing is in the hand, puts the next items there. Whether there is
    /// more room than before.
    pub(crate) fn read(&mut self, hand: &mut Hand) -> bool {
        let before = self.room;
        self.room.add(std::mem::replace(&mut hand.read, Room::NONE));
        if hand.is_empty() {
            let mut part = self.part;
            while let Some(len) = self.items.next_len()
                && (hand.is_empty() || part.fits(len))
                && let Some(item) = self.items.pop()
            {
                if hand.is_empty() {
                    self.room.give(len);
                    hand.paid = true;
                }
                part.take(len);
                hand.items.push(item);
            }
        }
        self.room != before
    }

    /// The end, if all items have been taken.
    pub(crate) fn take_end(&mut self) -> Option<E> {
        if self.items.is_empty() { self.end.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(room: usize, items: u8) -> Lane<u8> {
        let mut lane = Lane::new(room);
        for number in 0..items {
            assert!(lane.room().fits(1));
            lane.push(vec![number].into());
        }
        lane
    }

    #[test]
    fn items_come_in_order_then_the_end_and_their_room_comes_back_when_they_have_been_read() {
        let mut lane = pushed(4, 4);
        lane.end(7);
        lane.end(8);
        let mut hand = Hand::default();
        for half in [[0, 1], [2, 3]] {
            assert_eq!(lane.take_end(), None);
            assert!(lane.read(&mut hand));
            assert_eq!(std::iter::from_fn(|| hand.pop()).collect::<Vec<_>>(), half.map(|number| vec![number]));
        }
        assert!(lane.read(&mut hand) && !lane.read(&mut hand));
        assert_eq!((lane.room(), lane.take_end(), lane.take_end()), (Room::of(4), Some(7), None));
    }

    #[test]
    fn a_reader_takes_half_and_what_it_holds_counts_but_for_the_first() {
        let mut lane = pushed(4, 4);
        let mut hand = Hand::default();
        lane.read(&mut hand);
        lane.push(vec![4].into());
        assert!(!lane.room().fits(1));
        for number in [0, 1] {
            assert_eq!(hand.pop().unwrap(), [number][..]);
            hand.put_back(vec![number].into());
            assert_eq!(hand.pop().unwrap(), [number][..]);
        }
        assert!(hand.is_empty() && !lane.room().fits(1), "what it has read is given back with its next look");
        lane.read(&mut hand);
        lane.push(vec![5].into());
        lane.push(vec![6].into());
        assert!(!lane.room().fits(1));
        assert_eq!([hand.pop(), hand.pop(), hand.pop()].map(|item| item.map(|item| item[0])), [Some(2), Some(3), None]);
    }

    #[test]
    fn an_item_larger_than_what_a_reader_takes_at_once_is_taken_alone() {
        let mut lane = Lane::<()>::new(8);
        lane.push(vec![0; 200 << 10].into());
        lane.push(vec![0; 1].into());
        let mut hand = Hand::default();
        lane.read(&mut hand);
        assert_eq!(hand.pop().unwrap().len(), 200 << 10);
        assert!(hand.is_empty());
    }
}
