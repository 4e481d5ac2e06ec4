//! The instances a process knows of, and its watchers, each told only what it has not heard.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::{Key, Query};
use ringplane_core::discovery::set::Change;

/// Known instances and their watchers.
///
/// A watcher has no queue of changes that could overflow. It has the set it was told and the names of what may differ
/// from it now: however slow it is, that is bounded by the number of instances, and what came and went meanwhile cancels
/// out.
#[derive(Default, Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    instances: BTreeMap<Key, Arc<Instance>>,
    watchers: BTreeMap<u64, Watcher>,
    next: u64,
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    query: Query,
    told: BTreeMap<Key, Arc<Instance>>,
    dirty: BTreeSet<Key>,
    /// Whether the first `Resync` has been told.
    synced: bool,
    waker: Option<Waker>,
}

impl Hub {
    /// Adds or replaces. Nothing happens if the very same instance is there.
    pub(crate) fn put(&self, instance: &Instance) {
        let key = instance.key();
        let mut state = self.lock();
        if state.instances.get(&key).is_some_and(|known| **known == *instance) {
            return;
        }
        state.instances.insert(key.clone(), Arc::new(instance.clone()));
        self.tell(state, &key);
    }

    /// Adds, unless the key is taken.
    pub(crate) fn put_new(&self, instance: &Instance) -> bool {
        let key = instance.key();
        let mut state = self.lock();
        if state.instances.contains_key(&key) {
            return false;
        }
        state.instances.insert(key.clone(), Arc::new(instance.clone()));
        self.tell(state, &key);
        true
    }

    pub(crate) fn remove(&self, key: &Key) {
        let mut state = self.lock();
        if state.instances.remove(key).is_some() {
            self.tell(state, key);
        }
    }

    pub(crate) fn list(&self, query: &Query) -> Vec<Instance> {
        let state = self.lock();
        let wanted = state.instances.values().filter(|instance| query.matches(&instance.endpoint));
        wanted.map(|instance| (**instance).clone()).collect()
    }

    /// Watches. `keep` lives as long as the watch.
    pub(crate) fn watch(self: &Arc<Self>, query: Query, keep: Option<Arc<dyn Any + Send + Sync>>) -> Watch {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let dirty = state.instances.keys().filter(|key| query.matches(&key.endpoint)).cloned().collect();
        let watcher = Watcher { query, told: BTreeMap::new(), dirty, synced: false, waker: None };
        state.watchers.insert(number, watcher);
        drop(state);
        Watch { hub: Arc::clone(self), number, _keep: keep }
    }

    /// Ends every watch once it has been told the rest.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers: Vec<_> = state.watchers.values_mut().filter_map(|watcher| watcher.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, key: &Key) {
        let mut wakers = Vec::new();
        for watcher in state.watchers.values_mut().filter(|watcher| watcher.query.matches(&key.endpoint)) {
            watcher.dirty.insert(key.clone());
            wakers.extend(watcher.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll_change(&self, number: u64, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let mut state = self.lock();
        let State { instances, watchers, closed, .. } = &mut *state;
        let Some(watcher) = watchers.get_mut(&number) else { return Poll::Ready(None) };
        while let Some(key) = watcher.dirty.pop_first() {
            if let Some(change) = watcher.learn(key, instances) {
                return Poll::Ready(Some(change));
            }
        }
        if !watcher.synced {
            watcher.synced = true;
            let all = watcher.told.values().map(|instance| (**instance).clone()).collect();
            return Poll::Ready(Some(Change::Resync(all)));
        }
        if *closed {
            return Poll::Ready(None);
        }
        watcher.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// The difference between what was told and what is, for one key.
    fn learn(&mut self, key: Key, instances: &BTreeMap<Key, Arc<Instance>>) -> Option<Change> {
        match instances.get(&key) {
            Some(now) if self.told.get(&key).is_some_and(|told| **told == **now) => None,
            Some(now) => {
                self.told.insert(key, Arc::clone(now));
                Some(Change::Added((**now).clone()))
            }
            None => self.told.remove(&key).map(|_| Change::Removed(key)),
        }
    }
}

/// Changes as they happen: first one `Added` per instance there is and a `Resync` with all of them, then whatever
/// changes. A reader that falls behind is told the difference to what it knows, not every step on the way. The backend
/// stays alive as long as its watches.
pub struct Watch {
    hub: Arc<Hub>,
    number: u64,
    _keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl Watch {
    /// The next change; `None` once the backend has ended. May be dropped half way without losing anything.
    pub async fn next(&mut self) -> Option<Change> {
        poll_fn(|cx| self.hub.poll_change(self.number, cx)).await
    }
}

impl futures_core::Stream for Watch {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.hub.poll_change(self.number, cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.lock().watchers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::id::{EndpointId, InstanceId};

    use super::*;

    fn instance(id: u64, port: u16) -> Instance {
        Instance::new(InstanceId(id), EndpointId::new("n", "c", "e"), ([127, 0, 0, 1], port).into())
    }

    fn heard(watch: &Watch) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Poll::Ready(Some(change)) =
            watch.hub.poll_change(watch.number, &mut Context::from_waker(Waker::noop()))
        {
            changes.push(change);
        }
        changes
    }

    #[test]
    fn a_watch_begins_with_what_is_there_and_one_resync() {
        let hub = Arc::new(Hub::default());
        assert_eq!(heard(&hub.watch(Query::All, None)), [Change::Resync(vec![])]);
        hub.put(&instance(1, 1));
        hub.put(&instance(2, 1));
        let watch = hub.watch(Query::All, None);
        let both = vec![instance(1, 1), instance(2, 1)];
        let added = both.iter().cloned().map(Change::Added);
        assert!(heard(&watch).into_iter().eq(added.chain([Change::Resync(both.clone())])));
        hub.remove(&instance(1, 1).key());
        hub.put(&instance(2, 9));
        assert_eq!(heard(&watch), [Change::Removed(instance(1, 1).key()), Change::Added(instance(2, 9))]);
    }

    #[test]
    fn a_slow_watcher_hears_the_difference_and_not_the_way_there() {
        let hub = Arc::new(Hub::default());
        let watch = hub.watch(Query::All, None);
        hub.put(&instance(3, 1));
        heard(&watch);
        for port in 1..100 {
            hub.put(&instance(1, port));
            hub.put(&instance(2, port));
            hub.remove(&instance(2, port).key());
            hub.remove(&instance(3, 1).key());
            hub.put(&instance(3, 1));
        }
        assert_eq!(heard(&watch), [Change::Added(instance(1, 99))]);
    }

    #[test]
    fn a_watch_hears_only_what_it_asked_for() {
        let hub = Arc::new(Hub::default());
        let watch = hub.watch(Query::Endpoint(EndpointId::new("n", "c", "other")), None);
        heard(&watch);
        hub.put(&instance(1, 1));
        assert_eq!(heard(&watch), []);
    }

    #[test]
    fn a_closed_hub_ends_its_watches_after_the_last_word() {
        let hub = Arc::new(Hub::default());
        let watch = hub.watch(Query::All, None);
        hub.put(&instance(1, 1));
        hub.close();
        assert_eq!(heard(&watch).len(), 2);
        let end = hub.poll_change(watch.number, &mut Context::from_waker(Waker::noop()));
        assert_eq!(end, Poll::Ready(None));
        drop(watch);
        assert!(hub.lock().watchers.is_empty());
    }
}
