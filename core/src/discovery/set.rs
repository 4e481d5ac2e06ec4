//! The set of instances a reader keeps, and what a change does to it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::discovery::instance::Instance;
use crate::discovery::key::Key;

/// What a watcher hears. First one `Added` per instance there is, then `Resync` with all of them, then what changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new instance, or a known one with a new record.
    Added(Instance),
    /// An instance is gone.
    Removed(Key),
    /// Everything there is now. Replaces whatever the reader holds.
    Resync(Vec<Instance>),
}

/// Instances by key.
///
/// Run recipe: give every [`Change`] to [`Set::apply`] and act on the [`Diff`]; read [`Set::iter`] for the whole.
/// Bounded by what discovery holds; the same changes in the same order give the same set.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Set {
    instances: BTreeMap<Key, Instance>,
}

/// What a change meant for the set. Nothing, if it told what was known.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Diff {
    /// Gone.
    pub removed: Vec<Instance>,
    /// New, or with a new record: replace what you have under the same key.
    pub added: Vec<Instance>,
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

impl Set {
    /// Takes a change in.
    pub fn apply(&mut self, change: Change) -> Diff {
        let mut diff = Diff::default();
        match change {
            Change::Added(instance) => self.add(instance, &mut diff),
            Change::Removed(key) => diff.removed.extend(self.instances.remove(&key)),
            Change::Resync(all) => self.replace(all, &mut diff),
        }
        diff
    }

    /// Every instance, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// The instance of this key.
    pub fn get(&self, key: &Key) -> Option<&Instance> {
        self.instances.get(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    fn add(&mut self, instance: Instance, diff: &mut Diff) {
        let key = instance.key();
        if self.instances.get(&key) != Some(&instance) {
            self.instances.insert(key, instance.clone());
            diff.added.push(instance);
        }
    }

    fn replace(&mut self, all: Vec<Instance>, diff: &mut Diff) {
        let fresh: BTreeMap<_, _> = all.into_iter().map(|instance| (instance.key(), instance)).collect();
        self.instances.retain(|key, instance| {
            let stays = fresh.contains_key(key);
            if !stays {
                diff.removed.push(instance.clone());
            }
            stays
        });
        for instance in fresh.into_values() {
            self.add(instance, diff);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::id::{EndpointId, InstanceId};

    fn instance(id: u64, port: u16) -> Instance {
        Instance::new(InstanceId(id), EndpointId::new("n", "c", "e"), ([127, 0, 0, 1], port).into())
    }

    #[test]
    fn repeated_news_is_no_news() {
        let mut set = Set::default();
        assert_eq!(set.apply(Change::Added(instance(1, 1))).added, [instance(1, 1)]);
        assert!(set.apply(Change::Added(instance(1, 1))).is_empty());
        assert!(set.apply(Change::Resync(vec![instance(1, 1)])).is_empty());
        assert!(set.apply(Change::Removed(instance(2, 2).key())).is_empty());
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_new_record_of_a_known_instance_replaces_the_old_one() {
        let mut set = Set::default();
        set.apply(Change::Added(instance(1, 1)));
        assert_eq!(set.apply(Change::Added(instance(1, 9))).added, [instance(1, 9)]);
        assert!(set.iter().eq([&instance(1, 9)]));
    }

    #[test]
    fn a_resync_tells_only_the_differences_and_leaves_exactly_its_own_set() {
        let mut set = Set::default();
        for id in 1..=3 {
            set.apply(Change::Added(instance(id, 1)));
        }
        let all = vec![instance(2, 1), instance(3, 7), instance(4, 1)];
        let diff = set.apply(Change::Resync(all.clone()));
        assert_eq!(diff.removed, [instance(1, 1)]);
        assert_eq!(diff.added, [instance(3, 7), instance(4, 1)]);
        assert!(set.iter().eq(&all));
        assert_eq!(set.apply(Change::Resync(vec![])).removed, all);
        assert!(set.is_empty());
    }

    #[test]
    fn one_id_under_two_endpoints_is_two_instances() {
        let mut set = Set::default();
        let other = Instance { endpoint: EndpointId::new("n", "c", "other"), ..instance(1, 1) };
        set.apply(Change::Added(instance(1, 1)));
        set.apply(Change::Added(other.clone()));
        assert_eq!(set.apply(Change::Removed(other.key())).removed, [other]);
        assert_eq!(set.get(&instance(1, 1).key()), Some(&instance(1, 1)));
    }
}
