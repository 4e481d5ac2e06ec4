//! The requests of one caller that are with a carrier.

use core::time::Duration;

use crate::caller::waiting::Waiting;

/// What a request that is with a leg is to the machine.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(in crate::caller) struct Posted {
    pub(in crate::caller) number: u64,
    pub(in crate::caller) bytes: usize,
    /// It has been taken by whoever brings it there.
    pub(in crate::caller) taken: bool,
    /// It has its answer.
    pub(in crate::caller) answered: bool,
    pub(in crate::caller) patience: Duration,
}

/// The requests of one caller that go by a leg.
#[derive(Debug)]
pub(in crate::caller) struct Legs {
    /// Calls that wait for the listener, or for room.
    pub(in crate::caller) waiting: Waiting,
    pub(in crate::caller) unacked: usize,
    pub(in crate::caller) bytes: usize,
    pub(in crate::caller) next: u64,
}

impl Legs {
    pub(in crate::caller) const fn new() -> Self {
        Self { waiting: Waiting::new(), unacked: 0, bytes: 0, next: 0 }
    }

    /// Whether no request is out.
    #[cfg(test)]
    pub(in crate::caller) const fn is_idle(&self) -> bool {
        self.unacked == 0 && self.bytes == 0
    }

    /// Gives its room back, unless its answer has.
    pub(in crate::caller) const fn release(&mut self, posted: &Posted) {
        if !posted.answered {
            self.unacked -= 1;
            self.bytes -= posted.bytes;
        }
    }
}
