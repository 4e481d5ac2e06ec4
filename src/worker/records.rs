//! The records of a worker's endpoints: which of them discovery has, and what the worker tells those that ask it.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use ringplane_core::chain::Chain;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::record;
use ringplane_tokio::discovery::{Backend, Registration};
use tokio::sync::{Mutex, MutexGuard};

use crate::error::Error;
use crate::worker::health::{EndpointHealth, EndpointState, Shown, WorkerHealth};

/// The records of one worker.
pub(super) struct Records {
    backend: Arc<dyn Backend>,
    entries: Mutex<Entries>,
    /// Held by whatever takes an endpoint out or puts it back, until every core knows.
    turn: Mutex<()>,
    told: Told,
    shown: Shown,
}

/// What the worker tells of itself: the records that discovery has as well.
pub(super) type Told = Arc<RwLock<Vec<Bytes>>>;

struct Entries {
    all: Vec<Entry>,
    /// The worker leaves: no record comes back.
    closed: bool,
}

struct Entry {
    instance: Instance,
    registration: Option<Registration>,
    drained: bool,
    /// Its canary is not answered.
    ill: bool,
}

impl Entry {
    fn state(&self, closed: bool) -> EndpointState {
        if closed {
            EndpointState::Leaving
        } else if self.drained {
            EndpointState::Drained
        } else if self.ill {
            EndpointState::Unhealthy
        } else if self.registration.is_none() {
            EndpointState::Unregistered
        } else {
            EndpointState::Ready
        }
    }
}

/// What a worker of these instances tells of itself.
pub(super) fn told(instances: &[Instance]) -> Told {
    Arc::new(RwLock::new(instances.iter().filter_map(written).collect()))
}

fn written(instance: &Instance) -> Option<Bytes> {
    // One that cannot be written is refused by discovery, and the worker does not start.
    record::write(instance).ok().map(Bytes::from)
}

impl Records {
    /// Has all of them found.
    pub(super) async fn register(
        backend: Arc<dyn Backend>,
        instances: Vec<Instance>,
        told: Told,
    ) -> Result<Self, Error> {
        let mut all = Vec::new();
        for instance in instances {
            let registration = Some(backend.endpoints().register(instance.clone()).await?);
            all.push(Entry { instance, registration, drained: false, ill: false });
        }
        let entries = Entries { all, closed: false };
        let shown = Shown::default();
        shown.set(entries.health());
        Ok(Self { backend, entries: Mutex::new(entries), turn: Mutex::default(), told, shown })
    }

    /// What the worker tells of itself.
    #[cfg(feature = "status")]
    pub(super) fn told(&self) -> Told {
        self.told.clone()
    }

    /// What holds of each endpoint, for those that ask.
    pub(super) fn health(&self) -> WorkerHealth {
        self.shown.handle()
    }

    /// The turn to take an endpoint out or to put it back. Records and cores have each change in the same order, so that an
    /// endpoint that is found is served.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Takes the record of an endpoint out; the path of its requests.
    pub(super) async fn take_out(&self, name: &str) -> Result<String, Error> {
        let mut entries = self.entries.lock().await;
        let entry = entries.find(name)?;
        entry.drained = true;
        let (path, registration) = (entry.instance.path.clone(), entry.registration.take());
        self.tell(&entries);
        if let Some(registration) = registration {
            unregister(registration).await;
        }
        Ok(path)
    }

    /// The path of an endpoint's requests, if its record may be put back.
    pub(super) async fn path(&self, name: &str) -> Result<String, Error> {
        let mut entries = self.entries.lock().await;
        let closed = entries.closed;
        let path = entries.find(name)?.instance.path.clone();
        if closed { Err(Error::Stopped) } else { Ok(path) }
    }

    /// Puts the record of an endpoint back, whose requests are served.
    pub(super) async fn put_back(&self, name: &str) -> Result<(), Error> {
        let mut entries = self.entries.lock().await;
        if entries.closed {
            return Err(Error::Stopped);
        }
        let entry = entries.find(name)?;
        entry.drained = false;
        // One that does not answer its canary waits until it does.
        let outcome = if entry.ill { Ok(()) } else { entry.enter(&*self.backend).await };
        // Also of one that discovery did not take.
        self.tell(&entries);
        outcome
    }

    /// What its canary says of an endpoint, whose record is there while it is well. Whether that is news.
    pub(super) async fn judge(&self, name: &str, well: bool) -> Result<bool, Error> {
        let mut entries = self.entries.lock().await;
        let closed = entries.closed;
        let entry = entries.find(name)?;
        let is_news = entry.ill == well;
        entry.ill = !well;
        let gone = if well { None } else { entry.registration.take() };
        let outcome = if well && !entry.drained && !closed { entry.enter(&*self.backend).await } else { Ok(()) };
        self.tell(&entries);
        if let Some(gone) = gone {
            unregister(gone).await;
        }
        outcome.map(|()| is_news)
    }

    /// Takes all of them out, for good.
    pub(super) async fn close(&self) {
        let mut entries = self.entries.lock().await;
        entries.closed = true;
        let registrations: Vec<_> = entries.all.iter_mut().filter_map(|entry| entry.registration.take()).collect();
        self.tell(&entries);
        for registration in registrations {
            unregister(registration).await;
        }
    }

    fn tell(&self, entries: &Entries) {
        let here = entries.all.iter().filter(|entry| entry.state(entries.closed).is_ready());
        let told = here.filter_map(|entry| written(&entry.instance)).collect();
        *self.told.write().unwrap_or_else(PoisonError::into_inner) = told;
        self.shown.set(entries.health());
    }
}

impl Drop for Records {
    /// The records go with their registrations; those that still ask are told.
    fn drop(&mut self) {
        let entries = self.entries.get_mut();
        entries.closed = true;
        self.shown.set(entries.health());
    }
}

impl Entry {
    /// Has discovery take the record, if it has not.
    async fn enter(&mut self, backend: &dyn Backend) -> Result<(), Error> {
        if self.registration.is_none() {
            self.registration = Some(backend.endpoints().register(self.instance.clone()).await?);
        }
        Ok(())
    }
}

impl Entries {
    fn health(&self) -> Vec<EndpointHealth> {
        let health = |entry: &Entry| {
            let endpoint = entry.instance.endpoint.to_string();
            EndpointHealth { endpoint, state: entry.state(self.closed) }
        };
        self.all.iter().map(health).collect()
    }

    fn find(&mut self, name: &str) -> Result<&mut Entry, Error> {
        let entry = self.all.iter_mut().find(|entry| entry.instance.endpoint.to_string() == name);
        entry.ok_or_else(|| Error::NotServed(name.to_owned()))
    }
}

async fn unregister(registration: Registration) {
    if let Err(error) = registration.unregister().await {
        tracing::warn!(error = %Chain(&error), "an endpoint stays in discovery until its time runs out");
    }
}
