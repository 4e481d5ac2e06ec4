//! So many failures are borne, one more is not.

use alloc::boxed::Box;

use crate::task::policy::on_error::{Failure, OnErrorPolicy, Verdict};

/// Cancels the tracker at the n-th failure of its tasks, whichever tasks they were.
///
/// ```
/// use ringplane_core::task::policy::{Failure, OnErrorPolicy, ThresholdCancelPolicy, Verdict};
/// use ringplane_core::time::Instant;
///
/// let failure = Failure { text: &"no route", attempt: 1, panicked: false, now: Instant::ZERO };
/// let mut policy = ThresholdCancelPolicy::new(3);
/// let verdicts = [(); 3].map(|()| policy.on_error(&failure));
/// assert_eq!(verdicts, [Verdict::GoOn, Verdict::GoOn, Verdict::Shutdown]);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThresholdCancelPolicy {
    max_failures: u32,
    failures: u32,
}

impl ThresholdCancelPolicy {
    /// Cancels at failure number `max_failures`; 0 counts as 1.
    pub const fn new(max_failures: u32) -> Self {
        Self { max_failures, failures: 0 }
    }

    /// Failures so far.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts one more. Whether it was the last that is borne.
    pub(super) const fn count(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures >= self.max_failures
    }

    /// The same with nothing counted.
    pub(super) const fn fresh(&self) -> Self {
        Self::new(self.max_failures)
    }
}

impl OnErrorPolicy for ThresholdCancelPolicy {
    fn create_child(&self) -> Box<dyn OnErrorPolicy> {
        Box::new(self.fresh())
    }

    fn on_error(&mut self, _: &Failure<'_>) -> Verdict {
        if self.count() { Verdict::Shutdown } else { Verdict::GoOn }
    }
}
