//! The local suspicion that an instance is gone: marked for a while, probed by one call, cleared by a success.

use core::time::Duration;

use crate::time::Instant;

/// How long suspicion lasts. Every value has a meaning: no field is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The first mark of an instance. Default 1 s. Zero switches marking off.
    pub base: Duration,
    /// The longest mark. Default 30 s. Below `base` it wins.
    pub cap: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(30) }
    }
}

/// The mark of one instance.
///
/// ```text
///             struck                     its time ends
///     Clear ─────────▶ Down(1 × base) ─────────────────▶ half open
///       ▲                 ▲                                  │ began: a call probes, the mark is
///       │                 │ struck: twice as long            ▼ renewed for others meanwhile
///       └── succeeded ────┴─────────────────────────────── probing
/// ```
/// Half open is a mark whose time has ended: the instance is a candidate like any other until one call begins there. A call
/// that begins while the mark lasts, because nobody else was left, probes too. Further strikes while marked and not probed
/// are echoes of the same event (many calls lose one connection) and count once.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct DownMark {
    until: Instant,
    /// Strikes since the last success; 0 is Clear.
    strikes: u32,
    probing: bool,
}

impl DownMark {
    /// No suspicion.
    pub const CLEAR: Self = Self { until: Instant::ZERO, strikes: 0, probing: false };

    /// The instance could not be dialed, dropped its connection, stayed silent or does not serve what it is known for. Returns
    /// whether that was news.
    pub fn struck(&mut self, now: Instant, config: &Config) -> bool {
        if self.is_down(now) && !self.probing {
            return false;
        }
        self.strikes = self.strikes.saturating_add(1);
        self.probing = false;
        self.until = now + self.term(config);
        true
    }

    /// A call is sent to the instance. Returns whether it is a probe; the caller need not treat it differently.
    pub fn began(&mut self, now: Instant, config: &Config) -> bool {
        if self.strikes == 0 {
            return false;
        }
        self.probing = true;
        self.until = now + self.term(config);
        true
    }

    /// The instance answered. Returns whether that was news.
    pub const fn succeeded(&mut self) -> bool {
        let news = self.strikes > 0;
        *self = Self::CLEAR;
        news
    }

    /// Whether to prefer others.
    pub fn is_down(&self, now: Instant) -> bool {
        now < self.until
    }

    /// When the mark ends by itself; [`Instant::ZERO`] without one.
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// How long the mark lasts after this many strikes.
    fn term(&self, config: &Config) -> Duration {
        let factor = 1u32.checked_shl(self.strikes.saturating_sub(1)).unwrap_or(u32::MAX);
        config.base.saturating_mul(factor).min(config.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn terms_double_from_probe_to_probe_up_to_the_cap_and_a_success_forgives() {
        let (mut mark, config) = (DownMark::CLEAR, Config::default());
        let mut now = Instant::from_nanos(5);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            mark.struck(now, &config);
            assert_eq!(mark.until(), now + SECOND * seconds);
            assert!(mark.is_down(now));
            now = mark.until();
            assert!(!mark.is_down(now));
            assert!(mark.began(now, &config));
        }
        mark.succeeded();
        assert!(!mark.is_down(now) && !mark.began(now, &config));
        mark.struck(now, &config);
        assert_eq!(mark.until(), now + SECOND);
    }

    #[test]
    fn many_calls_that_lose_one_connection_strike_once() {
        let (mut mark, config) = (DownMark::CLEAR, Config::default());
        let news = (0..100).filter(|nanos| mark.struck(Instant::from_nanos(*nanos), &config)).count();
        assert_eq!(news, 1);
        assert_eq!(mark.until(), Instant::ZERO + SECOND);
    }

    #[test]
    fn one_call_probes_while_others_stay_away_and_another_probes_if_nothing_comes_of_it() {
        let (mut mark, config) = (DownMark::CLEAR, Config::default());
        mark.struck(Instant::ZERO, &config);
        let ended = mark.until();
        assert!(mark.began(ended, &config));
        assert!(mark.is_down(ended), "others stay away from an instance being probed");
        assert!(!mark.is_down(ended + SECOND), "a probe without an outcome does not keep them away for ever");
    }

    #[test]
    fn a_base_of_zero_never_marks() {
        let config = Config { base: Duration::ZERO, cap: SECOND };
        let (mut mark, now) = (DownMark::CLEAR, Instant::from_nanos(9));
        mark.struck(now, &config);
        assert!(!mark.is_down(now));
    }

    #[test]
    fn strikes_without_end_saturate() {
        let config = Config { base: Duration::MAX, cap: Duration::MAX };
        let mut mark = DownMark { strikes: u32::MAX - 1, ..DownMark::CLEAR };
        mark.struck(Instant::ZERO, &config);
        mark.began(Instant::ZERO, &config);
        mark.struck(Instant::ZERO, &config);
        assert_eq!(mark.until(), Instant::FAR);
    }
}
