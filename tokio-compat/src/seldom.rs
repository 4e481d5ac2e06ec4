//! Warnings that would come by the thousand: the first at once, then one in a while that says how many there were.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines about one thing.
const PAUSE: Duration = Duration::from_secs(10);

/// What is told of one thing that happens again and again.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// None so far.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { told: None, untold: 0 }))
    }

    /// It has happened. How often since the last line, this time included, if a line is due.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_by_their_number() {
        let (seldom, begun) = (Seldom::new(), Instant::now());
        let told: Vec<_> = (0..25_000).filter_map(|at| seldom.due(begun + Duration::from_millis(at))).collect();
        assert_eq!(told, [1, 10_000, 10_000]);
        assert_eq!(seldom.due(begun + Duration::from_secs(60)), Some(5000));
        // A clock that does not move tells nothing twice.
        assert_eq!(seldom.due(begun), None);
    }
}
