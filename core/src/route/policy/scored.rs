//! Filters, scorers and a choice, put together to a policy.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible};
use crate::route::policy::pick::{News, Pick};
use crate::time::Instant;

/// The best score there is.
pub const BEST: u32 = 1_000;

/// Where a call must not go.
pub trait Filter {
    /// A decision begins: for what is the same for all candidates of it. Called with one group after the other, the best first, until
    /// one is picked, and last with all that the call may go to, for the last resort.
    fn begin(&mut self, _ask: &Ask<'_>, _eligible: &Eligible<'_>) {}

    /// Whether the call may go to this one.
    fn keeps(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool;
}

/// Where a call had better go.
pub trait Score {
    /// A decision begins: for what is the same for all candidates of it, such as a look into an index.
    fn begin(&mut self, _ask: &Ask<'_>, _eligible: &Eligible<'_>) {}

    /// How well the call would fare at this one: 0 to [`BEST`]; what is above counts as that.
    fn score(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> u32;

    /// What became of a call, or of an instance: for a scorer's own books.
    fn handle_news(&mut self, _ask: &Ask<'_>, _instance: InstanceId, _news: News, _now: Instant) {}
}

/// How one is chosen of those that filters have left, by their scores.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum Choice {
    /// The best score, among several by chance.
    #[default]
    Best,
    /// The better of two drawn by chance, the first of them if both are as good: only those two are scored.
    BetterOfTwo,
    /// By chance, each as likely as its share of all scores.
    Share,
}

/// A policy of parts: filters say where a call must not go, scorers with weights where it had better go, and a choice picks by the
/// sum of `weight * score`. Without scorers all score alike. If filters leave none of all instances the call fails at once, with
/// [`NoPick::Filtered`](crate::route::policy::pick::NoPick). Memory for the decisions is kept: once it has seen as many
/// instances a decision allocates nothing.
///
/// ```
/// use ringplane_core::route::eligible::{Ask, Candidate};
/// use ringplane_core::route::policy::{Custom, Scored};
/// use ringplane_core::route::policy::scored::{Filter, Score, BEST};
/// use ringplane_core::route::policy::scorers::FewCalls;
/// use ringplane_core::time::Instant;
///
/// struct Tenants;
///
/// impl Filter for Tenants {
///     fn keeps(&self, ask: &Ask<'_>, candidate: &Candidate, _: Instant) -> bool {
///         let tenant = ask.attributes.and_then(|attributes| attributes.get("tenant"));
///         candidate.labels.get("tenant").is_none_or(|owner| Some(owner) == tenant)
///     }
/// }
///
/// struct Near;
///
/// impl Score for Near {
///     fn score(&self, _: &Ask<'_>, candidate: &Candidate, _: Instant) -> u32 {
///         if candidate.labels.get("zone") == Some("a") { BEST } else { 0 }
///     }
/// }
///
/// let policy = Custom::new(|| Scored::new().filter(Tenants).score(1, Near).score(3, FewCalls));
/// # let _ = policy;
/// ```
#[derive(Default)]
pub struct Scored {
    filters: Vec<Box<dyn Filter + Send + Sync>>,
    scorers: Vec<(u32, Box<dyn Score + Send + Sync>)>,
    choice: Choice,
    /// The indices that filters have left in this decision, and their scores.
    kept: Vec<(usize, u64)>,
}

impl Scored {
    /// No filter, no scorer, and the best choice: any instance, by chance.
    pub fn new() -> Self {
        Self::default()
    }

    /// One filter more: all of them have to keep an instance.
    #[must_use]
    pub fn filter(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        self.filters.push(Box::new(filter));
        self
    }

    /// One scorer more, whose word has this weight beside those of the others.
    #[must_use]
    pub fn score(mut self, weight: u32, scorer: impl Score + Send + Sync + 'static) -> Self {
        self.scorers.push((weight, Box::new(scorer)));
        self
    }

    /// Another way to choose.
    #[must_use]
    pub const fn choice(mut self, choice: Choice) -> Self {
        self.choice = choice;
        self
    }

    fn total(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> u64 {
        let scores = self
            .scorers
            .iter()
            .map(|(weight, scorer)| u64::from(*weight) * u64::from(scorer.score(ask, candidate, now).min(BEST)));
        scores.fold(0, u64::saturating_add)
    }

    /// Draws one of those that are left, each as likely as its score.
    fn by_share(&self, rng: &mut Rng) -> Option<usize> {
        let total = self.kept.iter().fold(0u64, |sum, (_, score)| sum.saturating_add(*score));
        let mut left = rng.below(total);
        for (index, score) in &self.kept {
            match left.checked_sub(*score) {
                Some(rest) => left = rest,
                None => return Some(*index),
            }
        }
        // All scores are nothing.
        self.kept.get(rng.below(self.kept.len() as u64) as usize).map(|(index, _)| *index)
    }

    /// The best of those that are left, among several by chance.
    fn best(&self, rng: &mut Rng) -> Option<usize> {
        let best = self.kept.iter().map(|(_, score)| *score).max()?;
        let those = || self.kept.iter().filter(|(_, score)| *score == best);
        let chosen = rng.below(those().count() as u64);
        those().nth(chosen as usize).map(|(index, _)| *index)
    }
}

impl Pick for Scored {
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let now = eligible.now();
        self.begin(ask, eligible);
        self.scorers.iter_mut().for_each(|(_, scorer)| scorer.begin(ask, eligible));
        let mut kept = core::mem::take(&mut self.kept);
        kept.clear();
        let allowed = eligible.iter().filter(|(_, candidate)| self.allows(ask, candidate, now));
        match self.choice {
            Choice::BetterOfTwo => kept.extend(allowed.map(|(index, _)| (index, 0))),
            Choice::Best | Choice::Share => {
                kept.extend(allowed.map(|(index, candidate)| (index, self.total(ask, candidate, now))));
            }
        }
        self.kept = kept;
        match self.choice {
            Choice::Best => self.best(rng),
            Choice::Share => self.by_share(rng),
            Choice::BetterOfTwo => {
                let count = self.kept.len() as u64;
                let first = rng.below(count);
                let second = if count > 1 { (first + 1 + rng.below(count - 1)) % count } else { first };
                let drawn = [first, second].map(|place| self.kept.get(place as usize).map(|(index, _)| *index));
                let score = |index: Option<usize>| {
                    index.and_then(|index| eligible.at(index)).map(|candidate| self.total(ask, candidate, now))
                };
                let [first, second] = drawn;
                if score(first) >= score(second) { first } else { second }
            }
        }
    }

