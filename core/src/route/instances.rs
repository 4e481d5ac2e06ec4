//! The instances of one endpoint: membership from discovery, marks and load from this process.

use alloc::vec::Vec;

use crate::id::InstanceId;
use crate::route::down;
use crate::route::policy::pick::Candidate;
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

impl<T> Instances<T> {
    /// No instances yet.
    pub const fn new(config: down::Config) -> Self {
        Self { candidates: Vec::new(), payloads: Vec::new(), config }
    }

    /// Replaces the membership by a full snapshot, in any order; of two entries with one id the later wins. An instance that
    /// stays keeps its mark and its calls in flight: news about others says nothing about it. `gone` hears of each
    /// instance that left, in order of ids.
    pub fn update(&mut self, snapshot: impl IntoIterator<Item = (InstanceId, T)>, mut gone: impl FnMut(InstanceId, T)) {
        let mut fresh: Vec<_> = snapshot.into_iter().collect();
        fresh.reverse();
        fresh.sort_by_key(|(id, _)| *id);
        fresh.dedup_by_key(|(id, _)| *id);

        let old_candidates = core::mem::take(&mut self.candidates);
        let mut old = old_candidates.into_iter().zip(core::mem::take(&mut self.payloads)).peekable();
        for (id, payload) in fresh {
            while let Some((left, payload)) = old.next_if(|(candidate, _)| candidate.id < id) {
                gone(left.id, payload);
            }
            let kept = old.next_if(|(candidate, _)| candidate.id == id);
            self.candidates.push(kept.map_or(Candidate::new(id), |(candidate, _)| candidate));
            self.payloads.push(payload);
        }
        old.for_each(|(left, payload)| gone(left.id, payload));
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

    /// The instance could not be dialed, dropped its connection or stayed silent.
    pub fn struck(&mut self, id: InstanceId, now: Instant) {
        let config = self.config;
        if let Some(candidate) = self.find_mut(id)
            && candidate.down.struck(now, &config)
        {
            debug!(instance = %id, until = ?candidate.down.until(), "marked down");
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
    use crate::rng::Rng;

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
}
