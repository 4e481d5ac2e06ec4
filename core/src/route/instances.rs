//! The instances of one endpoint: membership from discovery, marks and calls in flight from this process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::down;
use crate::route::eligible::{Ask, Candidate, Slate};
use crate::route::labels::Labels;
use crate::route::load::Load;
use crate::route::policy::pick::{NoPick, Pick};
use crate::time::Instant;

/// The instances of one endpoint, each with a payload (its address, its record). Bounded by what discovery reports.
///
/// Invariant: `candidates` is sorted by id without duplicates and `payloads` runs parallel to it.
#[derive(Clone, Debug)]
pub struct Instances<T> {
    candidates: Vec<Candidate>,
    payloads: Vec<T>,
    config: down::Config,
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
    pub ask: Ask,
    /// The only instances that will do; empty: any.
    pub allow: &'a [InstanceId],
    /// Those it has already been tried on.
    pub avoid: &'a [InstanceId],
    /// The time by which marks are judged.
    pub now: Instant,
}

impl<T> Instances<T> {
    /// No instances yet.
    pub const fn new(config: down::Config) -> Self {
        Self { candidates: Vec::new(), payloads: Vec::new(), config }
    }

    /// Replaces the membership by a full snapshot, in any order; of two entries with one id the later wins. An instance that
    /// stays keeps its mark and its calls in flight: news about others says nothing about it. `gone` hears of each
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

