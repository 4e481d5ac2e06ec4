//! The instances of one endpoint: membership from discovery, health and calls in flight from this process.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::census::{Sizes, Stats};
use crate::route::eligible::{Ask, Candidate, Slate};
use crate::route::health::{Outcome, Probe, Why};
use crate::route::labels::Labels;
use crate::route::load::Load;
use crate::route::policy::pick::{NoPick, Pick};
use crate::route::rules::Config;
use crate::time::Instant;

/// The instances of one endpoint, each with a payload (its address, its record). Bounded by what discovery reports.
///
/// Invariant: `candidates` is sorted by id without duplicates; `payloads` and `tallies` run parallel to it.
#[derive(Clone, Debug)]
pub struct Instances<T> {
    candidates: Vec<Candidate>,
    payloads: Vec<T>,
    /// Apart from the candidates: no policy looks at them.
    tallies: Vec<Tally>,
    config: Config,
    /// How many have no capacity for a weight, or a weight of their own.
    unlike: usize,
    /// Whether weights are capacities.
    by_capacity: bool,
    /// When the tallies are compared next; zero before the first outcome.
    compare_at: Instant,
    /// With [`Config::inhibited`]: until when all are out that are.
    inhibited_until: Instant,
    /// Calls under way at instances that have left, for when they come back.
    left: BTreeMap<InstanceId, u32>,
    stats: Stats,
}

/// How tries at an instance ended since the last comparison.
#[derive(Copy, Clone, Default, Debug)]
struct Tally {
    answered: u32,
    lost: u32,
}

impl Tally {
    const fn tries(self) -> u32 {
        self.answered.saturating_add(self.lost)
    }

    /// Those that were not lost, in millionths of all.
    fn share(self) -> u64 {
        (u64::from(self.answered) * 1_000_000).checked_div(u64::from(self.tries())).unwrap_or(1_000_000)
    }
}

/// One instance, as discovery has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member<T> {
    /// Who.
    pub id: InstanceId,
    /// What policies are told of it.
    pub labels: Labels,
    /// What is kept for it.
    pub payload: T,
}

impl<T> From<(InstanceId, T)> for Member<T> {
    /// One without labels.
    fn from((id, payload): (InstanceId, T)) -> Self {
        Self { id, labels: Labels::NONE, payload }
    }
}

/// What one decision is about.
#[derive(Copy, Clone, Debug)]
pub struct Wish<'a> {
    /// What the call asks of its policy.
    pub ask: Ask<'a>,
    /// The only instances that will do; empty: any.
    pub allow: &'a [InstanceId],
    /// Those it has already been tried on.
    pub avoid: &'a [InstanceId],
    /// The time by which marks are judged.
    pub now: Instant,
}

impl<T> Instances<T> {
    /// No instances yet.
    pub const fn new(config: Config) -> Self {
        Self {
            candidates: Vec::new(),
            payloads: Vec::new(),
            tallies: Vec::new(),
            config,
            unlike: 0,
            by_capacity: false,
            compare_at: Instant::ZERO,
            inhibited_until: Instant::ZERO,
            left: BTreeMap::new(),
            stats: Stats::NONE,
        }
    }

    /// Replaces the membership by a full snapshot, in any order; of two entries with one id the later wins. An instance that
    /// stays keeps its health and its calls in flight: news about others says nothing about it. `gone` hears of each
    /// instance that left, in order of ids.
    pub fn update(
        &mut self,
        snapshot: impl IntoIterator<Item = impl Into<Member<T>>>,
        mut gone: impl FnMut(InstanceId, T),
    ) {
        let mut fresh: Vec<Member<T>> = snapshot.into_iter().map(Into::into).collect();
        fresh.reverse();
        fresh.sort_by_key(|member| member.id);
        fresh.dedup_by_key(|member| member.id);

        let (candidates, tallies) = (core::mem::take(&mut self.candidates), core::mem::take(&mut self.tallies));
        let old = candidates.into_iter().zip(tallies).zip(core::mem::take(&mut self.payloads));
        let mut old = old.map(|((candidate, tally), payload)| (candidate, tally, payload)).peekable();
        for Member { id, labels, payload } in fresh {
            while let Some((left, _, payload)) = old.next_if(|(candidate, ..)| candidate.id < id) {
                self.leave(&left);
                gone(left.id, payload);
            }
            let kept = old.next_if(|(candidate, ..)| candidate.id == id);
            let kept = kept.map(|(candidate, tally, _)| (candidate, tally));
            let (mut kept, tally) = kept.unwrap_or_else(|| (self.arrive(id), Tally::default()));
            kept.set_labels(labels);
            self.candidates.push(kept);
            self.tallies.push(tally);
            self.payloads.push(payload);
        }
        old.for_each(|(left, _, payload)| {
            self.leave(&left);
            gone(left.id, payload);
        });
        self.unlike = self.candidates.iter().filter(|one| !one.weighs_by_capacity()).count();
        self.by_capacity = self.unlike == 0;
        let by_capacity = self.by_capacity;
        self.candidates.iter_mut().for_each(|one| one.weigh(by_capacity));
        self.on_membership();
    }

