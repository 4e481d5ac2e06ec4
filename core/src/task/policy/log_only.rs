//! Failures are logged and counted, and that is all.

use alloc::boxed::Box;

use crate::task::policy::on_error::{Failure, OnErrorPolicy, Verdict};

/// Cancels nothing. Trackers log failures under every policy.
///
/// ```
/// use ringplane_core::task::policy::{Failure, LogOnlyPolicy, OnErrorPolicy, Verdict};
/// use ringplane_core::time::Instant;
///
/// let failure = Failure { text: &"no route", attempt: 1, panicked: false, now: Instant::ZERO };
/// assert_eq!(LogOnlyPolicy.on_error(&failure), Verdict::GoOn);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct LogOnlyPolicy;

impl OnErrorPolicy for LogOnlyPolicy {
    fn create_child(&self) -> Box<dyn OnErrorPolicy> {
        Box::new(*self)
    }

    fn on_error(&mut self, _: &Failure<'_>) -> Verdict {
        Verdict::GoOn
    }
}
