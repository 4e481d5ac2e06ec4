//! Calls that wait for the same thing, in order.

use alloc::collections::VecDeque;

use crate::buf::slab::Slab;
use crate::caller::request::CallId;

/// A queue of calls. A call that ends while it waits stays in it as a name that means nothing; such names are dropped once
/// they are the most, so that a queue is never longer than twice the number of calls.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<CallId>);

impl Waiting {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// A call of `calls` waits behind the others.
    pub(super) fn push<T>(&mut self, call: CallId, calls: &Slab<T>) {
        self.0.push_back(call);
        if self.0.len() > 2 * calls.len() {
            self.0.retain(|call| calls.contains(call.0));
        }
    }

    /// The call that has waited longest.
    pub(super) fn first(&self) -> Option<CallId> {
        self.0.front().copied()
    }

    /// Takes the call that has waited longest.
    pub(super) fn pop(&mut self) -> Option<CallId> {
        self.0.pop_front()
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = CallId> + use<> {
        core::mem::take(&mut self.0).into_iter()
    }

    /// Whether one of them is a call of `calls`.
    pub(super) fn has_any_of<T>(&self, calls: &Slab<T>) -> bool {
        self.0.iter().any(|call| calls.contains(call.0))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_in_order_and_those_that_are_gone_take_no_room_for_long() {
        let (mut calls, mut waiting) = (Slab::new(), Waiting::new());
        let stays = CallId(calls.insert(()));
        waiting.push(stays, &calls);
        for _ in 0..100 {
            let gone = CallId(calls.insert(()));
            waiting.push(gone, &calls);
            calls.remove(gone.0);
            assert!(waiting.len() <= 5, "{}", waiting.len());
        }
        let last = CallId(calls.insert(()));
        waiting.push(last, &calls);
        assert_eq!(waiting.first(), Some(stays));
        let left: alloc::vec::Vec<_> = waiting.take().filter(|call| calls.contains(call.0)).collect();
        assert_eq!((left.as_slice(), waiting.is_empty()), ([stays, last].as_slice(), true));
    }
}
