//! What is known of the workers, and whether all of them have been heard.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::{Key, Query};
use tokio::sync::watch;

use crate::discovery::asked::hosts::HostPort;
use crate::discovery::counters::Tally;
use crate::discovery::hub::Hub;

/// Shared by the handles and the thread that asks.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) hub: Arc<Hub<Instance>>,
    state: Mutex<State>,
    pub(super) tally: Tally,
    /// Whether the first round is over.
    heard: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    /// Hosts whose addresses are not known yet.
    unknown: BTreeSet<HostPort>,
    /// Workers that have not answered or failed yet.
    unheard: BTreeSet<SocketAddr>,
    /// What each worker serves.
    served: BTreeMap<SocketAddr, Vec<Instance>>,
}

impl Shared {
    pub(super) fn new(hosts: &[HostPort]) -> Self {
        let unknown = hosts.iter().cloned().collect();
        let state = State { unknown, unheard: BTreeSet::new(), served: BTreeMap::new() };
        Self {
            hub: Arc::default(),
            state: Mutex::new(state),
            tally: Tally::default(),
            heard: watch::Sender::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host has been looked up, and these are addresses that have not been asked yet.
    pub(super) fn looked_up(&self, host: &HostPort, new: impl IntoIterator<Item = SocketAddr>) {
        let mut state = self.state();
        state.unheard.extend(new);
        state.unknown.remove(host);
        self.tell(&state);
    }

    /// A worker serves these; none if it cannot be asked.
    pub(super) fn serves(&self, addr: SocketAddr, instances: Vec<Instance>) {
        let mut state = self.state();
        state.unheard.remove(&addr);
        let before = if instances.is_empty() {
            state.served.remove(&addr)
        } else {
            state.served.insert(addr, instances.clone())
        };
        if before.unwrap_or_default() != instances {
            self.show(&state);
        }
        self.tell(&state);
    }

    /// No more is waited for.
    pub(super) fn give_up_waiting(&self) {
        self.heard.send_replace(true);
    }

    /// Waits until every worker has been asked once, or has had its time.
    pub(super) async fn wait(&self) {
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }

    fn tell(&self, state: &State) {
        if state.unknown.is_empty() && state.unheard.is_empty() {
            self.heard.send_if_modified(|heard| !std::mem::replace(heard, true));
        }
    }

    /// Tells the watchers what is there now. A worker that is reached at several addresses is shown at the first.
    fn show(&self, state: &State) {
        let mut now: BTreeMap<Key, &Instance> = BTreeMap::new();
        for instance in state.served.values().flatten() {
            now.entry(instance.key()).or_insert(instance);
        }
        for gone in self.hub.list(&Query::All).iter().map(Instance::key).filter(|key| !now.contains_key(key)) {
            self.hub.remove(&gone);
        }
        now.values().for_each(|instance| self.hub.put(instance));
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::id::{EndpointId, InstanceId};

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn instance(id: u64, port: u16) -> Instance {
        Instance::new(InstanceId(id), EndpointId::new("n", "c", "e"), addr(port))
    }

    #[test]
    fn the_first_round_is_over_when_every_address_of_every_host_has_been_heard() {
        let hosts = ["a", "b"].map(|host| HostPort { host: host.to_owned(), port: 1 });
        let shared = Shared::new(&hosts);
        let is_over = || *shared.heard.borrow();
        shared.looked_up(&hosts[0], [addr(1), addr(2)]);
        shared.serves(addr(1), vec![]);
        shared.looked_up(&hosts[1], []);
        assert!(!is_over());
        shared.serves(addr(2), vec![instance(1, 2)]);
        assert!(is_over());
    }

    #[test]
    fn a_worker_at_two_addresses_is_one_instance_and_stays_with_either() {
        let shared = Shared::new(&[]);
        let shown = || shared.hub.list(&Query::All);
        shared.serves(addr(2), vec![instance(1, 2)]);
        shared.serves(addr(1), vec![instance(1, 1), instance(2, 1)]);
        assert_eq!(shown(), [instance(1, 1), instance(2, 1)]);
        shared.serves(addr(1), vec![]);
        assert_eq!(shown(), [instance(1, 2)]);
        shared.serves(addr(2), vec![]);
        assert_eq!(shown(), []);
    }
}
