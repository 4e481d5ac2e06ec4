//! Whether the system can afford another try: a bucket of retry tokens shared by all calls.

/// The size of the bucket.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Tokens in a full bucket. Default 1000: a worker may die with 499 calls in flight and all of them are tried again.
    /// 0 switches the budget off, every retry is then allowed.
    pub max_tokens: u32,
    /// Thousandths of a token a success puts back. Default 100: one failure for ten successes is always retried, at a higher
    /// rate retries end. Counts as at least 1, or an emptied bucket would stay empty.
    pub milli_tokens_per_success: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_tokens: 1000, milli_tokens_per_success: 100 }
    }
}

/// A token bucket that tells one failing instance from a failing system, by the rule of gRPC's retry throttling (gRFC A6):
/// every retryable failure takes a token, every success puts a fraction back, and nothing is retried while the bucket is
/// not more than half full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    config: Config,
    milli_tokens: u64,
}

impl Budget {
    /// A full bucket.
    pub const fn new(config: Config) -> Self {
        Self { config, milli_tokens: config.max_tokens as u64 * 1000 }
    }

    /// A try failed in a way that may be retried. Takes a token and says whether to retry.
    pub fn failed(&mut self) -> bool {
        let before = self.allows();
        self.milli_tokens = self.milli_tokens.saturating_sub(1000);
        let allowed = self.allows();
        if before && !allowed {
            debug!(tokens = self.milli_tokens / 1000, "retry budget spent");
        }
        allowed
    }

    /// A call succeeded.
    pub fn succeeded(&mut self) {
        let back = u64::from(self.config.milli_tokens_per_success.max(1));
        self.milli_tokens = (self.milli_tokens + back).min(self.full());
    }

    /// Whether a retry is allowed now.
    pub const fn allows(&self) -> bool {
        self.config.max_tokens == 0 || self.milli_tokens > self.full() / 2
    }

    /// Thousandths of a token left.
    pub const fn milli_tokens(&self) -> u64 {
        self.milli_tokens
    }

    const fn full(&self) -> u64 {
        self.config.max_tokens as u64 * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stop_at_half_and_resume_above_it() {
        let mut budget = Budget::new(Config { max_tokens: 10, milli_tokens_per_success: 100 });
        let allowed = (0..20).filter(|_| budget.failed()).count();
        assert_eq!((allowed, budget.milli_tokens()), (4, 0));
        for _ in 0..50 {
            assert!(!budget.allows());
            budget.succeeded();
        }
        assert!(!budget.allows(), "half is not enough");
        budget.succeeded();
        assert!(budget.allows());
    }

    fn retried(successes_per_failure: u32, failures: u32) -> u32 {
        let mut budget = Budget::new(Config { max_tokens: 100, milli_tokens_per_success: 100 });
        let mut retried = 0;
        for _ in 0..failures {
            (0..successes_per_failure).for_each(|_| budget.succeeded());
            retried += u32::from(budget.failed());
        }
        retried
    }

    #[test]
    fn one_failure_for_ten_successes_is_always_retried_and_a_failing_system_hardly_ever() {
        assert_eq!(retried(10, 10_000), 10_000);
        assert_eq!(retried(0, 10_000), 49);
        assert!((49..60).contains(&retried(1, 10_000)));
    }

    #[test]
    fn the_bucket_does_not_overflow() {
        let mut budget = Budget::new(Config { max_tokens: 2, milli_tokens_per_success: u32::MAX });
        budget.succeeded();
        assert_eq!(budget.milli_tokens(), 2000);
    }

    #[test]
    fn a_budget_switched_off_allows_everything() {
        let mut budget = Budget::new(Config { max_tokens: 0, milli_tokens_per_success: 0 });
        assert!((0..100).all(|_| budget.failed()));
    }
}
