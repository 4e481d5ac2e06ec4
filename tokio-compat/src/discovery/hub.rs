//! The records of a kind that a process knows of, and its watchers, each told only what it has not heard.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::set::Change;

/// Known records and their watchers.
///
/// A watcher has no queue of changes that could overflow. It has the set it was told and the names of what may differ
/// from it now: however slow it is, that is bounded by the number of records, and what came and went meanwhile cancels
/// out.
#[derive(Debug)]
pub(crate) struct Hub<R: Kind> {
    state: Mutex<State<R>>,
}

#[derive(Debug)]
struct State<R: Kind> {
    records: BTreeMap<R::Key, Arc<R>>,
    watchers: BTreeMap<u64, Watcher<R>>,
    next: u64,
    closed: bool,
}

#[derive(Debug)]
struct Watcher<R: Kind> {
    query: R::Query,
    told: BTreeMap<R::Key, Arc<R>>,
    dirty: BTreeSet<R::Key>,
    /// Whether the first `Resync` has been told.
    synced: bool,
    waker: Option<Waker>,
}

impl<R: Kind> Default for Hub<R> {
    fn default() -> Self {
        let state = State { records: BTreeMap::new(), watchers: BTreeMap::new(), next: 0, closed: false };
        Self { state: Mutex::new(state) }
    }
}

impl<R: Kind> Hub<R> {
    /// Adds or replaces. Nothing happens if the very same record is there.
    pub(crate) fn put(&self, record: &R) {
        let key = record.key();
        let mut state = self.lock();
        if state.records.get(&key).is_some_and(|known| **known == *record) {
            return;
        }
        state.records.insert(key.clone(), Arc::new(record.clone()));
        self.tell(state, &key);
    }

    pub(crate) fn remove(&self, key: &R::Key) {
        let mut state = self.lock();
        if state.records.remove(key).is_some() {
            self.tell(state, key);
        }
    }

    pub(crate) fn get(&self, key: &R::Key) -> Option<Arc<R>> {
        self.lock().records.get(key).cloned()
    }

    pub(crate) fn list(&self, query: &R::Query) -> Vec<R> {
        let state = self.lock();
        let wanted = state.records.iter().filter(|(key, _)| R::is_asked(query, key));
        wanted.map(|(_, record)| (**record).clone()).collect()
    }

    /// Watches. `keep` lives as long as the watch.
    pub(crate) fn watch(self: &Arc<Self>, query: R::Query, keep: Option<Arc<dyn Any + Send + Sync>>) -> Watch<R> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let dirty = state.records.keys().filter(|key| R::is_asked(&query, key)).cloned().collect();
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

    fn tell(&self, mut state: MutexGuard<'_, State<R>>, key: &R::Key) {
        let mut wakers = Vec::new();
        for watcher in state.watchers.values_mut().filter(|watcher| R::is_asked(&watcher.query, key)) {
            watcher.dirty.insert(key.clone());
            wakers.extend(watcher.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn poll_change(&self, number: u64, cx: &mut Context<'_>) -> Poll<Option<Change<R>>> {
        let mut state = self.lock();
        let State { records, watchers, closed, .. } = &mut *state;
        let Some(watcher) = watchers.get_mut(&number) else { return Poll::Ready(None) };
        while let Some(key) = watcher.dirty.pop_first() {
            if let Some(change) = watcher.learn(key, records) {
                return Poll::Ready(Some(change));
            }
        }
        if !watcher.synced {
            watcher.synced = true;
            let all = watcher.told.values().map(|record| (**record).clone()).collect();
            return Poll::Ready(Some(Change::Resync(all)));
        }
        if *closed {
            return Poll::Ready(None);
        }
        watcher.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Kind> Watcher<R> {
    /// The difference between what was told and what is, for one key.
    fn learn(&mut self, key: R::Key, records: &BTreeMap<R::Key, Arc<R>>) -> Option<Change<R>> {
        let Some(now) = records.get(&key) else { return self.told.remove(&key).map(|_| Change::Removed(key)) };
        match self.told.insert(key, Arc::clone(now)) {
            Some(told) if *told == **now => None,
            Some(told) if now.is_update_of(&told) => Some(Change::Updated((**now).clone())),
            _ => Some(Change::Added((**now).clone())),
        }
    }
}

/// Changes as they happen: first one `Added` per record there is and a `Resync` with all of them, then whatever
/// changes. A reader that falls behind is told the difference to what it knows, not every step on the way. The backend
/// stays alive as long as its watches.
pub struct Watch<R: Kind = Instance> {
    hub: Arc<Hub<R>>,
    number: u64,
    _keep: Option<Arc<dyn Any + Send + Sync>>,
}

impl<R: Kind> Watch<R> {
    /// The next change; `None` once the backend has ended. May be dropped half way without losing anything.
    pub async fn next(&mut self) -> Option<Change<R>> {
        poll_fn(|cx| self.hub.poll_change(self.number, cx)).await
    }
}

impl<R: Kind> futures_core::Stream for Watch<R> {
    type Item = Change<R>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change<R>>> {
        self.hub.poll_change(self.number, cx)
    }
}

impl<R: Kind> fmt::Debug for Watch<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<R: Kind> Drop for Watch<R> {
    fn drop(&mut self) {
        self.hub.lock().watchers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::discovery::channel::{EventChannel, EventTransport};
    use ringplane_core::discovery::event::{EventQuery, PublisherId, Scope};
    use ringplane_core::discovery::key::Query;
    use ringplane_core::id::{EndpointId, InstanceId};

    use super::*;

    fn instance(id: u64, port: u16) -> Instance {
        Instance::new(InstanceId(id), EndpointId::new("n", "c", "e"), ([127, 0, 0, 1], port).into())
    }

    fn heard<R: Kind>(watch: &Watch<R>) -> Vec<Change<R>> {
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
    fn a_channel_that_moves_is_told_with_its_new_address_and_nothing_twice() {
        let hub = Arc::new(Hub::default());
        let channel = |port: u16| EventChannel {
            scope: Scope::Namespace("n".into()),
            topic: "t".into(),
            publisher: PublisherId(1),
            transport: EventTransport::Zmq { endpoint: format!("tcp://127.0.0.1:{port}") },
        };
        hub.put(&channel(1));
        let watch = hub.watch(EventQuery::default(), None);
        assert_eq!(heard(&watch).len(), 2);
        hub.put(&channel(2));
        hub.put(&channel(2));
        assert_eq!(heard(&watch), [Change::Updated(channel(2))]);
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
