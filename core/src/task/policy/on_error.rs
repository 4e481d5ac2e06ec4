//! What a policy is asked, and what it may answer.

use alloc::boxed::Box;
use core::fmt;

use crate::time::Instant;

/// A task that has failed for good, or wants to be tried again.
#[derive(Copy, Clone)]
pub struct Failure<'a> {
    /// What went wrong: the whole chain of an error, or what a panic said. Not formatted unless somebody looks.
    pub text: &'a dyn fmt::Display,
    /// Tries of this task so far, from 1.
    pub attempt: u32,
    /// Whether the task has panicked.
    pub panicked: bool,
    /// When that was.
    pub now: Instant,
}

impl fmt::Debug for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("text", &format_args!("{}", self.text))
            .field("attempt", &self.attempt)
            .field("panicked", &self.panicked)
            .field("now", &self.now)
            .finish()
    }
}

/// What a policy wants.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The other tasks go on.
    GoOn,
    /// The tracker is closed and all its tasks are cancelled.
    Shutdown,
}

/// What the failures of a tracker's tasks lead to. One policy sees the failures of all tasks of its tracker, one after the
/// other; a tracker below it has a policy of its own.
pub trait OnErrorPolicy: Send {
    /// The policy of a tracker below this one: configured the same, and nothing counted yet.
    fn create_child(&self) -> Box<dyn OnErrorPolicy>;

    /// A task has failed for good.
    fn on_error(&mut self, failure: &Failure<'_>) -> Verdict;

    /// A task has succeeded. Only called if [`OnErrorPolicy::watches_successes`].
    fn on_success(&mut self, _now: Instant) -> Verdict {
        Verdict::GoOn
    }

    /// Whether successes count too. Asked once, when the tracker is made.
    fn watches_successes(&self) -> bool {
        false
    }

    /// Whether a task that asks for another try may have it. Its own bound ([`Retry`](crate::task::retry::Retry)) holds
    /// besides.
    fn allow_continuation(&self, _failure: &Failure<'_>) -> bool {
        true
    }
}
