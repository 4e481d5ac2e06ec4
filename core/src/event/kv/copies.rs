//! How many copies of which block an engine holds where.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::event::kv::event::{Removed, Stored, Tier};

/// Bounds on what is remembered of one source.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Hashes, each once per place it lies in. Default 4,194,304.
    pub max_hashes: usize,
    /// Places, at most 65,535. Default 256.
    pub max_places: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_hashes: 4 << 20, max_places: 256 }
    }
}

/// Where copies lie. A hash in two places has two lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    rank: u32,
    tier: Tier,
    group: Option<u32>,
    locality: Option<String>,
    ownership: Option<String>,
}

impl Place {
    pub(super) fn of_stored(rank: u32, tier: Tier, event: &Stored) -> Self {
        let Stored { group_idx: group, locality, ownership, .. } = event;
        Self { rank, tier, group: *group, locality: locality.clone(), ownership: ownership.clone() }
    }

    pub(super) fn of_removed(rank: u32, tier: Tier, event: &Removed) -> Self {
        let Removed { group_idx: group, locality, ownership, .. } = event;
        Self { rank, tier, group: *group, locality: locality.clone(), ownership: ownership.clone() }
    }
}

/// No more can be remembered; what did not fit is not known to be held.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// Copies of one source, counted per rank, tier, group, locality, owner and hash. Engines store and remove each copy on its
/// own: a set would lose blocks that still have one.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    config: Config,
    places: Vec<Place>,
    counts: HashMap<(u16, u64), u32>,
    /// In how many places of its rank a hash lies.
    known: HashMap<(u32, u64), u32>,
}

impl Copies {
    pub(super) fn new(config: Config) -> Self {
        Self { config, places: Vec::new(), counts: HashMap::new(), known: HashMap::new() }
    }

    /// One more copy of each hash in `place`; of those alone that lie somewhere already unless `fresh`. Returns the hashes whose
    /// first copy there it is.
    pub(super) fn add(&mut self, place: Place, hashes: &[u64], fresh: bool) -> (Vec<u64>, Result<(), Full>) {
        let (rank, mut first, mut all) = (place.rank, Vec::new(), Ok(()));
        let Some(place) = self.number(place) else { return (first, Err(Full)) };
        for hash in hashes {
            if !fresh && !self.known.contains_key(&(rank, *hash)) {
                continue;
            }
            if let Some(count) = self.counts.get_mut(&(place, *hash)) {
                *count = count.saturating_add(1);
            } else if self.counts.len() < self.config.max_hashes {
                self.counts.insert((place, *hash), 1);
                *self.known.entry((rank, *hash)).or_default() += 1;
                first.push(*hash);
            } else {
                all = Err(Full);
            }
        }
        (first, all)
    }

    /// Whether all of these, of which no two are the same, can be remembered in `place`. Those that are already cost nothing.
    pub(super) fn have_room(&self, place: &Place, hashes: &[u64]) -> bool {
        let room = self.config.max_hashes.saturating_sub(self.counts.len());
        if hashes.len() <= room {
            return true;
        }
        let found = self.places.iter().position(|other| other == place).and_then(|at| u16::try_from(at).ok());
        let is_held = |hash: &u64| found.is_some_and(|number| self.counts.contains_key(&(number, *hash)));
        hashes.iter().filter(|hash| !is_held(hash)).count() <= room
    }

    /// One copy less of each hash in `place`. Returns those that have none left there; one that had none is none of them.
    pub(super) fn remove(&mut self, place: &Place, hashes: &[u64]) -> Vec<u64> {
        let mut gone = Vec::new();
        let found = self.places.iter().position(|other| other == place).and_then(|at| u16::try_from(at).ok());
        let Some(number) = found else { return gone };
        for hash in hashes {
            match self.counts.get_mut(&(number, *hash)) {
                Some(count @ 2..) => *count -= 1,
                Some(_) => {
                    self.counts.remove(&(number, *hash));
                    self.forget(place.rank, *hash);
                    gone.push(*hash);
                }
                None => {}
            }
        }
        gone
    }

    /// Whether a hash lies anywhere of this rank.
    pub(super) fn knows(&self, rank: u32, hash: u64) -> bool {
        self.known.contains_key(&(rank, hash))
    }

    /// Nothing of this rank is held any more.
    pub(super) fn clear_rank(&mut self, rank: u32) {
        if self.places.iter().all(|place| place.rank == rank) {
            return self.clear();
        }
        let places = &self.places;
        let of_rank = |number: u16| places.get(usize::from(number)).is_some_and(|place| place.rank == rank);
        self.counts.retain(|(number, _), _| !of_rank(*number));
        self.known.retain(|(other, _), _| *other != rank);
    }

