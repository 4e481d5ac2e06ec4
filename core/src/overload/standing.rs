//! Whether a queue stands: its oldest have waited too long, for too long.

use core::time::Duration;

use crate::time::Instant;

/// CoDel's rule for what stands in a queue, here for the order of service (adaptive LIFO) in place of drops.
///
/// ```text
///            the oldest has waited longer than `target`         that has been so for `interval`
///  Flowing ──────────────────────────────────────────▶ Above ─────────────────────────────────▶ Standing
///     ▲                                                  │                                         │
///     └──────────────── the oldest has waited no longer than `target`, or there is none ───────────┘
/// ```
#[derive(Debug)]
pub(super) struct Standing {
    target: Duration,
    interval: Duration,
    above_since: Option<Instant>,
}

impl Standing {
    pub(super) const fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, above_since: None }
    }

    /// Looks at the one that has waited longest; whether the queue stands.
    pub(super) fn look(&mut self, oldest: Option<Instant>, now: Instant) -> bool {
        if oldest.is_none_or(|since| now.since(since) <= self.target) {
            self.above_since = None;
            return false;
        }
        now.since(*self.above_since.get_or_insert(now)) >= self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_no_standing_queue_and_one_that_has_drained_stands_no_more() {
        let mut standing = Standing::new(Duration::from_millis(10), Duration::from_millis(100));
        let came = Some(at(0));
        assert!(!standing.look(came, at(10)), "on target");
        assert!(!standing.look(came, at(11)) && !standing.look(came, at(110)), "not for long");
        assert!(standing.look(came, at(111)));
        assert!(!standing.look(Some(at(105)), at(112)), "the oldest is young again");
        assert!(!standing.look(came, at(113)) && standing.look(came, at(213)));
        assert!(!standing.look(None, at(214)) && !standing.look(came, at(215)));
    }
}
