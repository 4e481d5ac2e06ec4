//! Whether a call that is slow to begin is made a second time, and when ("The Tail at Scale", Dean and Barroso, 2013).

use core::time::Duration;

/// First items whose times are remembered, the latest.
const REMEMBERED: usize = 256;
/// Times without which nothing is known of what is slow.
const ENOUGH: usize = 32;
/// What may be saved up, in second calls.
const SAVED: u32 = 10;

/// When a call counts as slow to begin.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Slow {
    /// After this long without an item.
    After(Duration),
    /// After as long as this percentage of the calls needed for their first item, of the last 256; 1 to 99. Nothing is slow before
    /// 32 have had one.
    Beyond(u8),
}

/// What bounds second calls.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// When a second call is made. Default beyond 95 percent.
    pub slow: Slow,
    /// Percent of the calls that may be made a second time. Default 5: as many as a percentile of 95 finds. What is not used is
    /// saved, for 10 calls at most.
    pub share: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self { slow: Slow::Beyond(95), share: 5 }
    }
}

/// What is known of the calls of one kind: how long their first items take, and how many more may be made a second time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hedging {
    config: Config,
    /// Microseconds of the latest, in a ring.
    times: [u32; REMEMBERED],
    /// Of `times`, from the front.
    known: usize,
    next: usize,
    /// Hundredths of a second call.
    credit: u32,
}

impl Hedging {
    /// Nothing is known yet.
    pub const fn new(config: Config) -> Self {
        Self { config, times: [0; REMEMBERED], known: 0, next: 0, credit: 0 }
    }

    /// A call begins: how long until it counts as slow, if that is known.
    pub fn begun(&mut self) -> Option<Duration> {
        self.credit = (self.credit + u32::from(self.config.share)).min(SAVED * 100);
        match self.config.slow {
            Slow::After(time) => Some(time),
            Slow::Beyond(percent) => self.percentile(percent.clamp(1, 99)),
        }
    }

    /// A call's first item came so long after its begin, from whichever of the two.
    pub fn answered(&mut self, took: Duration) {
        if let Some(time) = self.times.get_mut(self.next) {
            *time = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        }
        self.next = (self.next + 1) % REMEMBERED;
        self.known = (self.known + 1).min(REMEMBERED);
    }

    /// Whether one more may be made a second time, which it then is.
    pub const fn take(&mut self) -> bool {
        match self.credit.checked_sub(100) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    fn percentile(&self, percent: u8) -> Option<Duration> {
        if self.known < ENOUGH {
            return None;
        }
        let mut times = self.times;
        let times = times.get_mut(..self.known)?;
        let place = self.known * usize::from(percent) / 100;
        let (_, time, _) = times.select_nth_unstable(place);
        Some(Duration::from_micros(u64::from(*time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_percentile_is_known_once_enough_calls_have_begun_and_follows_the_latest() {
        let mut hedging = Hedging::new(Config { slow: Slow::Beyond(90), ..Config::default() });
        for n in 1..ENOUGH as u32 {
            hedging.answered(n * MILLI);
            assert_eq!(hedging.begun(), None);
        }
        hedging.answered(ENOUGH as u32 * MILLI);
        assert_eq!(hedging.begun(), Some(29 * MILLI));
        for _ in 0..REMEMBERED {
            hedging.answered(MILLI);
        }
        assert_eq!(hedging.begun(), Some(MILLI));
        hedging.answered(Duration::MAX);
        assert_eq!(Hedging::new(Config { slow: Slow::After(MILLI), share: 0 }).begun(), Some(MILLI));
    }

    #[test]
    fn second_calls_are_a_share_of_all_and_few_are_saved() {
        let mut hedging = Hedging::new(Config { share: 5, ..Config::default() });
        assert!(!hedging.take());
        let mut taken = 0;
        for _ in 0..1000 {
            hedging.begun();
            taken += u32::from(hedging.take());
        }
        assert_eq!(taken, 50);
        (0..1000).for_each(|_| _ = hedging.begun());
        assert_eq!((0..100).filter(|_| hedging.take()).count(), SAVED as usize);
    }
}
