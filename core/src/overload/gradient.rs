//! How many calls may run, found by what running more of them costs.

use core::time::Duration;

use crate::time::Instant;

/// How the limit moves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The limit is never below this. Default 4.
    pub least: usize,
    /// The time between two moves of the limit, at least, and with ten calls in it. Default 1 s.
    pub window: Duration,
    /// How much longer than the shortest known time a call may take, in percent of it, before the limit falls. Default 25.
    pub tolerance: u8,
    /// How long the shortest known time is believed; then the limit is halved, window by window, for as long as that makes calls
    /// shorter. Default 60 s.
    pub measure_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { least: 4, window: Duration::from_secs(1), tolerance: 25, measure_every: Duration::from_secs(60) }
    }
}

/// Calls that a window has at least.
const SAMPLES: u64 = 10;

/// The limit, after Envoy's gradient controller: what a call takes from its start to its first item is compared with what that
/// takes on a worker that is not busy.
///
/// ```text
///            measure_every is over, or nothing is known      calls are no shorter than at twice the limit
///  Following ──────────────────────────────────────▶ Measuring ────────────────────────────────────────▶ Following
///                                     half the limit └───◀───┘ they are: half again, for a window
/// ```
/// While it follows: `limit = gradient × limit + √limit`, where the gradient is `(shortest + tolerance) / mean of the window`,
/// between a half and two. The limit grows only while it is used: by half of it at least. Whole numbers only.
#[derive(Debug)]
pub struct Gradient {
    config: Config,
    most: usize,
    limit: usize,
    /// What a call takes at no load, in nanoseconds; 0: not measured.
    shortest: u64,
    state: State,
    window: Window,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Following {
        since: Instant,
    },
    Measuring {
        since: Instant,
        /// The limit to go on with.
        resume: usize,
        /// What calls took there; `u64::MAX` before it is known.
        last: u64,
    },
}

#[derive(Copy, Clone, Debug)]
struct Window {
    since: Option<Instant>,
    sum: u64,
    count: u64,
    /// The most calls that ran.
    busiest: usize,
}

impl Window {
    const EMPTY: Self = Self { since: None, sum: 0, count: 0, busiest: 0 };
}

impl Gradient {
    /// A limit of `most` at the beginning, and at the most.
    pub fn new(config: Config, most: usize) -> Self {
        let state = State::Following { since: Instant::ZERO };
        Self { config, most, limit: most, shortest: 0, state, window: Window::EMPTY }
    }

    /// How many calls may run.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// A call that began at `began` has its first item, or has ended well without one, while so many ran. Whether the limit has
    /// moved.
    pub fn on_first(&mut self, began: Instant, running: usize, now: Instant) -> bool {
        if let State::Measuring { since, .. } = self.state
            && began < since
        {
            // It began when more were running.
            return false;
        }
        let window = &mut self.window;
        let since = *window.since.get_or_insert(now);
        window.sum = window.sum.saturating_add(u64::try_from(now.since(began).as_nanos()).unwrap_or(u64::MAX));
        window.count += 1;
        window.busiest = window.busiest.max(running);
        if window.count < SAMPLES || now.since(since) < self.config.window {
            return false;
        }
        let window = core::mem::replace(&mut self.window, Window::EMPTY);
        let before = self.limit;
        self.on_window((window.sum / window.count).max(1), window.busiest, now);
        self.limit != before
    }

    fn on_window(&mut self, mean: u64, busiest: usize, now: Instant) {
        match self.state {
            State::Measuring { last, resume, .. } => {
                let known = self.shortest > 0 && is_near(mean, self.shortest);
                if known || is_near(last, mean) || self.limit == self.config.least {
                    self.shortest = mean.min(last);
                    self.limit = resume;
                    self.state = State::Following { since: now };
                } else {
                    self.halve(mean, now);
                }
            }
            State::Following { since } if self.shortest == 0 || now.since(since) >= self.config.measure_every => {
                self.halve(u64::MAX, now);
            }
            State::Following { .. } => {
                // What is shorter than the shortest is the shortest.
                self.shortest = self.shortest.min(mean);
                self.follow(mean, busiest);
            }
        }
    }

