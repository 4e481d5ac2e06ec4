//! What the status server knows: who takes part, and what holds without them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::observe::metrics::handle::Metrics;
use crate::status::config::StatusConfig;
use crate::status::errors::Errors;
use crate::status::sample::Sampler;
use crate::status::subject::Subject;
use crate::status::watching::Times;

/// What the server knows.
pub(super) struct Hall {
    pub(super) config: StatusConfig,
    pub(super) errors: Arc<Errors>,
    pub(super) metrics: Metrics,
    /// One scrape at a time: each asks every core, and holds all text there is.
    pub(super) scraping: Semaphore,
    /// Whether only this host can reach it.
    pub(super) is_local: bool,
    flag: AtomicBool,
    had_worker: AtomicBool,
    pub(super) begun: Instant,
    seats: Mutex<BTreeMap<u64, Taken>>,
}

/// A seat that is taken.
#[derive(Clone)]
pub(super) struct Taken {
    pub(super) subject: Arc<dyn Subject>,
    pub(super) sampler: Arc<Sampler>,
}

impl Hall {
    /// Nobody takes part yet.
    pub(super) fn new(config: StatusConfig, is_local: bool) -> Self {
        Self {
            errors: Arc::new(Errors::new(config.max_errors)),
            metrics: Metrics::new(),
            scraping: Semaphore::new(1),
            is_local,
            flag: AtomicBool::new(config.ready_at_start),
            had_worker: AtomicBool::new(false),
            begun: Instant::now(),
            seats: Mutex::default(),
            config,
        }
    }

    /// Somebody takes part.
    pub(super) fn enter(&self, number: u64, subject: Arc<dyn Subject>, times: Option<Arc<Times>>) {
        if subject.is_worker() {
            self.had_worker.store(true, Ordering::Relaxed);
        }
        self.seats().insert(number, Taken { subject, sampler: Arc::new(Sampler::new(times)) });
    }

    /// And no more.
    pub(super) fn leave(&self, number: u64) {
        let taken = self.seats().remove(&number);
        // Not under the lock: it may be the last to know what it tells of.
        drop(taken);
    }

    /// That holds of a process without a worker from now on.
    pub(super) fn set_flag(&self, ready: bool) {
        self.flag.store(ready, Ordering::Relaxed);
    }

    /// Everybody that takes part, with their numbers.
    pub(super) fn all(&self) -> Vec<(u64, Taken)> {
        self.seats().iter().map(|(number, taken)| (*number, taken.clone())).collect()
    }

    /// What holds of a process without a worker.
    pub(super) fn flag(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Whether there is a worker, or has been one.
    pub(super) fn had_worker(&self) -> bool {
        self.had_worker.load(Ordering::Relaxed)
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<u64, Taken>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
