//! How a connection closes: told to the driver once, with a bound on what is still to be written.

use core::time::Duration;

use crate::time::{Deadline, Instant, Reason};

/// How to end a connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Closing {
    /// Write what has been pulled, then FIN, then close. Received bytes are dropped from now on. The machine bounds the
    /// wait: it follows up with [`Closing::Abort`] if need be.
    Flush,
    /// Now, whatever is queued.
    Abort,
}

/// The close of one connection, as its machine asks for it.
///
/// ```text
///  Open ──begin()──▶ Begun ──poll()──▶ Flush told ──the bound passes──▶ Abort told
///                      └──the bound passes, or nothing is to be flushed──▶ Abort told
/// ```
#[derive(Debug)]
pub(crate) struct Close {
    since: Option<Instant>,
    told: Option<Closing>,
}

impl Close {
    pub(crate) const fn new() -> Self {
        Self { since: None, told: None }
    }

    /// The connection is to close. Only the first time counts.
    pub(crate) const fn begin(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// What the driver has to be told now, each answer once: `how`, which is `None` while something goes first, or an abort
    /// once `bound` has passed.
    pub(crate) fn poll(&mut self, how: Option<Closing>, bound: Duration, now: Instant) -> Option<Closing> {
        let late = self.since? + bound <= now;
        let how = if late { Closing::Abort } else { how? };
        if self.told == Some(how) || self.told == Some(Closing::Abort) {
            return None;
        }
        self.told = Some(how);
        Some(how)
    }

    /// When the close has taken too long; `None` before it begins and after an abort.
    pub(crate) fn deadline(&self, bound: Duration) -> Option<Deadline> {
        let at = self.since.filter(|_| self.told != Some(Closing::Abort))? + bound;
        Some(Deadline { at, why: Reason::Drain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(1);
    const T0: Instant = Instant::ZERO;

    #[test]
    fn a_close_is_told_once_and_again_as_an_abort_when_it_takes_too_long() {
        let mut close = Close::new();
        assert_eq!((close.poll(Some(Closing::Flush), BOUND, T0), close.deadline(BOUND)), (None, None));
        close.begin(T0);
        close.begin(T0 + BOUND);
        assert_eq!(close.poll(None, BOUND, T0), None, "something goes first");
        assert_eq!(close.poll(Some(Closing::Flush), BOUND, T0), Some(Closing::Flush));
        assert_eq!(close.poll(Some(Closing::Flush), BOUND, T0), None);
        let late = T0 + BOUND;
        assert_eq!(close.deadline(BOUND), Some(Deadline { at: late, why: Reason::Drain }));
        assert_eq!(close.poll(None, BOUND, late), Some(Closing::Abort));
        assert_eq!((close.poll(Some(Closing::Flush), BOUND, late), close.deadline(BOUND)), (None, None));
    }

    #[test]
    fn after_an_abort_nothing_is_told() {
        let mut close = Close::new();
        close.begin(T0);
        assert_eq!(close.poll(Some(Closing::Abort), BOUND, T0), Some(Closing::Abort));
        assert_eq!(close.poll(Some(Closing::Flush), BOUND, T0), None);
        assert_eq!(close.poll(Some(Closing::Abort), BOUND, T0 + BOUND), None);
    }
}