    /// Labels of one have come, or gone. Where every instance says its capacity and none a weight, the one is the other: beside an
    /// instance that says neither, a capacity of thousands would leave it nothing.
    fn on_labels(&mut self, index: usize) {
        let by_capacity = self.unlike == 0;
        if self.by_capacity != by_capacity {
            self.by_capacity = by_capacity;
            self.candidates.iter_mut().for_each(|one| one.weigh(by_capacity));
        } else if let Some(one) = self.candidates.get_mut(index) {
            one.weigh(by_capacity);
        }
    }

    /// One that is new, or comes back: calls that it was sent before still count.
    fn arrive(&mut self, id: InstanceId) -> Candidate {
        Candidate { in_flight: self.left.remove(&id).unwrap_or(0), ..Candidate::new(id) }
    }

    fn leave(&mut self, candidate: &Candidate) {
        if candidate.in_flight > 0 {
            self.left.insert(candidate.id, candidate.in_flight);
        }
    }

    /// Whether calls are under way, at instances that have left too.
    pub fn are_called(&self) -> bool {
        !self.left.is_empty() || self.candidates.iter().any(|one| one.in_flight > 0)
    }

    /// Takes one instance in, or news of one that is known, which keeps its health and its calls in flight. What had been kept
    /// for it, if it was known.
    pub fn insert(&mut self, member: impl Into<Member<T>>) -> Option<T> {
        let Member { id, labels, payload } = member.into();
        match self.candidates.binary_search_by_key(&id, |candidate| candidate.id) {
            Ok(index) => {
                if let Some(known) = self.candidates.get_mut(index) {
                    self.unlike -= usize::from(!known.weighs_by_capacity());
                    known.set_labels(labels);
                    self.unlike += usize::from(!known.weighs_by_capacity());
                }
                self.on_labels(index);
                self.payloads.get_mut(index).map(|known| core::mem::replace(known, payload))
            }
            Err(index) => {
                let mut fresh = self.arrive(id);
                fresh.set_labels(labels);
                self.unlike += usize::from(!fresh.weighs_by_capacity());
                self.candidates.insert(index, fresh);
                self.payloads.insert(index, payload);
                self.tallies.insert(index, Tally::default());
                self.on_labels(index);
                self.on_membership();
                None
            }
        }
    }

    /// Lets one go; what was kept for it.
    pub fn remove(&mut self, id: InstanceId) -> Option<T> {
        let index = self.position(id)?;
        let left = self.candidates.remove(index);
        self.leave(&left);
        self.tallies.remove(index);
        let payload = self.payloads.remove(index);
        self.unlike -= usize::from(!left.weighs_by_capacity());
        self.on_labels(index);
        self.on_membership();
        Some(payload)
    }

    /// Has `policy` pick one of those that will do.
    ///
    /// # Errors
    /// [`NoPick`] if there is nobody to pick from.
    pub fn pick(&self, policy: &mut impl Pick, wish: Wish<'_>, rng: &mut Rng) -> Result<(&Candidate, &T), NoPick> {
        let Wish { ask, allow, avoid, now } = wish;
        let index = policy.pick(&Slate { ask, candidates: &self.candidates, allow, avoid, now }, rng)?;
        self.at(index).ok_or(NoPick::Empty)
    }

    /// A call is sent to `id`. If there is doubt about the instance this call is its probe, to be handed back with what became
    /// of it.
    pub fn began(&mut self, id: InstanceId, now: Instant) -> Option<Probe> {
        let config = self.config;
        let candidate = self.find_mut(id)?;
        candidate.in_flight = candidate.in_flight.saturating_add(1);
        let probe = candidate.health.began(now, &config)?;
        debug!(instance = %id, "probing");
        self.stats.probes += 1;
        Some(probe)
    }

