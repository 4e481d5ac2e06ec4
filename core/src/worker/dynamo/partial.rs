//! Request frames of which a part has come, on all connections together.

use crate::buf::ages::{Ages, Ticket};
use crate::buf::slab::Key;

/// What has come of a request frame that is not whole.
#[derive(Debug)]
pub(in crate::worker) struct Partial {
    ticket: Ticket,
    bytes: usize,
}

/// Those parts of frames, and what they add up to.
#[derive(Debug)]
pub(in crate::worker) struct Partials {
    limit: usize,
    ages: Ages,
    bytes: usize,
}

impl Partials {
    /// None yet, and at most `limit` bytes of them.
    pub(in crate::worker) fn new(limit: usize) -> Self {
        Self { limit, ages: Ages::default(), bytes: 0 }
    }

    /// A connection holds so many bytes of a frame that is not whole; `partial` is what is kept of that beside it.
    pub(in crate::worker) fn update(&mut self, link: Key, partial: &mut Option<Partial>, held: usize) {
        if held == 0 {
            if let Some(partial) = partial.take() {
                self.ages.remove(partial.ticket);
                self.bytes -= partial.bytes;
            }
            return;
        }
        let partial = partial.get_or_insert_with(|| Partial { ticket: self.ages.add(link), bytes: 0 });
        self.bytes += held;
        self.bytes -= core::mem::replace(&mut partial.bytes, held);
    }

    /// The connection whose frame has been under way longest, if there is more than there may be: one that is really being
    /// sent is soon over.
    pub(in crate::worker) fn excess(&self) -> Option<Key> {
        if self.bytes > self.limit { self.ages.oldest() } else { None }
    }

    /// Connections that hold such a frame.
    #[cfg(test)]
    pub(in crate::worker) fn frames(&self) -> usize {
        self.ages.len()
    }

    /// Bytes held.
    pub(in crate::worker) const fn held(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn of_too_much_the_frame_that_has_been_under_way_longest_goes_however_it_grows() {
        let mut partials = Partials::new(100);
        let (mut one, mut two) = (None, None);
        partials.update(key(1), &mut one, 40);
        partials.update(key(2), &mut two, 60);
        assert_eq!((partials.held(), partials.excess()), (100, None));
        partials.update(key(1), &mut one, 50);
        assert_eq!((partials.held(), partials.excess()), (110, Some(key(1))));
        partials.update(key(1), &mut one, 0);
        partials.update(key(1), &mut one, 0);
        assert_eq!((partials.held(), partials.excess(), one.is_none()), (60, None, true));
        partials.update(key(1), &mut one, 90);
        assert_eq!(partials.excess(), Some(key(2)), "it came again, and is the youngest now");
    }
}
