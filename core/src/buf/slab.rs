//! Values under keys that go stale: slots in one vector, each with a generation.

use alloc::vec::Vec;
use core::fmt;

/// Names a value of one [`Slab`]. After the value is removed the key names nothing, for ever: a slot whose 2^30 - 1
/// generations are used up is not used again. The top two bits of a generation are never set, so an owner may keep two bits
/// of its own in the word of a key.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The slot.
    pub index: u32,
    /// Which tenant of the slot, from 1.
    pub generation: u32,
}

impl Key {
    /// Both halves in one word, generation on top. Never 0 for a key a slab gave out.
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key [`Key::to_u64`] came from.
    pub const fn from_u64(word: u64) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index, self.generation)
    }
}

/// The last tenant of a slot.
const LAST_GENERATION: u32 = u32::MAX >> 2;

/// Values under generation keys; every operation but iteration is O(1). Freed slots are reused, last freed first, and
/// memory is kept for them. Holds as many values as its owner lets in: check [`Slab::len`] against the owner's bound.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Clone, Debug)]
enum Content<T> {
    Taken(T),
    Free { next: Option<u32> },
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty slab that has allocated nothing.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: None, len: 0 }
    }

    /// An empty slab that allocates nothing more until it holds `capacity` values at once.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), free: None, len: 0 }
    }

    /// Takes `value` in and names it.
    ///
    /// # Panics
    /// With 2^32 values in it, which no owner's bound allows.
    pub fn insert(&mut self, value: T) -> Key {
        self.len += 1;
        if let Some(index) = self.free
            && let Some(slot) = self.slots.get_mut(index as usize)
            && let Content::Free { next } = slot.content
        {
            self.free = next;
            slot.content = Content::Taken(value);
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("the owner's bound is below 2^32 values");
        if self.slots.is_empty() {
            // Most connections have one call at a time; a vector would begin with room for four.
            self.slots.reserve_exact(1);
        }
        self.slots.push(Slot { generation: 1, content: Content::Taken(value) });
        Key { index, generation: 1 }
    }

    /// Takes the value out; `None` if the key is stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (content, free) = self.vacate(key)?;
        let Content::Taken(value) = core::mem::replace(content, free) else { return None };
        Some(value)
    }

    /// Drops the value where it lies, if the key is not stale: what is large is not moved for it.
    pub fn discard(&mut self, key: Key) {
        if let Some((content, free)) = self.vacate(key) {
            *content = free;
        }
    }

    /// The slot of `key` counts as free; the caller puts the second into the first. `None` if the key is stale.
    fn vacate(&mut self, key: Key) -> Option<(&mut Content<T>, Content<T>)> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation || matches!(slot.content, Content::Free { .. }) {
            return None;
        }
        let free = Content::Free { next: self.free };
        self.len -= 1;
        if slot.generation < LAST_GENERATION {
            slot.generation += 1;
            self.free = Some(key.index);
        }
        Some((&mut slot.content, free))
    }

    /// The value; `None` if the key is stale.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index as usize)? {
            Slot { generation, content: Content::Taken(value) } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value, to change it; `None` if the key is stale.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index as usize)? {
            Slot { generation, content: Content::Taken(value) } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Whether the key still names a value.
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// The key of the value in slot `index`, if there is one.
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        matches!(slot.content, Content::Taken(_)).then_some(Key { index, generation: slot.generation })
    }

    /// Values held.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no value is held.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every value with its key, in order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().zip(0u32..).filter_map(|(slot, index)| match &slot.content {
            Content::Taken(value) => Some((Key { index, generation: slot.generation }, value)),
            Content::Free { .. } => None,
        })
    }

    /// Every value with its key, to change it, in order of slots.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().zip(0u32..).filter_map(|(slot, index)| match &mut slot.content {
            Content::Taken(value) => Some((Key { index, generation: slot.generation }, value)),
            Content::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_key_is_stale_once_its_value_is_removed_even_when_the_slot_is_taken_again() {
        let mut slab = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_eq!(new.index, old.index);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&"new"));
    }

    #[test]
    fn a_key_survives_its_word() {
        let key = Key { index: 7, generation: u32::MAX };
        assert_eq!(Key::from_u64(key.to_u64()), key);
    }

    #[test]
    fn a_slot_out_of_generations_is_not_used_again() {
        let mut slab = Slab::new();
        let first = slab.insert(1);
        slab.slots[0].generation = LAST_GENERATION;
        let last = Key { generation: LAST_GENERATION, ..first };
        assert_eq!(last.to_u64() >> 62, 0, "the top two bits are the owner's");
        assert_eq!(slab.remove(last), Some(1));
        assert_eq!(slab.insert(2).index, 1);
        assert_eq!((slab.get(first), slab.get(last), slab.len()), (None, None, 1));
    }

    #[test]
    fn random_operations_agree_with_a_map() {
        let seed = 11;
        let mut rng = Rng::new(seed);
        let mut slab = Slab::with_capacity(4);
        let mut model = BTreeMap::new();
        let mut keys = Vec::new();
        for step in 0..20_000u64 {
            if rng.below(5) < 2 || keys.is_empty() {
                let key = slab.insert(step);
                assert_eq!(model.insert(key, step), None, "seed {seed} step {step}: {key:?} given out twice");
                keys.push(key);
            } else {
                let key = keys[usize::try_from(rng.below(keys.len() as u64)).unwrap()];
                assert_eq!(slab.get(key), model.get(&key), "seed {seed} step {step}");
                assert_eq!(slab.remove(key), model.remove(&key), "seed {seed} step {step}");
            }
            assert_eq!(slab.len(), model.len());
        }
        assert!(slab.iter().map(|(key, value)| (key, *value)).eq(model.clone()), "seed {seed}");
        assert!(slab.iter_mut().map(|(key, value)| (key, *value)).eq(model), "seed {seed}");
    }
}
