//! Keys that stay with the instance that had them first.

use core::mem;
use core::time::Duration;

use hashbrown::HashMap;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Eligible, Group, Slate};
use crate::route::policy::pick::{News, NoPick, Pick};
use crate::time::Instant;

/// How long keys are remembered, and what happens when their instance cannot be had.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// A key that no call has used for so long is forgotten. Default 30 min.
    pub idle: Duration,
    /// Keys that are remembered at once; beyond, those that were not used for longest are forgotten. Default 65,536; at least
    /// 2.
    pub max_keys: usize,
    /// What a call does whose instance cannot be had. Default soft.
    pub bond: Bond,
}

impl Default for Config {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30 * 60), max_keys: 65_536, bond: Bond::Soft }
    }
}

/// What a call does whose key's instance cannot be had.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum Bond {
    /// It goes to another one, where its key stays from then on: the instance is gone, is down, or has failed this call.
    #[default]
    Soft,
    /// It goes to its instance even if that is down, and fails if that is gone:
    /// [`NoPick::Absent`], until its key has been idle for long enough.
    Hard,
}

/// Picks by [`Ask::affinity`]: the instance that the key's last call went to; for a new key, and for calls without one, what the
/// policy inside picks. The table belongs to one endpoint of one core: callers, and cores, that must agree without a word use
/// [`RingHash`](crate::route::policy::ring_hash::RingHash).
#[derive(Clone, Debug)]
pub struct Sticky<P> {
    config: Config,
    /// Keys used since the last change of generations, at most half of the bound.
    young: HashMap<u64, Home>,
    /// Keys used in the generation before and not since. They go all at once.
    old: HashMap<u64, Home>,
    inner: P,
}

#[derive(Copy, Clone, Debug)]
struct Home {
    id: InstanceId,
    used: Instant,
}

impl<P> Sticky<P> {
    /// Nothing is remembered.
    pub fn new(config: Config, inner: P) -> Self {
        Self { config, young: HashMap::new(), old: HashMap::new(), inner }
    }

    /// How many keys are remembered, those included that have been idle for too long and were not asked for since.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn home(&self, key: u64, now: Instant) -> Option<InstanceId> {
        let home = self.young.get(&key).or_else(|| self.old.get(&key))?;
        (now.since(home.used) < self.config.idle).then_some(home.id)
    }

    fn remember(&mut self, key: u64, id: InstanceId, now: Instant) {
        if !self.young.contains_key(&key) && self.young.len() >= (self.config.max_keys / 2).max(1) {
            self.old = mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, Home { id, used: now });
    }
}

impl<P: Pick> Pick for Sticky<P> {
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, rng: &mut Rng) -> Option<usize> {
        let Some(key) = ask.affinity else { return self.inner.choose(ask, eligible, rng) };
        let home = self.home(key, eligible.now());
        if home.is_some() {
            self.inner.begin(ask, eligible);
        }
        let will_do = |candidate: &Candidate| self.inner.allows(ask, candidate, eligible.now());
        let known = home.and_then(|id| eligible.iter().find(|(_, one)| one.id == id && will_do(one)));
        let (index, candidate) = match known {
            Some(found) => found,
            None => {
                let index = self.inner.choose(ask, eligible, rng)?;
                (index, eligible.at(index)?)
            }
        };
        if !ask.second {
            self.remember(key, candidate.id, eligible.now());
        }
        Some(index)
    }

    fn pick(&mut self, slate: &Slate<'_>, rng: &mut Rng) -> Result<usize, NoPick> {
        if self.config.bond == Bond::Hard
            && let Some(key) = slate.ask.affinity
            && let Some(id) = self.home(key, slate.now)
        {
            let found = slate.candidates.iter().enumerate().find(|(_, candidate)| candidate.id == id);
            let (index, home) = found.filter(|_| slate.allows(id)).ok_or(NoPick::Absent { id })?;
            self.inner.begin(&slate.ask, &Eligible::new(*slate, Group::Last));
            if !self.inner.allows(&slate.ask, home, slate.now) {
                return Err(NoPick::Filtered);
            }
            if !slate.ask.second {
                self.remember(key, id, slate.now);
            }
            return Ok(index);
        }
        self.by_groups(slate, rng)
    }

    fn begin(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>) {
        self.inner.begin(ask, eligible);
    }

    fn allows(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        self.inner.allows(ask, candidate, now)
    }

    fn handle_news(&mut self, ask: &Ask<'_>, instance: InstanceId, news: News, now: Instant) {
        self.inner.handle_news(ask, instance, news, now);
    }
}

/// Whether they keep to the same rules; what they remember does not matter.
impl<P: PartialEq> PartialEq for Sticky<P> {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.inner == other.inner
    }
}