    /// Nothing is held any more.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.counts.clear();
        self.known.clear();
    }

    /// Hashes remembered, each once per place.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    fn forget(&mut self, rank: u32, hash: u64) {
        if let Some(places) = self.known.get_mut(&(rank, hash)) {
            *places -= 1;
            if *places == 0 {
                self.known.remove(&(rank, hash));
            }
        }
    }

    fn number(&mut self, place: Place) -> Option<u16> {
        let found = self.places.iter().position(|other| *other == place);
        if found.is_none() && self.places.len() < self.config.max_places {
            self.places.push(place);
        } else if found.is_none() {
            return None;
        }
        u16::try_from(found.unwrap_or(self.places.len() - 1)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn place(rank: u32, tier: Tier, group: Option<u32>) -> Place {
        Place { rank, tier, group, locality: None, ownership: None }
    }

    #[test]
    fn a_hash_is_gone_when_its_last_copy_in_a_place_is() {
        let mut copies = Copies::new(Config::default());
        let gpu = place(0, Tier::Gpu, None);
        assert_eq!(copies.add(gpu.clone(), &[1, 2], true), (vec![1, 2], Ok(())));
        assert_eq!(copies.add(gpu.clone(), &[1], true), (vec![], Ok(())));
        assert_eq!(copies.remove(&gpu, &[1, 2, 3]), [2], "the copy of 1 remains, and 3 was never there");
        assert_eq!(copies.remove(&gpu, &[1]), [1]);
        assert!(copies.remove(&gpu, &[1]).is_empty(), "an unknown remove does nothing");
    }

    #[test]
    fn every_part_of_a_place_tells_copies_apart() {
        let all = [
            place(0, Tier::Gpu, None),
            place(1, Tier::Gpu, None),
            place(0, Tier::Host, None),
            place(0, Tier::Gpu, Some(1)),
            Place { locality: Some("REMOTE".into()), ..place(0, Tier::Gpu, None) },
            Place { ownership: Some("kvcr".into()), ..place(0, Tier::Gpu, None) },
        ];
        let mut copies = Copies::new(Config::default());
        for place in &all {
            assert_eq!(copies.add(place.clone(), &[9], true).0, [9], "{place:?}");
        }
        for place in &all {
            assert!(copies.knows(place.rank, 9));
            assert_eq!(copies.remove(place, &[9]), [9], "{place:?}");
        }
        assert!(!copies.knows(0, 9) && !copies.knows(1, 9));
    }

    #[test]
    fn hashes_that_are_not_known_get_no_copy_from_a_store_without_tokens() {
        let mut copies = Copies::new(Config::default());
        assert_eq!(copies.add(place(0, Tier::Host, None), &[5], false), (vec![], Ok(())));
        assert_eq!(copies.add(place(0, Tier::Gpu, None), &[5], true).1, Ok(()));
        assert_eq!(copies.add(place(0, Tier::Host, None), &[5, 6], false), (vec![5], Ok(())));
        assert_eq!(copies.add(place(1, Tier::Host, None), &[5], false), (vec![], Ok(())), "another rank knows nothing");
    }

    #[test]
    fn clearing_a_rank_leaves_the_others() {
        let mut copies = Copies::new(Config::default());
        assert_eq!(copies.add(place(0, Tier::Gpu, None), &[1], true).1, Ok(()));
        assert_eq!(copies.add(place(1, Tier::Gpu, None), &[1], true).1, Ok(()));
        copies.clear_rank(0);
        assert!(!copies.knows(0, 1) && copies.knows(1, 1));
        assert_eq!(copies.remove(&place(1, Tier::Gpu, None), &[1]), [1]);
        assert_eq!(copies.add(place(0, Tier::Gpu, None), &[1], true).0, [1], "counted from nothing");
    }

    #[test]
    fn hashes_and_places_are_bounded() {
        let mut copies = Copies::new(Config { max_hashes: 2, max_places: 1 });
        let gpu = place(0, Tier::Gpu, None);
        assert_eq!(copies.add(gpu.clone(), &[1, 2, 3], true), (vec![1, 2], Err(Full)));
        assert_eq!(copies.add(gpu.clone(), &[1], true), (vec![], Ok(())), "another copy costs nothing");
        assert_eq!(copies.add(place(0, Tier::Host, None), &[1], true), (vec![], Err(Full)));
        assert_eq!(copies.len(), 2);
        assert!(copies.remove(&gpu, &[3]).is_empty());
    }
}
