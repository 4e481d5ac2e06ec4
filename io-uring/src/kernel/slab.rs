//! Numbered slots that are used again, with keys that notice it.

/// Names one value of one [`Slab`]. A key of a removed value names nothing, even after its slot has a new tenant.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The key in 64 bits, as it travels through the kernel.
    pub(crate) const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The key that [`Key::to_bits`] made.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// Values in numbered slots. Grows as far as its users let it; they bound what they insert.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 slots");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { index, generation: 0 }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let used = self.slots.iter().zip(0..).filter(|(slot, _)| slot.value.is_some());
        used.map(|(slot, index)| Key { index, generation: slot.generation }).collect()
    }

    /// Everything in it; the slab is empty afterwards.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.keys().into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_nothing_once_its_slot_has_a_new_tenant() {
        let mut slab = Slab::new();
        let old = slab.insert("a");
        assert_eq!(slab.remove(old), Some("a"));
        let new = slab.insert("b");
        assert_ne!(old, new);
        assert_eq!(slab.remove(old), None);
        assert_eq!((slab.get(old), slab.get(new)), (None, Some(&"b")));
        assert_eq!((slab.len(), slab.keys()), (1, vec![new]));
    }

    #[test]
    fn a_key_survives_the_way_through_the_kernel() {
        let mut slab = Slab::new();
        for _ in 0..3 {
            let key = slab.insert(());
            slab.remove(key);
        }
        let key = slab.insert(());
        assert_eq!(Key::from_bits(key.to_bits()), key);
    }
}