    fn begin(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>) {
        self.filters.iter_mut().for_each(|filter| filter.begin(ask, eligible));
    }

    fn allows(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        self.filters.iter().all(|filter| filter.keeps(ask, candidate, now))
    }

    fn handle_news(&mut self, ask: &Ask<'_>, instance: InstanceId, news: News, now: Instant) {
        self.scorers.iter_mut().for_each(|(_, scorer)| scorer.handle_news(ask, instance, news, now));
    }
}

impl fmt::Debug for Scored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filters, scorers) = (self.filters.len(), self.scorers.len());
        f.debug_struct("Scored").field("filters", &filters).field("scorers", &scorers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::eligible::Slate;
    use crate::route::policy::pick::NoPick;
    use crate::route::rules::Config;

    /// Keeps odd ids.
    struct Odd;

    impl Filter for Odd {
        fn keeps(&self, _: &Ask<'_>, candidate: &Candidate, _: Instant) -> bool {
            candidate.id.0 % 2 == 1
        }
    }

    /// A score for each id.
    struct Fixed([u32; 6]);

    impl Score for Fixed {
        fn score(&self, _: &Ask<'_>, candidate: &Candidate, _: Instant) -> u32 {
            self.0[candidate.id.0 as usize]
        }
    }

    /// How often each of six is picked in 6,000 tries.
    fn picks(mut policy: Scored) -> [u32; 6] {
        let candidates = [0, 1, 2, 3, 4, 5].map(|id| Candidate::new(InstanceId(id)));
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        let (mut picks, mut rng) = ([0; 6], Rng::new(9));
        (0..6_000).for_each(|_| picks[policy.pick(&slate, &mut rng).unwrap()] += 1);
        picks
    }

    fn near(picks: [u32; 6], expected: [u32; 6]) -> bool {
        picks.iter().zip(expected).all(|(picked, expected)| picked.abs_diff(expected) <= 200)
    }

    #[test]
    fn the_best_of_those_that_filters_leave_is_picked() {
        let scores = Fixed([900, 100, 900, 300, 900, 300]);
        assert!(near(picks(Scored::new().filter(Odd).score(1, scores)), [0, 0, 0, 3_000, 0, 3_000]));
        assert!(near(picks(Scored::new().filter(Odd)), [0, 2_000, 0, 2_000, 0, 2_000]));
        assert!(near(picks(Scored::new()), [1_000; 6]));
    }

    #[test]
    fn weights_say_whose_word_counts_and_no_word_counts_for_more_than_the_best() {
        let (first, second) = (|| Fixed([u32::MAX, 0, 0, 0, 0, 0]), || Fixed([0, 600, 0, 0, 0, 0]));
        assert_eq!(picks(Scored::new().score(1, first()).score(1, second()))[0], 6_000);
        assert_eq!(picks(Scored::new().score(1, first()).score(2, second()))[1], 6_000);
    }

    #[test]
    fn two_are_compared_or_all_share() {
        let scores = || Fixed([0, 100, 200, 300, 400, 500]);
        let two = picks(Scored::new().score(1, scores()).choice(Choice::BetterOfTwo));
        assert!(near(two, [0, 400, 800, 1_200, 1_600, 2_000]), "{two:?}");
        let share = picks(Scored::new().score(1, scores()).choice(Choice::Share));
        assert!(near(share, [0, 400, 800, 1_200, 1_600, 2_000]), "{share:?}");
        let nothing = picks(Scored::new().score(1, Fixed([0; 6])).choice(Choice::Share));
        assert!(near(nothing, [1_000; 6]), "{nothing:?}");
        let odd = picks(Scored::new().filter(Odd).choice(Choice::BetterOfTwo));
        assert!(near(odd, [0, 2_000, 0, 2_000, 0, 2_000]), "{odd:?}");
    }

    #[test]
    fn a_filter_holds_also_when_no_other_is_left() {
        let mut candidates = [1, 2].map(|id| Candidate::new(InstanceId(id)));
        candidates[0].health.lost(Instant::ZERO, &Config::default(), &mut Rng::new(1));
        let (mut policy, mut rng) = (Scored::new().filter(Odd), Rng::new(1));
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now: Instant::ZERO };
        assert_eq!(policy.pick(&slate, &mut rng), Ok(0), "the one that is down, not the one that is ruled out");
        let even = Slate { candidates: &candidates[1..], ..slate };
        assert_eq!(policy.pick(&even, &mut rng), Err(NoPick::Filtered));
        assert_eq!(policy.pick(&Slate { candidates: &[], ..slate }, &mut rng), Err(NoPick::Empty));
    }
}
