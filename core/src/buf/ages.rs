//! Entries that ought not to last, by age: at a bound, the oldest goes.

use alloc::collections::BTreeMap;

use crate::buf::slab::Key;

/// Names one entry of [`Ages`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ticket(u64);

/// Keys in the order in which they came. Its owner bounds their number.
///
/// At a bound, the oldest entry is the likeliest to hold its place for nothing: a peer that means well says what it has to
/// say at once, and its entry goes.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    next: u64,
    by_age: BTreeMap<u64, Key>,
}

impl Ages {
    /// Adds the youngest.
    pub(crate) fn add(&mut self, key: Key) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.by_age.insert(ticket.0, key);
        ticket
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        self.by_age.remove(&ticket.0);
    }

    /// The oldest.
    pub(crate) fn oldest(&self) -> Option<Key> {
        self.by_age.first_key_value().map(|(_, key)| *key)
    }

    /// Keys held.
    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_the_one_that_came_first_of_those_that_are_left() {
        let key = |index| Key { index, generation: 1 };
        let mut ages = Ages::default();
        let tickets = [3, 1, 2].map(|index| ages.add(key(index)));
        assert_eq!((ages.oldest(), ages.len()), (Some(key(3)), 3));
        ages.remove(tickets[1]);
        ages.remove(tickets[0]);
        ages.remove(tickets[0]);
        assert_eq!((ages.oldest(), ages.len()), (Some(key(2)), 1));
        ages.remove(tickets[2]);
        assert_eq!((ages.oldest(), ages.len()), (None, 0));
    }
}
