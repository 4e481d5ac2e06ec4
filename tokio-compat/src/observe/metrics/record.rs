//! Calls and requests by endpoint: watched on each core, read together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::CallId;
use ringplane_core::id::InstanceId;
use ringplane_core::observer::{CallEnded, Observer, RequestEnded, RequestRunning};
use ringplane_core::wire::trace_context::TraceParent;
use ringplane_core::worker::job::JobId;

use crate::observe::metrics::stages::{CallTimes, Calls, RequestTimes, Requests};

/// Endpoints that a core counts one by one, the first ones; those beyond are [`OTHER`].
const ENDPOINTS: usize = 100;
const OTHER: &str = "other";

/// What all cores have counted by endpoint. Clones are the same.
#[derive(Clone, Default, Debug)]
pub struct Record(Arc<Mutex<Book>>);

/// An endpoint's name, and the worker that serves it.
pub(super) type Served = (Option<InstanceId>, String);

#[derive(Default, Debug)]
struct Book {
    calls: Vec<(String, Arc<Calls>)>,
    requests: Vec<(Served, Arc<Requests>)>,
    /// What cores that are gone have counted.
    gone: Sums,
    /// When workers began.
    workers: Vec<(InstanceId, Instant)>,
}

/// What has been counted, by endpoint.
#[derive(Clone, Default, Debug)]
pub struct Sums {
    pub(super) calls: BTreeMap<String, CallTimes>,
    pub(super) requests: BTreeMap<Served, RequestTimes>,
    /// How long workers have been there.
    pub(super) workers: Vec<(InstanceId, Duration)>,
}

impl Sums {
    fn add_calls(&mut self, endpoint: &str, calls: &Calls) {
        self.calls.entry(endpoint.to_owned()).or_default().merge(&calls.read());
    }

    fn add_requests(&mut self, served: &Served, requests: &Requests) {
        self.requests.entry(served.clone()).or_default().merge(&requests.read());
    }
}

impl Record {
    /// A worker begins to serve.
    pub fn add_worker(&self, worker: InstanceId) {
        self.lock().workers.push((worker, Instant::now()));
    }

    /// What watches a core, and is to be made there: a client's, or that of the worker whose instances have that id.
    pub fn watch(&self, worker: Option<InstanceId>) -> impl Observer + use<> {
        Watch { record: self.clone(), worker, calls: RefCell::default(), requests: RefCell::default() }
    }

    /// All of it.
    pub fn read(&self) -> Sums {
        let book = self.lock();
        let mut sums = book.gone.clone();
        book.calls.iter().for_each(|(endpoint, calls)| sums.add_calls(endpoint, calls));
        book.requests.iter().for_each(|(served, requests)| sums.add_requests(served, requests));
        sums.workers = book.workers.iter().map(|(worker, begun)| (*worker, begun.elapsed())).collect();
        sums
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches one core. Its counters are its own, so that it counts without a lock; the record has them to read.
struct Watch {
    record: Record,
    worker: Option<InstanceId>,
    calls: RefCell<HashMap<String, Arc<Calls>>>,
    requests: RefCell<HashMap<String, Arc<Requests>>>,
}

/// What is counted of an endpoint on this core; `add` tells the record of one that is new.
fn counted<T: Default>(
    known: &RefCell<HashMap<String, Arc<T>>>,
    endpoint: &str,
    count: impl FnOnce(&T),
    add: impl FnOnce(&str, Arc<T>),
) {
    let mut known = known.borrow_mut();
    if let Some(one) = known.get(endpoint) {
        return count(one);
    }
    let endpoint = if known.len() < ENDPOINTS { endpoint } else { OTHER };
    let one = known.entry_ref(endpoint).or_insert_with(|| {
        let one = Arc::<T>::default();
        add(endpoint, one.clone());
        one
    });
    count(one);
}

impl Watch {
    fn calls(&self, endpoint: &str, count: impl FnOnce(&Calls)) {
        let add = |endpoint: &str, calls| self.record.lock().calls.push((endpoint.to_owned(), calls));
        counted(&self.calls, endpoint, count, add);
    }

    fn requests(&self, endpoint: &str, count: impl FnOnce(&Requests)) {
        let add = |endpoint: &str, requests| {
            self.record.lock().requests.push(((self.worker, endpoint.to_owned()), requests));
        };
        counted(&self.requests, endpoint, count, add);
    }
}

impl Observer for Watch {
    fn call_refused(&self, endpoint: &str, error: &CallError) {
        self.calls(endpoint, |calls| calls.refuse(error.kind()));
    }

    fn call_waited(&self, _: CallId, endpoint: &str, time: Duration) {
        self.calls(endpoint, |calls| calls.wait(time));
    }

    fn call_ended(&self, _: CallId, ended: &CallEnded<'_>) {
        self.calls(ended.endpoint, |calls| calls.end(ended));
    }

    fn request_running(&self, _: JobId, running: &RequestRunning<'_>) -> Option<TraceParent> {
        self.requests(running.endpoint, |requests| requests.run(running));
        None
    }

    fn request_ended(&self, _: JobId, ended: &RequestEnded<'_>) {
        self.requests(ended.endpoint, |requests| requests.end(ended));
    }
}

impl Drop for Watch {
    /// What was counted stays.
    fn drop(&mut self) {
        let mut book = self.record.lock();
        let Book { calls, requests, gone, workers } = &mut *book;
        for mine in self.calls.get_mut().values() {
            for (endpoint, calls) in calls.extract_if(.., |(_, calls)| Arc::ptr_eq(calls, mine)) {
                gone.add_calls(&endpoint, &calls);
            }
        }
        for mine in self.requests.get_mut().values() {
            for (served, requests) in requests.extract_if(.., |(_, requests)| Arc::ptr_eq(requests, mine)) {
                gone.add_requests(&served, &requests);
                // Nothing runs there any more, whatever was not told of its end.
                gone.requests.entry(served).or_default().running = 0;
            }
        }
        workers.retain(|(worker, _)| Some(*worker) != self.worker);
    }
}
