//! What a worker tells a status server: what holds of its endpoints, and whether discovery still has their records.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::chain::Chain;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::{Change, Set};
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_tokio::discovery::{Backend, BoxFuture, Counters};
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::runtime::cores::Group;
use crate::status::server::{Seat, Status};
use crate::status::subject::{Act, Row, Subject};
use crate::status::watching::Times;
use crate::worker::endpoints::{drain_endpoint, resume_endpoint};
use crate::worker::health::WorkerHealth;
use crate::worker::records::{Records, Told};

/// Between two attempts to see what discovery has.
const AGAIN: Duration = Duration::from_secs(1);

/// A worker's part in a status server.
pub(crate) struct Sitting {
    told: Arc<Telling>,
    status: Status,
    _seat: Seat,
}

/// What is told of it. It keeps neither the worker nor its records.
struct Telling {
    names: Vec<String>,
    backend: Arc<dyn Backend>,
    serving: OnceLock<Serving>,
    /// The endpoints whose records discovery had, and has no more.
    lost: Arc<Mutex<BTreeSet<String>>>,
    followers: Mutex<Vec<JoinHandle<Option<()>>>>,
}

/// What there is once it serves.
struct Serving {
    addr: SocketAddr,
    group: Arc<Group>,
    health: WorkerHealth,
    records: Weak<Records>,
    said: Told,
}

impl Sitting {
    /// Is told of from now on: it starts.
    pub(super) fn take(status: &Status, names: Vec<String>, backend: Arc<dyn Backend>, times: &Arc<Times>) -> Self {
        let (lost, followers) = (Arc::default(), Mutex::default());
        let told = Arc::new(Telling { names, backend, serving: OnceLock::new(), lost, followers });
        Self { _seat: status.seat(told.clone(), Some(times.clone())), told, status: status.clone() }
    }

    /// It serves.
    pub(super) fn serve(&self, id: InstanceId, addr: SocketAddr, group: &Arc<Group>, records: &Arc<Records>) {
        let (group, health, upkeep) = (group.clone(), records.health(), group.upkeep());
        let serving = Serving { addr, group, health, records: Arc::downgrade(records), said: records.told() };
        let _ = self.told.serving.set(serving);
        let endpoints = self.told.names.iter().filter_map(|name| EndpointId::parse(name).ok());
        let followers = endpoints.map(|endpoint| {
            let (backend, lost, health) = (self.told.backend.clone(), self.told.lost.clone(), records.health());
            upkeep.spawn(follow(backend, Instance::new(id, endpoint, addr), health, lost))
        });
        lock(&self.told.followers).extend(followers);
    }

    /// The server.
    pub(super) const fn status(&self) -> &Status {
        &self.status
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        lock(&self.told.followers).drain(..).for_each(|follower| follower.abort());
    }
}

/// Whether a record is missed, by what discovery shows of it.
#[derive(Default)]
struct Sight {
    /// It was there, and the worker has not taken it out since.
    was_seen: bool,
}

impl Sight {
    /// Whether a record is lost that discovery has now, or has not. One that was never seen is not missed: without a registry
    /// there is nothing to see. Nor is one of an endpoint that is not ready, which the worker itself has taken out.
    fn is_lost(&mut self, here: bool, is_ready: impl FnOnce() -> bool) -> bool {
        self.was_seen = here || (self.was_seen && is_ready());
        self.was_seen && !here
    }
}

/// Looks whether discovery has the record of an endpoint, for ever.
async fn follow(
    backend: Arc<dyn Backend>,
    instance: Instance,
    health: WorkerHealth,
    lost: Arc<Mutex<BTreeSet<String>>>,
) {
    let (name, key) = (instance.endpoint.to_string(), instance.key());
    let is_ready = || health.endpoints().iter().any(|one| one.endpoint == name && one.state.is_ready());
    let mut sight = Sight::default();
    loop {
        match backend.endpoints().watch(Query::Endpoint(instance.endpoint.clone())).await {
            Ok(mut watch) => {
                let (mut set, mut synced) = (Set::default(), false);
                while let Some(change) = watch.next().await {
                    synced |= matches!(change, Change::Resync(_));
                    set.apply(change);
                    if !synced {
                        continue;
                    }
                    if sight.is_lost(set.get(&key).is_some(), is_ready) {
                        lock(&lost).insert(name.clone());
                    } else {
                        lock(&lost).remove(&name);
                    }
                }
            }
            Err(error) => tracing::debug!(endpoint = name, error = %Chain(&error), "discovery cannot be watched"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Subject for Telling {
    fn is_worker(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        self.serving.get().map_or_else(|| "starting".to_owned(), |serving| serving.addr.to_string())
    }

    fn group(&self) -> Option<Arc<Group>> {
        self.serving.get().map(|serving| serving.group.clone())
    }

    fn counters(&self) -> Counters {
        self.backend.counters()
    }

    fn endpoints(&self) -> Vec<Row> {
        let Some(serving) = self.serving.get() else {
            let row = |name: &String| Row {
                name: name.clone(),
                state: "starting",
                why: "the worker starts",
                ready: false,
                drained: false,
            };
            return self.names.iter().map(row).collect();
        };
        let lost = lock(&self.lost);
        let row = |one: crate::worker::health::EndpointHealth| {
            let state = one.state;
            if state.is_ready() && lost.contains(&one.endpoint) {
                let why = "discovery has lost its record; it is being registered again";
                return Row { name: one.endpoint, state: "lost", why, ready: false, drained: false };
            }
            let (ready, drained) = (state.is_ready(), state.name() == "drained");
            Row { name: one.endpoint, state: state.name(), why: state.why(), ready, drained }
        };
        serving.health.endpoints().into_iter().map(row).collect()
    }

    fn records(&self) -> Vec<Bytes> {
        let said =
            self.serving.get().map(|serving| serving.said.read().unwrap_or_else(PoisonError::into_inner).clone());
        said.unwrap_or_default()
    }

    fn manage(&self, endpoint: String, act: Act) -> BoxFuture<'static, Result<(), Error>> {
        let serving = self.serving.get().map(|serving| (serving.group.clone(), serving.records.clone()));
        Box::pin(async move {
            let Some((group, Some(records))) = serving.map(|(group, records)| (group, records.upgrade())) else {
                return Err(Error::Stopped);
            };
            match act {
                Act::Resume => resume_endpoint(&group, &records, &endpoint).await,
                Act::Drain => {
                    // Whoever asks need not wait for the calls that run.
                    let upkeep = group.upkeep().clone();
                    drop(upkeep.spawn(async move {
                        if let Err(error) = drain_endpoint(&group, &records, &endpoint).await {
                            tracing::debug!(endpoint, error = %Chain(&error), "the drain has ended otherwise");
                        }
                    }));
                    Ok(())
                }
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_the_worker_took_out_is_not_lost() {
        let (mut sight, ready) = (Sight::default(), || true);
        assert!(!sight.is_lost(false, ready), "it was never seen");
        assert!(!sight.is_lost(true, ready));
        assert!(sight.is_lost(false, ready) && sight.is_lost(false, ready), "discovery has lost it");
        assert!(!sight.is_lost(true, ready), "it is back");
        assert!(!sight.is_lost(false, || false), "the endpoint is drained");
        assert!(!sight.is_lost(false, ready), "it has been resumed, and the watch is behind");
        assert!(!sight.is_lost(true, ready));
        assert!(sight.is_lost(false, ready));
    }
}
