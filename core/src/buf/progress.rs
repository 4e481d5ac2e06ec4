//! Whether bytes on their way out move: how many are handed to the driver, and since when none has left.

use core::time::Duration;

use crate::time::{Deadline, Instant, Reason};

/// What one connection has handed out and the operating system has not taken yet.
#[derive(Debug)]
pub(crate) struct Progress {
    in_flight: usize,
    /// When bytes left last, or the first of those that wait began to.
    moved: Instant,
}

impl Progress {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { in_flight: 0, moved: now }
    }

    /// Bytes begin to wait. Behind others that are in flight they have the bound of those.
    pub(crate) const fn begin(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.moved = now;
        }
    }

    /// So many bytes are handed to the driver.
    pub(crate) const fn on_handed_out(&mut self, bytes: usize) {
        self.in_flight += bytes;
    }

    /// So many bytes are written.
    pub(crate) const fn on_sent(&mut self, bytes: usize, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.moved = now;
    }

    /// Bytes that are handed out and not written.
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When bytes left last, or the first of those that wait began to.
    pub(crate) const fn moved(&self) -> Instant {
        self.moved
    }

    /// When bytes have stood still for too long; `None` if none is in flight.
    pub(crate) fn deadline(&self, bound: Duration) -> Option<Deadline> {
        (self.in_flight > 0).then(|| self.stall(bound))
    }

    /// The same for bytes that wait here and are not handed out.
    pub(crate) fn stall(&self, bound: Duration) -> Deadline {
        Deadline { at: self.moved + bound, why: Reason::SendStall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn after(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn bytes_in_flight_have_a_bound_that_begins_anew_whenever_some_move() {
        let mut progress = Progress::new(after(0));
        assert_eq!(progress.deadline(BOUND), None);
        progress.begin(after(1));
        progress.on_handed_out(10);
        assert_eq!(progress.deadline(BOUND).map(|deadline| deadline.at), Some(after(11)));
        // What follows has not a bound of its own.
        progress.begin(after(2));
        progress.on_handed_out(10);
        assert_eq!(progress.deadline(BOUND), Some(progress.stall(BOUND)));
        assert_eq!(progress.stall(BOUND), Deadline { at: after(11), why: Reason::SendStall });
        progress.on_sent(15, after(5));
        assert_eq!((progress.in_flight(), progress.moved()), (5, after(5)));
        assert_eq!(progress.deadline(BOUND).map(|deadline| deadline.at), Some(after(15)));
        progress.on_sent(5, after(6));
        assert_eq!(progress.deadline(BOUND), None);
    }
}
