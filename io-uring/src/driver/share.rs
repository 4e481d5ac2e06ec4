//! How long tasks run before what they had to say is written.

use std::time::Duration;

use ringplane_core::time::Instant;

/// After a wait, for each connection that has something to write; twice as long in each turn that follows without one.
const FIRST: Duration = Duration::from_micros(12);
/// A shorter wait is none.
const WAIT: Duration = Duration::from_micros(5);

/// Writing much at a time is cheap, but makes two peers that wait for each other take turns: one works on a batch while the
/// other has nothing to do. A driver that has been idle for at least as long as it was busy therefore writes early, so that
/// its peer has work meanwhile; a busy driver keeps batching.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Share {
    /// When the last wait ended.
    awake: Instant,
    next: Duration,
}

impl Share {
    pub(crate) const fn new() -> Self {
        Self { awake: Instant::ZERO, next: FIRST }
    }

    /// There was nothing to do from `since` until now.
    pub(crate) fn waited(&mut self, since: Instant, now: Instant) {
        let (worked, waited) = (since.since(self.awake), now.since(since));
        if waited >= WAIT {
            self.awake = now;
            if waited >= worked {
                self.next = FIRST;
            }
        }
    }

    /// How long tasks may run in the turn that begins.
    pub(crate) fn take(&mut self) -> Duration {
        let share = self.next;
        self.next = share.saturating_mul(2);
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of the last of many turns, after each of which there was nothing to do for `wait`.
    fn after(work: Duration, wait: Duration) -> Duration {
        let (mut share, mut now, mut last) = (Share::new(), Instant::ZERO, Duration::ZERO);
        for _ in 0..20 {
            last = share.take();
            let since = now + work;
            now = since + wait;
            share.waited(since, now);
        }
        last
    }

    #[test]
    fn who_waits_as_long_as_it_works_writes_early_and_who_hardly_waits_does_not() {
        let micros = Duration::from_micros;
        assert_eq!(after(micros(100), micros(100)), FIRST);
        assert_eq!(after(micros(100), micros(1_000)), FIRST);
        assert!(after(micros(100), micros(50)) > micros(100_000));
        assert!(after(micros(1), micros(4)) > micros(100_000), "that is no wait");
    }

    #[test]
    fn every_turn_without_a_wait_has_twice_as_long() {
        let mut share = Share::new();
        assert_eq!([(); 4].map(|()| share.take()), [1, 2, 4, 8].map(|times| FIRST * times));
        (0..200).for_each(|_| _ = share.take());
        assert_eq!(share.take(), Duration::MAX);
    }
}
