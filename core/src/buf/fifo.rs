//! A queue whose first value needs no memory of its own: most streams never hold two items at once, and most connections
//! have nothing to tell.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// First in, first out. Its owner bounds its length.
#[derive(Debug)]
pub(crate) struct Fifo<T> {
    /// The oldest value; `None` if the queue is empty.
    first: Option<T>,
    #[expect(clippy::box_collection, reason = "there are many of these, and most never hold two values")]
    others: Option<Box<VecDeque<T>>>,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { first: None, others: None }
    }
}

impl<T> From<T> for Fifo<T> {
    fn from(first: T) -> Self {
        Self { first: Some(first), others: None }
    }
}

impl<T> Fifo<T> {
    /// Adds the youngest.
    pub(crate) fn push_back(&mut self, value: T) {
        if self.first.is_none() {
            self.first = Some(value);
        } else {
            self.others.get_or_insert_default().push_back(value);
        }
    }

    /// Takes the oldest.
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let next = self.others.as_mut().and_then(|others| others.pop_front());
        core::mem::replace(&mut self.first, next)
    }

    /// The oldest.
    pub(crate) const fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.as_ref().map_or(0, |others| others.len())
    }

    /// Whether the queue is empty.
    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn random_pushes_and_pops_agree_with_a_deque() {
        let seed = 5;
        let mut rng = Rng::new(seed);
        let (mut fifo, mut model) = (Fifo::default(), VecDeque::new());
        for step in 0..10_000 {
            if rng.below(2) == 0 {
                fifo.push_back(step);
                model.push_back(step);
            } else {
                assert_eq!(fifo.pop_front(), model.pop_front(), "seed {seed} step {step}");
            }
            assert_eq!((fifo.front(), fifo.len()), (model.front(), model.len()), "seed {seed} step {step}");
            assert_eq!(fifo.is_empty(), model.is_empty(), "seed {seed} step {step}");
        }
    }
}
