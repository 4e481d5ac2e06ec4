//! Which endpoints are drained while their worker serves others.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::links::LINK_TOKEN;
use crate::time::Instant;

/// What calls hear of an endpoint that is drained.
pub(super) const DRAINED: &str = "the endpoint is being drained";

/// Wheel token of the earliest bound; no job key is this large.
pub(super) const ENDPOINT_TOKEN: u64 = LINK_TOKEN - 2;

/// The endpoints that take nothing new, by their numbers.
///
/// ```text
///  (serves) ──begin()──▶ Draining ──nothing left, or the bound──▶ Drained
///     ▲                     │                                        │
///     └─────────────────────┴───────────────resume()─────────────────┘
/// ```
#[derive(Debug, Default)]
pub(super) struct Endpoints(BTreeMap<u32, State>);

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Draining { until: Instant },
    Drained,
}

impl Endpoints {
    /// The endpoint takes nothing new, and what it has ends by `until`. One that drains already keeps its bound.
    pub(super) fn begin(&mut self, endpoint: u32, until: Instant) {
        let state = self.0.entry(endpoint).or_insert(State::Draining { until });
        if *state == State::Drained {
            *state = State::Draining { until };
        }
    }

    pub(super) fn resume(&mut self, endpoint: u32) {
        self.0.remove(&endpoint);
    }

    /// Whether the endpoint takes nothing new.
    pub(super) fn refuses(&self, endpoint: u32) -> bool {
        !self.0.is_empty() && self.0.contains_key(&endpoint)
    }

    /// Whether its last calls are waited for.
    pub(super) fn is_waiting(&self, endpoint: u32) -> bool {
        matches!(self.0.get(&endpoint), Some(State::Draining { .. }))
    }

    /// Its last call has ended, or its time is up; whether that is news.
    pub(super) fn finish(&mut self, endpoint: u32) -> bool {
        let waits = self.is_waiting(endpoint);
        if waits {
            self.0.insert(endpoint, State::Drained);
        }
        waits
    }

    /// The earliest bound.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|state| state.until()).min()
    }

    /// Those whose time is up.
    pub(super) fn overdue(&self, now: Instant) -> Vec<u32> {
        let overdue = self.0.iter().filter(|(_, state)| state.until().is_some_and(|until| until <= now));
        overdue.map(|(endpoint, _)| *endpoint).collect()
    }
}

impl State {
    const fn until(self) -> Option<Instant> {
        match self {
            Self::Draining { until } => Some(until),
            Self::Drained => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    const T0: Instant = Instant::ZERO;

    #[test]
    fn an_endpoint_keeps_its_first_bound_until_it_is_drained_and_serves_again_when_it_is_told() {
        let (mut all, later) = (Endpoints::default(), T0 + Duration::from_secs(9));
        assert!(!all.refuses(1) && all.next().is_none());
        all.begin(1, T0);
        all.begin(1, later);
        all.begin(2, later);
        assert_eq!((all.next(), all.overdue(T0)), (Some(T0), alloc::vec![1]));
        assert!(all.refuses(1) && all.finish(1) && !all.finish(1));
        assert!(all.refuses(1) && !all.is_waiting(1) && all.next() == Some(later));
        all.begin(1, later);
        assert!(all.is_waiting(1), "asked once more, it says so once more");
        all.resume(1);
        all.resume(2);
        assert!(!all.refuses(1) && all.next().is_none());
    }
}
