//! The first failure ends all, or the first of a kind.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::task::policy::on_error::{Failure, OnErrorPolicy, Verdict};

/// Cancels the tracker at the first failure; with patterns, at the first whose text contains one of them.
///
/// ```
/// use ringplane_core::task::policy::{CancelOnError, Failure, OnErrorPolicy, Verdict};
/// use ringplane_core::time::Instant;
///
/// let failure = |text| Failure { text, attempt: 1, panicked: false, now: Instant::ZERO };
/// assert_eq!(CancelOnError::new().on_error(&failure(&"no route")), Verdict::Shutdown);
///
/// let mut policy = CancelOnError::with_patterns(["out of memory", "disk full"]);
/// assert_eq!(policy.on_error(&failure(&"no route")), Verdict::GoOn);
/// assert_eq!(policy.on_error(&failure(&"save: disk full")), Verdict::Shutdown);
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CancelOnError {
    /// `None`: every failure counts.
    patterns: Option<Vec<String>>,
}

impl CancelOnError {
    /// Every failure counts.
    pub const fn new() -> Self {
        Self { patterns: None }
    }

    /// Failures count whose text contains one of `patterns`; without patterns, none does. Upper and lower case differ.
    pub fn with_patterns(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { patterns: Some(patterns.into_iter().map(Into::into).collect()) }
    }

    fn counts(&self, failure: &Failure<'_>) -> bool {
        let Some(patterns) = &self.patterns else { return true };
        let text = failure.text.to_string();
        patterns.iter().any(|pattern| text.contains(pattern.as_str()))
    }
}

impl OnErrorPolicy for CancelOnError {
    fn create_child(&self) -> Box<dyn OnErrorPolicy> {
        Box::new(self.clone())
    }

    fn on_error(&mut self, failure: &Failure<'_>) -> Verdict {
        if self.counts(failure) { Verdict::Shutdown } else { Verdict::GoOn }
    }

    /// An error that would end all is not worth another try, if it is one of the patterns.
    fn allow_continuation(&self, failure: &Failure<'_>) -> bool {
        self.patterns.is_none() || !self.counts(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn an_error_that_ends_all_is_not_tried_again_and_any_other_is() {
        let failure = |text| Failure { text, attempt: 1, panicked: false, now: Instant::ZERO };
        let policy = CancelOnError::with_patterns(["disk full"]);
        assert!(!policy.allow_continuation(&failure(&"disk full")));
        assert!(policy.allow_continuation(&failure(&"Disk full")));
        assert!(CancelOnError::new().allow_continuation(&failure(&"disk full")));
        let mut none = CancelOnError::with_patterns([""; 0]);
        assert_eq!(none.on_error(&failure(&"disk full")), Verdict::GoOn);
    }
}