    fn halve(&mut self, last: u64, now: Instant) {
        self.state = State::Measuring { since: now, resume: self.limit, last };
        self.limit = self.bounded(self.limit / 2);
    }

    fn follow(&mut self, mean: u64, busiest: usize) {
        let allowed = u128::from(self.shortest) * (100 + u128::from(self.config.tolerance)) / 100;
        let limit = self.limit as u128;
        let scaled = (limit * allowed / u128::from(mean)).clamp(limit / 2, limit * 2);
        let next = usize::try_from(scaled).unwrap_or(usize::MAX).saturating_add(self.limit.isqrt());
        if next <= self.limit || busiest >= self.limit / 2 {
            self.limit = self.bounded(next);
        }
    }

    fn bounded(&self, limit: usize) -> usize {
        limit.max(self.config.least).min(self.most)
    }
}

/// Whether a time is longer than another by a tenth at the most.
const fn is_near(time: u64, shorter: u64) -> bool {
    time / 11 <= shorter / 10
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::rng::Rng;

    /// A model that serves `fits` calls at once in 100 ms each to their first item, and `n` more calls in proportion longer; as
    /// many run as may. What the limit is after each second.
    fn limits(config: Config, fits: impl Fn(u64) -> u64, seconds: u64, seed: u64) -> Vec<usize> {
        let (mut gradient, mut rng) = (Gradient::new(config, 1000), Rng::new(seed));
        let mut running: Vec<(u64, u64)> = Vec::new();
        let mut limits = Vec::new();
        for milli in 0..seconds * 1000 {
            let at = |milli: u64| Instant::ZERO + Duration::from_millis(milli);
            let count = running.len();
            let (over, rest): (Vec<_>, Vec<_>) = running.into_iter().partition(|(_, until)| *until <= milli);
            running = rest;
            for (began, _) in over {
                gradient.on_first(at(began), count, at(milli));
            }
            while running.len() < gradient.limit() {
                let load = (running.len() as u64 + 1).max(fits(milli / 1000));
                let takes = 100 * load / fits(milli / 1000);
                running.push((milli, milli + takes * (90 + rng.below(20)) / 100));
            }
            if milli % 1000 == 999 {
                limits.push(gradient.limit());
            }
        }
        limits
    }

    #[test]
    fn the_limit_settles_where_running_more_makes_calls_longer_and_follows_when_that_moves() {
        for seed in 0..5 {
            let limits = limits(Config::default(), |second| if second < 200 { 100 } else { 40 }, 400, seed);
            // While it measures it is half of that, for a window.
            let settled = |range: core::ops::Range<usize>, least: usize, most: usize| {
                let seen = &limits[range];
                let inside = seen.iter().filter(|limit| (least..=most).contains(*limit)).count();
                assert!(inside * 100 >= seen.len() * 90, "seed {seed}: {seen:?} not in {least}..={most}");
            };
            settled(60..200, 100, 170);
            settled(300..400, 40, 75);
        }
    }

    #[test]
    fn a_worker_that_is_not_busy_keeps_its_limit_and_no_limit_leaves_its_bounds() {
        let mut gradient = Gradient::new(Config { least: 8, ..Config::default() }, 64);
        let mut rng = Rng::new(7);
        for step in 0..20_000u64 {
            let now = Instant::ZERO + Duration::from_millis(step * 20 + 5000);
            let began = Instant::ZERO + Duration::from_millis(step * 20 + 5000 - rng.below(4000));
            gradient.on_first(began, rng.below(64) as usize, now);
            assert!((8..=64).contains(&gradient.limit()), "{}", gradient.limit());
        }
        let mut idle = Gradient::new(Config::default(), 1000);
        for step in 0..3000u64 {
            let now = Instant::ZERO + Duration::from_millis(step * 50 + 1000);
            idle.on_first(Instant::ZERO + Duration::from_millis(step * 50 + 900), 2, now);
        }
        assert!(idle.limit() >= 1000 / 2, "{}", idle.limit());
    }
}
