//! Calls that are not made because too many of those before them were refused.

use core::time::Duration;

use crate::rng::Rng;
use crate::time::Instant;

/// What share of calls is made while others are refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How many calls are made for each that is accepted, at the most and in percent: K of the SRE book. More lets more calls
    /// be refused, and sees sooner that there is room again; near 100 a set is used for less than it could. Default 200.
    pub k: u32,
    /// How far back calls are counted. Default 120 s.
    pub window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { k: 200, window: Duration::from_secs(120) }
    }
}

/// Parts of the window, the oldest of which is forgotten at a time.
const PARTS: usize = 8;

/// The rule of Google's SRE book ("Handling Overload") for one set of instances: a call is turned away here with probability
/// `max(0, (requests - K × accepts) / (requests + 1))`, counted over the window, where those turned away here are requests
/// too. A refusal costs a worker little but not nothing: with this it has at most `K` times the calls that it accepts to answer,
/// and a few more. Whole numbers only.
#[derive(Clone, Debug)]
pub struct Throttle {
    config: Config,
    /// In a ring; the one at `at` is the latest.
    parts: [Part; PARTS],
    at: usize,
    /// When the latest part began.
    since: Instant,
}

#[derive(Copy, Clone, Default, Debug)]
struct Part {
    requests: u64,
    /// By a worker, or here: never more than requests, so that forgetting a part leaves no refusal without its request.
    refused: u64,
}

impl Throttle {
    /// Nothing has been counted.
    pub const fn new(config: Config, now: Instant) -> Self {
        Self { config, parts: [Part { requests: 0, refused: 0 }; PARTS], at: 0, since: now }
    }

    /// A call is to be made; whether it is turned away.
    pub fn turns_away(&mut self, rng: &mut Rng, now: Instant) -> bool {
        self.forget(now);
        let (requests, refused) = self.sums();
        let accepts = u128::from(requests - refused) * u128::from(self.config.k.max(100));
        // In hundredths of calls.
        let excess = (u128::from(requests) * 100).saturating_sub(accepts);
        let all = requests.saturating_add(1).saturating_mul(100);
        let away = excess > 0 && u128::from(rng.below(all)) < excess;
        self.count(1, u64::from(away));
        away
    }

    /// A call that was made is tried again.
    pub fn on_retry(&mut self, now: Instant) {
        self.forget(now);
        self.count(1, 0);
    }

    /// A call that was made has been refused for want of room.
    pub fn on_refused(&mut self, now: Instant) {
        self.forget(now);
        // The latest part that has a request left, as that may have been made before the part of now began. There is none if
        // the call waited for longer than the window: its request is forgotten, and so is this.
        for back in 0..PARTS {
            if let Some(part) = self.parts.get_mut((self.at + PARTS - back) % PARTS)
                && part.refused < part.requests
            {
                part.refused += 1;
                return;
            }
        }
    }

    /// What is counted: calls, and those that were refused, by a worker or here.
    pub fn sums(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |(requests, refused), part| (requests + part.requests, refused + part.refused))
    }

    fn count(&mut self, requests: u64, refused: u64) {
        if let Some(part) = self.parts.get_mut(self.at) {
            part.requests += requests;
            part.refused += refused;
        }
    }

    fn forget(&mut self, now: Instant) {
        let part = self.config.window / PARTS as u32;
        for _ in 0..PARTS {
            if now.since(self.since) < part {
                return;
            }
            (self.at, self.since) = ((self.at + 1) % PARTS, self.since + part);
            if let Some(oldest) = self.parts.get_mut(self.at) {
                *oldest = Part::default();
            }
        }
        // All of it is over.
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a set that takes `capacity` calls a second is asked in the last of some minutes, and accepts of that, while callers want
    /// `wanted` of it.
    fn load(config: Config, wanted: u64, capacity: u64, seed: u64) -> (u64, u64) {
        let (mut throttle, mut rng) = (Throttle::new(config, Instant::ZERO), Rng::new(seed));
        let (mut asked, mut accepted) = (0, 0);
        for second in 0..300 {
            let mut left = capacity;
            for call in 0..wanted {
                let now =
                    Instant::ZERO + Duration::from_secs(second) + Duration::from_micros(1_000_000 * call / wanted);
                if throttle.turns_away(&mut rng, now) {
                    continue;
                }
                // A bucket that fills evenly over the second.
                let fits = (capacity - left) * wanted <= call * capacity && left > 0;
                if fits {
                    left -= 1;
                } else {
                    throttle.on_refused(now);
                }
                if second >= 240 {
                    (asked, accepted) = (asked + 1, accepted + u64::from(fits));
                }
            }
        }
        (asked / 60, accepted / 60)
    }

    #[test]
    fn an_overloaded_set_is_asked_k_times_what_it_accepts_however_much_is_wanted_and_no_other_set_notices() {
        for seed in 0..3 {
            for wanted in [400, 1_000, 5_000] {
                let (asked, accepted) = load(Config::default(), wanted, 100, seed);
                assert!((95..=100).contains(&accepted), "seed {seed}: {accepted} of {wanted} accepted");
                assert!((180..=230).contains(&asked), "seed {seed}: {asked} of {wanted} asked");
            }
            let tight = Config { k: 150, ..Config::default() };
            let (asked, accepted) = load(tight, 1_000, 100, seed);
            assert!(asked <= 165 && accepted >= 90, "seed {seed}: {asked} asked, {accepted} accepted");
            assert_eq!(load(Config::default(), 100, 100, seed), (100, 100), "seed {seed}");
            assert_eq!(load(Config::default(), 190, 100, seed).0, 190, "seed {seed}: less than K times that");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten_and_a_refusal_without_its_request_counts_for_nothing() {
        let (mut throttle, mut rng) = (Throttle::new(Config::default(), Instant::ZERO), Rng::new(1));
        for _ in 0..100 {
            throttle.turns_away(&mut rng, Instant::ZERO);
            throttle.on_refused(Instant::ZERO);
        }
        let (requests, refused) = throttle.sums();
        assert_eq!((requests, refused), (100, 100));
        let later = Instant::ZERO + Duration::from_secs(120);
        throttle.on_refused(later);
        assert_eq!(throttle.sums(), (0, 0));
        assert!(!throttle.turns_away(&mut rng, later + Duration::from_secs(1_000)));
        throttle.on_retry(later + Duration::from_secs(1_000));
        assert_eq!(throttle.sums(), (2, 0));
    }

    #[test]
    fn a_refusal_that_comes_in_a_later_part_than_its_request_is_forgotten_with_it() {
        let (mut throttle, mut rng) = (Throttle::new(Config::default(), Instant::ZERO), Rng::new(1));
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        (0..100).for_each(|_| assert!(!throttle.turns_away(&mut rng, at(14_900))));
        assert!(!throttle.turns_away(&mut rng, at(15_050)));
        (0..100).for_each(|_| throttle.on_refused(at(15_100)));
        assert_eq!(throttle.sums(), (101, 100));
        throttle.forget(at(120_000));
        let (requests, refused) = throttle.sums();
        assert!(requests == 1 && refused <= requests, "{refused} of {requests}");
        for _ in 0..1000 {
            throttle.turns_away(&mut rng, at(134_900));
        }
        let (requests, refused) = throttle.sums();
        assert!(requests == 1001 && refused <= requests, "{refused} of {requests}");
    }
}
