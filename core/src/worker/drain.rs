//! Where a worker stands that leaves, and what it still waits for.

use crate::links::LINK_TOKEN;
use crate::time::Instant;

/// A drain, begun or not.
#[derive(Debug)]
pub(super) struct Drain(State);

/// ```text
///  Serving ──begin()──▶ Draining ──nothing left, or the bound──▶ Drained
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Serving,
    Draining {
        until: Instant,
        /// Connections of before that are not gone.
        links_left: usize,
    },
    Drained,
}

/// Wheel token of the drain's bound; no job key is this large.
pub(super) const DRAIN_TOKEN: u64 = LINK_TOKEN - 1;

impl Drain {
    /// Nobody has asked for it.
    pub(super) const fn new() -> Self {
        Self(State::Serving)
    }

    /// The worker leaves by `until`, and has so many connections then; `false` if it leaves already.
    pub(super) fn begin(&mut self, until: Instant, links: usize) -> bool {
        let begins = !self.is_leaving();
        if begins {
            self.0 = State::Draining { until, links_left: links };
        }
        begins
    }

    /// A connection is gone; one that is `late` came when the drain had begun, and nobody waits for its end.
    pub(super) fn on_link_gone(&mut self, late: bool) {
        if let State::Draining { links_left, .. } = &mut self.0 {
            *links_left -= usize::from(!late);
        }
    }

    /// The drain is over; whether that is news.
    pub(super) fn finish(&mut self) -> bool {
        let ends = self.is_waiting();
        if ends {
            self.0 = State::Drained;
        }
        ends
    }

    /// Whether the worker takes nothing new.
    pub(super) fn is_leaving(&self) -> bool {
        self.0 != State::Serving
    }

    /// Whether it leaves and has not said that it is done.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.0, State::Draining { .. })
    }

    /// Whether it waits for no connection.
    pub(super) const fn has_no_links(&self) -> bool {
        matches!(self.0, State::Draining { links_left: 0, .. })
    }

    /// Whether its time is up.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.0, State::Draining { until, .. } if until <= now)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const T0: Instant = Instant::ZERO;

    #[test]
    fn a_drain_waits_for_the_connections_of_before_and_ends_once() {
        let mut drain = Drain::new();
        assert!(!drain.is_leaving() && !drain.finish());
        assert!(drain.begin(T0, 1) && !drain.begin(T0, 5));
        drain.on_link_gone(true);
        assert!(drain.is_waiting() && !drain.has_no_links());
        drain.on_link_gone(false);
        assert!(drain.has_no_links());
        assert!(drain.finish() && !drain.finish());
        assert!(drain.is_leaving() && !drain.is_waiting());
        drain.on_link_gone(false);
    }

    #[test]
    fn a_drain_has_its_bound() {
        let (mut drain, until) = (Drain::new(), T0 + Duration::from_secs(30));
        assert!(!drain.is_overdue(until));
        drain.begin(until, 0);
        assert!(!drain.is_overdue(T0) && drain.is_overdue(until));
        drain.finish();
        assert!(!drain.is_overdue(until));
    }
}