impl<P: Eq> Eq for Sticky<P> {}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::route::policy::round_robin::RoundRobin;
    use crate::route::rules;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Place {
        policy: Sticky<RoundRobin>,
        candidates: Vec<Candidate>,
        rng: Rng,
        now: Instant,
    }

    impl Place {
        fn new(config: Config) -> Self {
            let candidates = (0..4).map(|id| Candidate::new(InstanceId(id))).collect();
            let policy = Sticky::new(config, RoundRobin::new());
            Self { policy, candidates, rng: Rng::new(1), now: Instant::ZERO }
        }

        fn pick(&mut self, affinity: Option<u64>, avoid: &[InstanceId]) -> Result<u64, NoPick> {
            let ask = Ask { affinity, ..Ask::default() };
            let slate = Slate { ask, candidates: &self.candidates, allow: &[], avoid, now: self.now };
            self.policy.pick(&slate, &mut self.rng).map(|index| self.candidates[index].id.0)
        }
    }

    #[test]
    fn a_key_stays_where_it_was_first_and_others_go_round() {
        let mut place = Place::new(Config::default());
        let homes: Vec<_> = (0..8).map(|key| place.pick(Some(key), &[]).unwrap()).collect();
        for (key, home) in (0..8).zip(&homes) {
            assert_eq!(place.pick(Some(key), &[]), Ok(*home));
        }
        let mut others: Vec<_> = (0..4).map(|_| place.pick(None, &[]).unwrap()).collect();
        others.sort_unstable();
        assert_eq!((others, place.policy.len()), (std::vec![0, 1, 2, 3], 8));
    }

    #[test]
    fn a_soft_key_moves_when_its_instance_cannot_be_had_and_stays_there() {
        let mut place = Place::new(Config::default());
        let home = place.pick(Some(7), &[]).unwrap();
        let next = place.pick(Some(7), &[InstanceId(home)]).unwrap();
        assert_ne!(next, home, "it has failed this call");
        assert_eq!(place.pick(Some(7), &[]), Ok(next));
        let now = place.now;
        place.candidates[next as usize].health.lost(now, &rules::Config::default(), &mut Rng::new(1));
        let third = place.pick(Some(7), &[]).unwrap();
        assert_ne!(third, next);
        place.candidates.remove(third as usize);
        assert!(place.pick(Some(7), &[]).is_ok_and(|fourth| fourth != third));
    }

    #[test]
    fn a_hard_key_whose_home_is_not_allowed_is_not_sent_there() {
        let mut place = Place::new(Config { bond: Bond::Hard, ..Config::default() });
        let home = InstanceId(place.pick(Some(7), &[]).unwrap());
        let others: Vec<_> = place.candidates.iter().map(|one| one.id).filter(|id| *id != home).collect();
        let ask = Ask { affinity: Some(7), ..Ask::default() };
        let slate = Slate { ask, candidates: &place.candidates, allow: &others, avoid: &[], now: place.now };
        assert_eq!(place.policy.pick(&slate, &mut place.rng), Err(NoPick::Absent { id: home }));
    }

    #[test]
    fn a_hard_key_goes_nowhere_else() {
        let mut place = Place::new(Config { bond: Bond::Hard, ..Config::default() });
        let home = place.pick(Some(7), &[]).unwrap();
        let now = place.now;
        place.candidates[home as usize].health.lost(now, &rules::Config::default(), &mut Rng::new(1));
        assert_eq!(place.pick(Some(7), &[InstanceId(home)]), Ok(home));
        place.candidates.remove(home as usize);
        assert_eq!(place.pick(Some(7), &[]), Err(NoPick::Absent { id: InstanceId(home) }));
        assert!(place.pick(Some(8), &[]).is_ok());
        place.now = place.now + MINUTE * 30;
        assert!(place.pick(Some(7), &[]).is_ok(), "it is forgotten");
    }

    #[test]
    fn a_second_call_of_a_key_goes_elsewhere_and_leaves_the_key_where_it_is() {
        for (bond, elsewhere) in [(Bond::Soft, true), (Bond::Hard, false)] {
            let mut place = Place::new(Config { bond, ..Config::default() });
            let home = place.pick(Some(7), &[]).unwrap();
            let ask = Ask { affinity: Some(7), second: true, ..Ask::default() };
            let avoid = [InstanceId(home)];
            let slate = Slate { ask, candidates: &place.candidates, allow: &[], avoid: &avoid, now: place.now };
            let index = place.policy.pick(&slate, &mut place.rng).unwrap();
            assert_eq!(place.candidates[index].id != InstanceId(home), elsewhere, "a hard one has nowhere else to go");
            assert_eq!(place.pick(Some(7), &[]), Ok(home));
        }
    }

    #[test]
    fn keys_end_when_idle_and_are_bounded_and_those_in_use_are_kept() {
        let mut place = Place::new(Config { max_keys: 100, ..Config::default() });
        let home = place.pick(Some(7), &[]).unwrap();
        for key in 1000..1500 {
            place.now = place.now + Duration::from_secs(1);
            place.pick(Some(key), &[]).unwrap();
            assert_eq!(place.pick(Some(7), &[]), Ok(home));
            assert!(place.policy.len() <= 100);
        }
        place.now = place.now + MINUTE * 30;
        assert_eq!(place.policy.home(7, place.now), None);
        let mut smallest = Place::new(Config { max_keys: 0, ..Config::default() });
        (0..50).for_each(|key| assert!(smallest.pick(Some(key), &[]).is_ok()));
        assert!(smallest.policy.len() <= 2);
    }
}
