//! Whether to watch for completions instead of sleeping, by how long the last waits took.

use std::time::Duration;

/// Enough short waits in a row, or nearly, to expect another one.
const PAYS: u8 = 8;
/// The most that counts.
const MOST: u8 = 16;
/// What a long wait takes away: polling goes on only while four of five waits are short.
const LONG: u8 = 4;

/// Watches while it pays: a wait that ends within the bound is short, whether it was slept or watched, so that steady
/// traffic turns polling on without a try, and a few pauses turn it off.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Polling {
    bound: Duration,
    score: u8,
}

impl Polling {
    /// Watches for up to `bound` at a time; 0: never.
    pub(crate) const fn new(bound: Duration) -> Self {
        Self { bound, score: 0 }
    }

    /// How long to watch now; `None`: not at all.
    pub(crate) fn bound(&self) -> Option<Duration> {
        (self.score >= PAYS && !self.bound.is_zero()).then_some(self.bound)
    }

    /// Something came after this long.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.score = if time <= self.bound { (self.score + 1).min(MOST) } else { self.score.saturating_sub(LONG) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_micros(100);
    const SHORT: Duration = Duration::from_micros(80);
    const PAUSE: Duration = Duration::from_millis(1);

    fn after(waits: impl IntoIterator<Item = Duration>) -> Polling {
        let mut polling = Polling::new(BOUND);
        waits.into_iter().for_each(|time| polling.waited(time));
        polling
    }

    #[test]
    fn steady_traffic_turns_it_on_and_a_few_pauses_off() {
        assert_eq!(after([SHORT; 7]).bound(), None);
        let mut polling = after([SHORT; 100]);
        assert_eq!(polling.bound(), Some(BOUND));
        for _ in 0..2 {
            polling.waited(PAUSE);
            assert_eq!(polling.bound(), Some(BOUND), "one pause is no change");
        }
        polling.waited(PAUSE);
        assert_eq!(polling.bound(), None);
    }

    #[test]
    fn it_stays_off_where_one_wait_in_four_is_long_and_on_where_one_in_ten_is() {
        let every = |nth: usize| (1..=1000).map(move |count| if count % nth == 0 { PAUSE } else { SHORT });
        assert_eq!(after(every(4)).bound(), None);
        assert_eq!(after(every(10)).bound(), Some(BOUND));
    }

    #[test]
    fn no_bound_is_never() {
        let mut polling = Polling::new(Duration::ZERO);
        (0..100).for_each(|_| polling.waited(Duration::ZERO));
        assert_eq!(polling.bound(), None);
    }
}