        let old_candidates = core::mem::take(&mut self.candidates);
        let mut old = old_candidates.into_iter().zip(core::mem::take(&mut self.payloads)).peekable();
        for Member { id, labels, payload } in fresh {
            while let Some((left, payload)) = old.next_if(|(candidate, _)| candidate.id < id) {
                gone(left.id, payload);
            }
            let kept = old.next_if(|(candidate, _)| candidate.id == id);
            let kept = kept.map_or(Candidate::new(id), |(candidate, _)| candidate);
            self.candidates.push(Candidate { labels, ..kept });
            self.payloads.push(payload);
        }
        old.for_each(|(left, payload)| gone(left.id, payload));
    }

    /// Takes one instance in, or news of one that is known, which keeps its mark and its calls in flight. What had been kept for
    /// it, if it was known.
    pub fn insert(&mut self, member: impl Into<Member<T>>) -> Option<T> {
        let Member { id, labels, payload } = member.into();
        match self.candidates.binary_search_by_key(&id, |candidate| candidate.id) {
            Ok(index) => {
                if let Some(known) = self.candidates.get_mut(index) {
                    known.labels = labels;
                }
                self.payloads.get_mut(index).map(|known| core::mem::replace(known, payload))
            }
            Err(index) => {
                self.candidates.insert(index, Candidate { labels, ..Candidate::new(id) });
                self.payloads.insert(index, payload);
                None
            }
        }
    }

    /// Lets one go; what was kept for it.
    pub fn remove(&mut self, id: InstanceId) -> Option<T> {
        let index = self.position(id)?;
        self.candidates.remove(index);
        Some(self.payloads.remove(index))
    }

    /// Has `policy` pick one of those that will do.
    ///
    /// # Errors
    /// [`NoPick`] if there is nobody to pick from.
    pub fn pick(&self, policy: &mut impl Pick, wish: Wish<'_>, rng: &mut Rng) -> Result<(&Candidate, &T), NoPick> {
        let Wish { ask, allow, avoid, now } = wish;
        if allow.is_empty() {
            let index = policy.pick(&Slate { ask, candidates: &self.candidates, avoid, now }, rng)?;
            return self.at(index).ok_or(NoPick::Empty);
        }
        // A policy that never sees the others need not know that there are any.
        let candidates: Vec<Candidate> =
            self.candidates.iter().filter(|candidate| allow.contains(&candidate.id)).cloned().collect();
        let index = policy.pick(&Slate { ask, candidates: &candidates, avoid, now }, rng)?;
        candidates.get(index).and_then(|candidate| self.get(candidate.id)).ok_or(NoPick::Empty)
    }

    /// A call is sent to `id`. If the instance is suspected this call is its probe.
    pub fn began(&mut self, id: InstanceId, now: Instant) {
        let config = self.config;
        if let Some(candidate) = self.find_mut(id) {
            candidate.in_flight = candidate.in_flight.saturating_add(1);
            if candidate.down.began(now, &config) {
                debug!(instance = %id, "probing");
            }
        }
    }

    /// A call sent to `id` is over, however. Calls of an instance that left and came back are no longer counted.
    pub fn ended(&mut self, id: InstanceId) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.in_flight = candidate.in_flight.saturating_sub(1);
        }
    }

    /// The instance answered: whatever was suspected is forgotten. Returns whether something was.
    pub fn succeeded(&mut self, id: InstanceId) -> bool {
        self.find_mut(id).is_some_and(|candidate| candidate.down.succeeded())
    }

    /// The instance could not be dialed, dropped its connection, stayed silent or does not serve what it is known for.
    pub fn struck(&mut self, id: InstanceId, now: Instant) {
        let config = self.config;
        if let Some(candidate) = self.find_mut(id)
            && candidate.down.struck(now, &config)
        {
            debug!(instance = %id, until = ?candidate.down.until(), "marked down");
        }
    }

    /// The instance's worker has reported its load.
    pub fn reported(&mut self, id: InstanceId, load: Arc<Load>) {
        if let Some(candidate) = self.find_mut(id) {
            candidate.load = Some(load);
        }
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

    #[test]
    fn an_update_keeps_marks_and_load_of_those_who_stay_and_names_those_who_left() {
        let mut instances = Instances::new(down::Config::default());
        instances.update(snapshot(&[3, 1, 2]), |_, _| panic!("nobody left"));
        instances.began(InstanceId(2), Instant::ZERO);
        instances.struck(InstanceId(2), Instant::ZERO);
        let mut left = vec![];
        instances.update(snapshot(&[4, 2]), |id, payload| left.push((id, payload)));
        assert_eq!(left, snapshot(&[1, 3]));
        let (kept, payload) = instances.get(InstanceId(2)).unwrap();
        assert_eq!((kept.in_flight, *payload, kept.down.is_down(Instant::ZERO)), (1, 20, true));
        assert_eq!(instances.get(InstanceId(4)).unwrap().0, &Candidate::new(InstanceId(4)));
    }

    #[test]
    fn a_report_is_kept_until_the_next_one_and_goes_with_its_instance() {
        let mut instances = Instances::new(down::Config::default());
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
        let mut instances = Instances::new(down::Config::default());
        instances.update([(InstanceId(1), "old"), (InstanceId(1), "new")], |_, _| panic!("nobody left"));
        assert_eq!(instances.get(InstanceId(1)).map(|(_, payload)| *payload), Some("new"));
        assert_eq!(instances.len(), 1);
    }

    #[test]
    fn a_mark_ends_by_itself_and_a_success_ends_it_at_once() {
        let mut instances = Instances::new(down::Config::default());
        instances.update(snapshot(&[1]), |_, _| {});
        instances.struck(InstanceId(1), Instant::ZERO);
        let down = |instances: &Instances<u64>, seconds| {
            instances.candidates()[0].down.is_down(Instant::ZERO + Duration::from_secs(seconds))
        };
        assert!(down(&instances, 0) && !down(&instances, 1));
        instances.succeeded(InstanceId(1));
        assert!(!down(&instances, 0));
    }

    #[test]
    fn words_about_strangers_are_ignored() {
        let mut instances = Instances::new(down::Config::default());
        instances.update(snapshot(&[1]), |_, _| {});
        for id in [InstanceId(0), InstanceId(2)] {
            instances.began(id, Instant::ZERO);
            instances.ended(id);
            instances.succeeded(id);
            instances.struck(id, Instant::ZERO);
        }
        instances.ended(InstanceId(1));
        assert_eq!(instances.candidates(), [Candidate::new(InstanceId(1))]);
    }

    #[test]
    fn random_snapshots_and_calls_agree_with_a_map() {
        let seed = 23;
        let mut rng = Rng::new(seed);
        let mut instances = Instances::new(down::Config::default());
        let mut model: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
        for step in 0..2000 {
            let id = rng.below(12);
            match rng.below(4) {
                0 => {
                    let ids: BTreeMap<u64, u64> = (0..rng.below(12)).map(|_| (rng.below(12), step)).collect();
                    let mut left = vec![];
                    let news = ids.iter().rev().map(|(id, payload)| (InstanceId(*id), *payload));
                    instances.update(news, |id, payload| left.push((id.0, payload)));
                    let expected = model.iter().filter(|(id, _)| !ids.contains_key(id)).map(|(id, old)| (*id, old.0));
                    assert_eq!(left, expected.collect::<Vec<_>>(), "seed {seed} step {step}");
                    let in_flight = |id: &u64| model.get(id).map_or(0, |(_, calls)| *calls);
                    model = ids.iter().map(|(id, payload)| (*id, (*payload, in_flight(id)))).collect();
                }
                1 if rng.below(2) == 0 => {
                    let in_flight = model.get(&id).map_or(0, |(_, calls)| *calls);
                    let before = model.insert(id, (step, in_flight)).map(|(payload, _)| payload);
                    assert_eq!(instances.insert((InstanceId(id), step)), before, "seed {seed} step {step}");
                }
                2 => {
                    let before = model.remove(&id).map(|(payload, _)| payload);
                    assert_eq!(instances.remove(InstanceId(id)), before, "seed {seed} step {step}");
                }
                1 => {
                    instances.ended(InstanceId(id));
                    model.entry(id).and_modify(|(_, calls)| *calls = calls.saturating_sub(1));
                }
                _ => {
                    instances.began(InstanceId(id), Instant::ZERO);
                    model.entry(id).and_modify(|(_, calls)| *calls += 1);
                }
            }
            let seen = (0..instances.len()).filter_map(|index| instances.at(index));
            let seen = seen.map(|(candidate, payload)| (candidate.id.0, (*payload, candidate.in_flight)));
            assert!(seen.eq(model.clone()), "seed {seed} step {step}");
        }
    }

    #[test]
    fn a_call_goes_to_those_that_will_do_and_to_nobody_else() {
        let mut instances = Instances::new(down::Config::default());
        instances.update(snapshot(&[1, 2, 3, 4]), |_, _| {});
        instances.struck(InstanceId(3), Instant::ZERO);
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
        let mut instances = Instances::new(down::Config::default());
        instances.update(snapshot(&[1, 2]), |_, _| {});
        instances.began(InstanceId(2), Instant::ZERO);
        let labels = Labels::new([(Labels::DEVICE, "cuda")]);
        assert_eq!(instances.insert(Member { id: InstanceId(2), labels: labels.clone(), payload: 5 }), Some(20));
        let news = Candidate { in_flight: 1, labels, ..Candidate::new(InstanceId(2)) };
        assert_eq!(instances.candidates(), [Candidate::new(InstanceId(1)), news]);
    }
}
