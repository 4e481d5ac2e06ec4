//! Whether a call goes on at another worker when the one that answers is lost.

use alloc::vec::Vec;
use core::time::Duration;

use crate::caller::error::CallError;
use crate::caller::request::{Again, Earlier, MAX_AVOIDED};
use crate::id::InstanceId;

/// What bounds the workers that a call goes on at.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Workers after the first. Default 3. 0 is a call that does not go on.
    pub limit: u32,
    /// Bytes that may be kept of what has come. Default 16 MiB.
    pub max_kept: usize,
    /// How long after its begin a call may go on elsewhere. Default 600 s. The request's own timeout bounds all of it too.
    pub within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { limit: 3, max_kept: 16 << 20, within: Duration::from_secs(600) }
    }
}

/// ```text
///  Open ──stay(), too much is kept──▶ Last ──its end──▶ Over
///   ├──an error for which it goes on──▶ Open             ▲
///   └──its end, or an error for which it does not────────┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// It may go on at another worker.
    Open,
    /// It ends with the call that is under way.
    Last,
    Over,
}

/// An answer that may come from several workers, one after the other. Each of them is a call of its own; this says what its end
/// means for the whole. How a request goes on behind what has come is the application's to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Migration {
    config: Config,
    state: State,
    /// How the call before this one broke, if nothing has come since.
    cause: Option<CallError>,
    /// Calls that broke.
    broke: u32,
    /// Where they were, the latest last.
    avoid: Vec<InstanceId>,
}

impl Migration {
    /// The first call is under way.
    pub const fn new(config: Config) -> Self {
        Self { config, state: State::Open, cause: None, broke: 0, avoid: Vec::new() }
    }

    /// Whether what comes is to be kept, because the answer may have to go on behind it.
    pub fn keeps(&self) -> bool {
        self.state == State::Open
    }

    /// An item has come; so many bytes are kept of all of them.
    pub fn item(&mut self, kept: usize) {
        self.cause = None;
        if kept > self.config.max_kept {
            self.stay();
        }
    }

    /// The call that is under way is the last: it was cancelled, or only its instance will do.
    pub fn stay(&mut self) {
        if self.state == State::Open {
            self.state = State::Last;
        }
    }

    /// Nothing comes any more.
    pub const fn end(&mut self) {
        self.state = State::Over;
    }

    /// Whether that has been said.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The call under way ended with `error`, so long after the begin of the first.
    ///
    /// # Errors
    /// What the reader gets, if the answer does not go on elsewhere.
    pub fn broken(&mut self, error: CallError, elapsed: Duration) -> Result<CallError, CallError> {
        if error == CallError::NoBudget
            && let Some(cause) = self.cause.take()
        {
            // No other worker was asked.
            return Err(cause);
        }
        let goes_on = self.state == State::Open
            && error.is_migratable()
            && self.broke < self.config.limit
            && elapsed <= self.config.within;
        if goes_on { Ok(error) } else { Err(error) }
    }

    /// It goes on: what the next call is told of those before it, of which the last was `at` an instance and they all have
    /// made so many `attempts`.
    pub fn go_on(&mut self, error: CallError, at: Option<InstanceId>, attempts: u32) -> Earlier {
        self.cause = Some(error);
        self.broke += 1;
        self.avoid.extend(at.filter(|id| !self.avoid.contains(id)));
        self.avoid.drain(..self.avoid.len().saturating_sub(MAX_AVOIDED));
        Earlier { why: Again::Broke(self.broke), attempts, avoid: self.avoid.clone() }
    }

    /// Calls that broke and went on elsewhere.
    pub const fn migrations(&self) -> u32 {
        self.broke
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const LOST: CallError = CallError::NotAccepted;
    const SOON: Duration = Duration::from_secs(1);

    /// The call under way breaks at `at`, and the answer goes on.
    fn moves(migration: &mut Migration, at: u64, attempts: u32) -> Earlier {
        let error = migration.broken(LOST, SOON).unwrap();
        migration.go_on(error, Some(InstanceId(at)), attempts)
    }

    #[test]
    fn each_call_avoids_the_instances_before_it_as_often_as_the_limit_allows() {
        let mut migration = Migration::new(Config { limit: 2, ..Config::default() });
        let ids = |ids: &[u64]| ids.iter().copied().map(InstanceId).collect::<Vec<_>>();
        let first = Earlier { why: Again::Broke(1), attempts: 1, avoid: ids(&[7]) };
        assert_eq!(moves(&mut migration, 7, 1), first);
        assert_eq!(moves(&mut migration, 8, 3), Earlier { why: Again::Broke(2), attempts: 3, avoid: ids(&[7, 8]) });
        assert_eq!(migration.broken(LOST, SOON), Err(LOST));
        assert_eq!(migration.migrations(), 2);

        let mut migration = Migration::new(Config { limit: u32::MAX, ..Config::default() });
        let last = (0..20).map(|at| moves(&mut migration, at % 10, 1)).last().unwrap();
        assert_eq!(last.avoid.len(), MAX_AVOIDED);
        assert_eq!(moves(&mut migration, 9, 1).avoid, last.avoid, "nobody is in it twice");
    }

    #[test]
    fn an_answer_stays_beyond_its_time_its_bytes_or_a_cancel_and_for_errors_of_the_request() {
        let config = Config { max_kept: 100, within: SOON, ..Config::default() };
        let fresh = || Migration::new(config);
        assert_eq!(fresh().broken(LOST, SOON + Duration::from_nanos(1)), Err(LOST));
        for error in [CallError::DeadlineExceeded, CallError::Cancelled, CallError::NoBudget, CallError::HeaderTooLarge]
        {
            assert_eq!(fresh().broken(error.clone(), SOON), Err(error));
        }
        let mut full = fresh();
        full.item(100);
        assert!(full.keeps());
        full.item(101);
        assert_eq!((full.keeps(), full.broken(LOST, SOON)), (false, Err(LOST)));
        let mut ended = fresh();
        ended.end();
        ended.stay();
        assert!(ended.is_over());
    }

    #[test]
    fn a_call_that_the_budget_forbids_ends_with_what_broke_the_one_before() {
        let mut migration = Migration::new(Config::default());
        moves(&mut migration, 1, 1);
        assert_eq!(migration.broken(CallError::NoBudget, SOON), Err(LOST));
        let mut migration = Migration::new(Config::default());
        assert_eq!(moves(&mut migration, 1, 1).avoid, vec![InstanceId(1)]);
        migration.item(0);
        assert_eq!(migration.broken(CallError::NoBudget, SOON), Err(CallError::NoBudget), "that worker had answered");
    }
}
