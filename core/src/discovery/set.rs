//! The set of records a reader keeps, and what a change does to it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::discovery::instance::Instance;
use crate::discovery::kind::Kind;

/// What a watcher hears. First one `Added` per record there is, then `Resync` with all of them, then what changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<R: Kind = Instance> {
    /// A new record, or another one where a known one was: an instance that is now reached in another way.
    Added(R),
    /// News of a known record: another set of taints of a model, another address of an event channel. Instances have
    /// none: theirs are `Added`.
    Updated(R),
    /// A record is gone.
    Removed(R::Key),
    /// Everything there is now. Replaces whatever the reader holds.
    Resync(Vec<R>),
}

/// Records by key.
///
/// Run recipe: give every [`Change`] to [`Set::apply`] and act on the [`Diff`]; read [`Set::iter`] for the whole.
/// Bounded by what discovery holds; the same changes in the same order give the same set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set<R: Kind = Instance> {
    records: BTreeMap<R::Key, R>,
}

/// What a change meant for the set. Nothing, if it told what was known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diff<R = Instance> {
    /// Gone.
    pub removed: Vec<R>,
    /// New, or another one: replace what you have under the same key.
    pub added: Vec<R>,
    /// Known, with news.
    pub updated: Vec<R>,
}

impl<R> Diff<R> {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.updated.is_empty()
    }
}

impl<R> Default for Diff<R> {
    fn default() -> Self {
        Self { removed: Vec::new(), added: Vec::new(), updated: Vec::new() }
    }
}

impl<R: Kind> Default for Set<R> {
    fn default() -> Self {
        Self { records: BTreeMap::new() }
    }
}

impl<R: Kind> Set<R> {
    /// Takes a change in.
    pub fn apply(&mut self, change: Change<R>) -> Diff<R> {
        let mut diff = Diff::default();
        match change {
            Change::Added(record) | Change::Updated(record) => self.add(record, &mut diff),
            Change::Removed(key) => diff.removed.extend(self.records.remove(&key)),
            Change::Resync(all) => self.replace(all, &mut diff),
        }
        diff
    }

    /// Every record, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.records.values()
    }

    /// The record of this key.
    pub fn get(&self, key: &R::Key) -> Option<&R> {
        self.records.get(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn add(&mut self, record: R, diff: &mut Diff<R>) {
        let key = record.key();
        match self.records.insert(key, record.clone()) {
            Some(before) if before == record => {}
            Some(before) if record.is_update_of(&before) => diff.updated.push(record),
            _ => diff.added.push(record),
        }
    }

    fn replace(&mut self, all: Vec<R>, diff: &mut Diff<R>) {
        let fresh: BTreeMap<_, _> = all.into_iter().map(|record| (record.key(), record)).collect();
        self.records.retain(|key, record| {
            let stays = fresh.contains_key(key);
            if !stays {
                diff.removed.push(record.clone());
            }
            stays
        });
        for record in fresh.into_values() {
            self.add(record, diff);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec;

    use super::*;
    use crate::discovery::channel::{EventChannel, EventTransport};
    use crate::discovery::event::{PublisherId, Scope};
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
    fn news_of_a_known_record_is_told_as_such() {
        let channel = |port: u16| EventChannel {
            scope: Scope::Namespace("n".into()),
            topic: "t".into(),
            publisher: PublisherId(1),
            transport: EventTransport::Zmq { endpoint: format!("tcp://127.0.0.1:{port}") },
        };
        let mut set = Set::default();
        assert_eq!(set.apply(Change::Updated(channel(1))).added, [channel(1)], "it was not known");
        let moved = set.apply(Change::Added(channel(2)));
        assert_eq!((moved.updated, moved.added), (vec![channel(2)], vec![]));
        assert_eq!(set.apply(Change::Resync(vec![channel(3)])).updated, [channel(3)]);
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