    /// A call sent to `id` is over, however; what was learned by it has been told before.
    pub fn ended(&mut self, id: InstanceId, probe: Option<Probe>, now: Instant) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.in_flight = candidate.in_flight.saturating_sub(1);
            if let Some(probe) = probe {
                candidate.health.ended(probe, now);
            }
        } else if let Entry::Occupied(mut left) = self.left.entry(id) {
            *left.get_mut() = left.get().saturating_sub(1);
            if *left.get() == 0 {
                left.remove();
            }
        }
    }

    /// What became of a try at `id`. Returns whether the instance is back by that.
    pub fn on_outcome(
        &mut self,
        id: InstanceId,
        outcome: Outcome,
        probe: Option<Probe>,
        now: Instant,
        rng: &mut Rng,
    ) -> bool {
        let (Some(index), config) = (self.position(id), self.config) else { return false };
        if self.compare_at <= now {
            self.compare(now, rng);
        }
        let (Some(candidate), Some(tally)) = (self.candidates.get_mut(index), self.tallies.get_mut(index)) else {
            return false;
        };
        let health = &mut candidate.health;
        match outcome {
            Outcome::Answered => {
                tally.answered = tally.answered.saturating_add(1);
                let back = health.answered(probe, now, &config);
                self.stats.readmitted += u64::from(back);
                return back;
            }
            Outcome::Refused { retry_after } => {
                self.stats.leases += u64::from(health.refused(retry_after, now, &config));
                candidate.places.refused(candidate.in_flight.saturating_sub(1), now);
            }
            Outcome::Leaving => self.stats.leaving += u64::from(health.leaving(now, &config)),
            Outcome::Lost | Outcome::Silent => {
                tally.lost = tally.lost.saturating_add(1);
                self.on_loss(index, outcome, now, rng);
            }
            Outcome::Untold => {}
        }
        false
    }

    /// The instance answered a call that was sent so long ago.
    pub fn answered(&mut self, id: InstanceId, took: Duration, now: Instant) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.answered(took, now);
        }
    }

    /// The instance failed a call, or refused it, that was sent so long ago: it counts as slow for the penalty's time.
    pub fn failed(&mut self, id: InstanceId, took: Duration, penalty: Duration, now: Instant) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.failed(took, penalty, now);
        }
    }

    /// A call has gone away that waited so long for an answer of the instance.
    pub fn waited(&mut self, id: InstanceId, elapsed: Duration, now: Instant) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.waited(elapsed, now);
        }
    }

    fn on_loss(&mut self, index: usize, outcome: Outcome, now: Instant, rng: &mut Rng) {
        let config = self.config;
        let Some(Candidate { id, health, .. }) = self.candidates.get_mut(index) else { return };
        if let Some(term) = config.inhibited {
            if !term.is_zero() && !health.is_out(now) {
                if self.inhibited_until <= now {
                    self.inhibited_until = now + term;
                }
                health.inhibit(self.inhibited_until);
                self.stats.suspected += 1;
            }
        } else if config.base.is_zero() {
            // Nobody is ever out.
        } else if outcome == Outcome::Lost {
            if health.lost(now, &config, rng) {
                debug!(instance = %id, until = ?health.avoided_until(), "marked down");
                self.stats.suspected += 1;
                self.calm(now);
            }
        } else if health.silent(now, &config, rng) {
            self.eject(index, Why::Silent, now, rng);
        }
    }

    /// The instance's worker has reported its load.
    pub fn reported(&mut self, id: InstanceId, load: Arc<Load>) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.reported(load);
        }
    }

    /// Ejects an instance, unless the others would be too few.
    fn eject(&mut self, index: usize, why: Why, now: Instant, rng: &mut Rng) {
        let (count, config) = (self.candidates.len(), self.config);
        let ejected = self.candidates.iter().filter(|one| one.health.is_ejected()).count();
        let healthy = self.healthy(now);
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        if candidate.health.is_out(now) {
            return;
        }
        if ejected >= config.most_ejected(count) || config.panics(count, healthy.saturating_sub(1)) {
            candidate.health.spared();
            self.stats.spared += 1;
            return;
        }
        candidate.health.ejected(why, now, &config, rng);
        debug!(instance = %candidate.id, until = ?candidate.health.avoided_until(), why = ?why, "ejected");
        match why {
            Why::Silent => self.stats.ejected_silent += 1,
            Why::Failing => self.stats.ejected_failing += 1,
        }
    }

    /// So few may be in health that judgements are not to be trusted: those that rest on facts stay out.
    fn calm(&mut self, now: Instant) {
        if self.config.panics(self.candidates.len(), self.healthy(now)) {
            let lifted = self.candidates.iter_mut().filter_map(|one| one.health.lift(now).then_some(())).count();
            self.stats.panics += u64::from(lifted > 0);
        }
    }

    fn healthy(&self, now: Instant) -> usize {
        self.candidates.iter().filter(|one| !one.health.is_out(now)).count()
    }

    /// Ejects those that lost far more of their calls than the others did, and begins a new interval.
    fn compare(&mut self, now: Instant, rng: &mut Rng) {
        let config = self.config;
        let first = core::mem::replace(&mut self.compare_at, now + config.interval) == Instant::ZERO;
        if first || config.interval.is_zero() || config.inhibited.is_some() || config.base.is_zero() {
            return;
        }
        let least = config.min_tries.max(1);
        let tried = self.tallies.iter().filter(|tally| tally.tries() >= least).map(|tally| tally.share());
        if let Some(threshold) = config.threshold(tried) {
            for index in 0..self.tallies.len() {
                if self.tallies.get(index).is_some_and(|tally| tally.tries() >= least && tally.share() < threshold) {
                    self.eject(index, Why::Failing, now, rng);
                }
            }
        }
        self.tallies.fill(Tally::default());
    }

    /// Some instance joined or left: nothing is learned of the others by that, but for Dynamo's rule.
    fn on_membership(&mut self) {
        if self.config.inhibited.is_some() {
            self.inhibited_until = Instant::ZERO;
            self.candidates.iter_mut().for_each(|one| one.health.forgive());
        }
    }

    /// What has been counted.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How many there are in which state.
    pub fn sizes(&self, now: Instant) -> Sizes {
        let mut sizes = Sizes::default();
        self.candidates.iter().for_each(|one| sizes.count(one.health.state(now).0));
        sizes
    }

    /// What the application knows of an instance, for so long. Whether it is kept: see [`Candidate::set_fact`].
    pub fn set_fact(&mut self, id: InstanceId, name: &str, value: i64, lasting: Duration, now: Instant) -> bool {
        self.find_mut(id).is_some_and(|candidate| candidate.set_fact(name, value, lasting, now))
    }

    /// Tries that an instance has lost in this interval.
    #[cfg(test)]
    pub(crate) fn lost(&self, id: InstanceId) -> u32 {
        self.position(id).and_then(|index| self.tallies.get(index)).map_or(0, |tally| tally.lost)
    }

    /// Every instance in order of ids: what a policy picks from.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The candidate and the payload at an index a policy returned.
    pub fn at(&self, index: usize) -> Option<(&Candidate, &T)> {
        self.candidates.get(index).zip(self.payloads.get(index))
    }

    /// The candidate and the payload of an instance.
    pub fn get(&self, id: InstanceId) -> Option<(&Candidate, &T)> {
        self.at(self.position(id)?)
    }

    /// How many instances there are.
    pub const fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether there is no instance.
    pub const fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    fn position(&self, id: InstanceId) -> Option<usize> {
        self.candidates.binary_search_by_key(&id, |candidate| candidate.id).ok()
    }

    fn find_mut(&mut self, id: InstanceId) -> Option<&mut Candidate> {
        self.position(id).and_then(|index| self.candidates.get_mut(index))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::time::Duration;
    use std::collections::BTreeMap;

    use super::*;
    use crate::route::policy::any::AnyPolicy;
    use crate::route::policy::direct::Direct;

    fn snapshot(ids: &[u64]) -> Vec<(InstanceId, u64)> {
        ids.iter().map(|id| (InstanceId(*id), id * 10)).collect()
    }

    fn told(instances: &mut Instances<u64>, id: u64, outcome: Outcome) -> bool {
        instances.on_outcome(InstanceId(id), outcome, None, Instant::ZERO, &mut Rng::new(1))
    }

    #[test]
    fn an_update_keeps_marks_and_load_of_those_who_stay_and_names_those_who_left() {
        let mut instances = Instances::new(Config::default());
        instances.update(snapshot(&[3, 1, 2]), |_, _| panic!("nobody left"));
        instances.began(InstanceId(2), Instant::ZERO);
        told(&mut instances, 2, Outcome::Lost);
        let mut left = vec![];
        instances.update(snapshot(&[4, 2]), |id, payload| left.push((id, payload)));
        assert_eq!(left, snapshot(&[1, 3]));
        let (kept, payload) = instances.get(InstanceId(2)).unwrap();
        assert_eq!((kept.in_flight, *payload, kept.health.is_down(Instant::ZERO)), (1, 20, true));
        assert_eq!(instances.get(InstanceId(4)).unwrap().0, &Candidate::new(InstanceId(4)));
    }

    #[test]
    fn a_report_is_kept_until_the_next_one_and_goes_with_its_instance() {
        let mut instances = Instances::new(Config::default());
        instances.update(snapshot(&[1, 2]), |_, _| {});
        let load = |running| Arc::new(Load { running, capacity: 8, at: Instant::from_nanos(5), ..Load::default() });
        let known = |instances: &Instances<u64>, id| {
            instances.get(InstanceId(id)).and_then(|(one, _)| one.load.as_ref()).map(|load| load.running)
        };
        for running in [3, 4] {
            instances.reported(InstanceId(1), load(running));
        }
        instances.reported(InstanceId(9), load(1));
        instances.update(snapshot(&[1, 2]), |_, _| {});
        assert_eq!((known(&instances, 1), known(&instances, 2)), (Some(4), None));
        instances.remove(InstanceId(1));
        instances.insert((InstanceId(1), 10));
        assert_eq!(known(&instances, 1), None, "what left and came back is not known");
    }

    #[test]
    fn of_two_entries_with_one_id_the_later_wins() {
        let mut instances = Instances::new(Config::default());
        instances.update([(InstanceId(1), "old"), (InstanceId(1), "new")], |_, _| panic!("nobody left"));
        assert_eq!(instances.get(InstanceId(1)).map(|(_, payload)| *payload), Some("new"));
        assert_eq!(instances.len(), 1);
    }

    #[test]
    fn a_mark_ends_by_itself_and_a_success_ends_it_at_once() {
        let mut instances = Instances::new(Config::default());
        instances.update(snapshot(&[1]), |_, _| {});
        told(&mut instances, 1, Outcome::Lost);
        let down = |instances: &Instances<u64>, seconds| {
            instances.candidates()[0].health.is_down(Instant::ZERO + Duration::from_secs(seconds))
        };
        assert!(down(&instances, 0) && !down(&instances, 2));
        assert!(told(&mut instances, 1, Outcome::Answered));
        assert!(!down(&instances, 0));
    }

    #[test]
    fn capacities_are_weights_as_long_as_every_instance_says_its_own_and_none_a_weight() {
        let member = |id, labels: &[(&str, &str)]| {
            let labels = Labels::new(labels.iter().map(|(name, value)| (*name, *value)));
            Member { id: InstanceId(id), labels, payload: 0u64 }
        };
        let weights =
            |instances: &Instances<u64>| -> Vec<u16> { instances.candidates().iter().map(|one| one.weight).collect() };
        let mut instances = Instances::new(Config::default());
        instances.update([member(1, &[("capacity", "8")]), member(2, &[("capacity", "70000")])], |_, _| {});
        assert_eq!(weights(&instances), [8, 65_535]);
        assert_eq!(instances.candidates()[0].figure("capacity", Instant::ZERO), Some(8));
        instances.insert(member(3, &[]));
        assert_eq!(weights(&instances), [1, 1, 1], "one says nothing");
        instances.insert(member(3, &[("capacity", "4"), ("weight", "2")]));
        assert_eq!(weights(&instances), [1, 1, 2], "one has a weight");
        instances.insert(member(3, &[("capacity", "4")]));
        assert_eq!(weights(&instances), [8, 65_535, 4]);
        instances.insert(member(3, &[]));
        instances.remove(InstanceId(3));
        assert_eq!(weights(&instances), [8, 65_535]);
        instances.insert(member(1, &[("capacity", "9")]));
        assert_eq!(weights(&instances), [9, 65_535]);
    }

    #[test]
    fn words_about_strangers_are_ignored() {
        let mut instances = Instances::new(Config::default());
        instances.update(snapshot(&[1]), |_, _| {});
        for id in [InstanceId(0), InstanceId(2)] {
            assert_eq!(instances.began(id, Instant::ZERO), None);
            instances.ended(id, None, Instant::ZERO);
            for outcome in [Outcome::Answered, Outcome::Lost, Outcome::Silent] {
                assert!(!told(&mut instances, id.0, outcome));
            }
        }
        instances.ended(InstanceId(1), None, Instant::ZERO);
        assert_eq!(instances.candidates(), [Candidate::new(InstanceId(1))]);
    }

    #[test]
    fn random_snapshots_and_calls_agree_with_a_map() {
        let seed = 23;
        let mut rng = Rng::new(seed);
        let mut instances = Instances::new(Config::default());
        // What is kept for each, and calls under way at each, whether it is there or has left.
        let (mut model, mut calls) = (BTreeMap::<u64, u64>::new(), [0u32; 12]);
        for step in 0..2000 {
            let id = rng.below(12);
            match rng.below(4) {
                0 => {
                    let ids: BTreeMap<u64, u64> = (0..rng.below(12)).map(|_| (rng.below(12), step)).collect();
                    let mut left = vec![];
                    let news = ids.iter().rev().map(|(id, payload)| (InstanceId(*id), *payload));
                    instances.update(news, |id, payload| left.push((id.0, payload)));
                    let expected = model.iter().filter(|(id, _)| !ids.contains_key(id)).map(|(id, old)| (*id, *old));
                    assert_eq!(left, expected.collect::<Vec<_>>(), "seed {seed} step {step}");
                    model = ids;
                }
                1 if rng.below(2) == 0 => {
                    let before = model.insert(id, step);
                    assert_eq!(instances.insert((InstanceId(id), step)), before, "seed {seed} step {step}");
                }
                2 => {
                    assert_eq!(instances.remove(InstanceId(id)), model.remove(&id), "seed {seed} step {step}");
                }
                1 => {
                    instances.ended(InstanceId(id), None, Instant::ZERO);
                    calls[id as usize] = calls[id as usize].saturating_sub(1);
                }
                _ => {
                    instances.began(InstanceId(id), Instant::ZERO);
                    calls[id as usize] += u32::from(model.contains_key(&id));
                }
            }
            let seen = (0..instances.len()).filter_map(|index| instances.at(index));
            let seen = seen.map(|(candidate, payload)| (candidate.id.0, (*payload, candidate.in_flight)));
            let expected = model.iter().map(|(id, payload)| (*id, (*payload, calls[*id as usize])));
            assert!(seen.eq(expected), "seed {seed} step {step}");
            assert_eq!(instances.are_called(), calls.iter().any(|calls| *calls > 0), "seed {seed} step {step}");
        }
    }

    #[test]
    fn a_call_goes_to_those_that_will_do_and_to_nobody_else() {
        let mut instances = Instances::new(Config::default());
        instances.update(snapshot(&[1, 2, 3, 4]), |_, _| {});
        told(&mut instances, 3, Outcome::Lost);
        let mut rng = Rng::new(7);
        let mut picks = |policy: &mut AnyPolicy, allow: &[InstanceId]| -> Vec<u64> {
            let wish = Wish { ask: Ask::default(), allow, avoid: &[], now: Instant::ZERO };
            let mut ids: Vec<u64> =
                (0..50).flat_map(|_| instances.pick(policy, wish, &mut rng).map(|(one, _)| one.id.0)).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let mut policy = AnyPolicy::default();
        assert_eq!(picks(&mut policy, &[]), [1, 2, 4]);
        assert_eq!(picks(&mut policy, &[4, 2, 9].map(InstanceId)), [2, 4]);
        assert_eq!(picks(&mut policy, &[3].map(InstanceId)), [3], "suspicion turns nobody away");
        assert_eq!(picks(&mut policy, &[9].map(InstanceId)), [0; 0]);
        assert_eq!(picks(&mut AnyPolicy::Direct(Direct(InstanceId(1))), &[2].map(InstanceId)), [0; 0]);
    }

    #[test]
    fn news_of_one_instance_changes_what_policies_see_of_it_and_nothing_else() {
        let mut instances = Instances::new(Config::default());
        instances.update(snapshot(&[1, 2]), |_, _| {});
        instances.began(InstanceId(2), Instant::ZERO);
        let labels = Labels::new([(Labels::DEVICE, "cuda")]);
        assert_eq!(instances.insert(Member { id: InstanceId(2), labels: labels.clone(), payload: 5 }), Some(20));
        let news = Candidate { in_flight: 1, labels, ..Candidate::new(InstanceId(2)) };
        assert_eq!(instances.candidates(), [Candidate::new(InstanceId(1)), news]);
    }
}
