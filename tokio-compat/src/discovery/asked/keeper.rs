//! The thread that looks hosts up and asks workers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use crate::discovery::asked::hosts::HostPort;
use crate::discovery::asked::question;
use crate::discovery::asked::shared::Shared;
use crate::discovery::asked::timing::{INTERVAL, LOOKUP, PATIENCE};

/// Addresses that are asked; further ones are left out.
const MOST: usize = 1024;

pub(super) fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Looks up and asks until `stop` is dropped.
pub(super) fn run(runtime: LocalRuntime, hosts: Vec<HostPort>, shared: Arc<Shared>, stop: oneshot::Receiver<()>) {
    runtime.block_on(async {
        let keeper = Rc::new(Keeper { shared: shared.clone(), workers: RefCell::default() });
        for host in hosts {
            spawn_local(keeper.clone().follow(host));
        }
        spawn_local(async move {
            tokio::time::sleep(PATIENCE).await;
            shared.give_up_waiting();
        });
        let _ = stop.await;
    });
    // A look-up that hangs is not waited for.
    runtime.shutdown_background();
}

struct Keeper {
    shared: Arc<Shared>,
    workers: RefCell<BTreeMap<SocketAddr, Worker>>,
}

/// A worker that is asked, for the hosts that stand for its address.
struct Worker {
    hosts: BTreeSet<HostPort>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Keeps up with the addresses of a host.
    async fn follow(self: Rc<Self>, host: HostPort) {
        if let Some(ip) = host.ip() {
            return self.found(&host, [SocketAddr::new(ip, host.port)].into());
        }
        let mut failing = false;
        loop {
            match tokio::net::lookup_host((host.host.as_str(), host.port)).await {
                Ok(addrs) => {
                    failing = false;
                    self.found(&host, addrs.collect());
                }
                Err(error) => {
                    // What was known stays, and is asked on.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(host = host.host, %error, "a host's addresses cannot be looked up; trying again");
                    }
                    self.shared.tally.lock().discovered.lost += 1;
                    self.shared.looked_up(&host, []);
                }
            }
            tokio::time::sleep(LOOKUP).await;
        }
    }

    /// These are the addresses of the host: workers that are new are asked, those that no host stands for are left.
    fn found(self: &Rc<Self>, host: &HostPort, addrs: BTreeSet<SocketAddr>) {
        let mut workers = self.workers.borrow_mut();
        let mut gone = Vec::new();
        for (addr, worker) in workers.iter_mut().filter(|(addr, _)| !addrs.contains(addr)) {
            if worker.hosts.remove(host) && worker.hosts.is_empty() {
                gone.push(*addr);
            }
        }
        for addr in gone {
            if let Some(worker) = workers.remove(&addr) {
                worker.task.abort();
            }
            self.shared.serves(addr, Vec::new());
        }
        let mut new = Vec::new();
        // One address of a name is as good as another; of a worker's only one somebody wants to know why it is silent.
        let alone = addrs.len() == 1;
        for addr in addrs {
            if let Some(worker) = workers.get_mut(&addr) {
                worker.hosts.insert(host.clone());
            } else if workers.len() < MOST {
                let task = spawn_local(self.clone().keep_asking(addr, alone));
                workers.insert(addr, Worker { hosts: [host.clone()].into(), task });
                new.push(addr);
            } else {
                tracing::warn!(%addr, most = MOST, "too many workers to ask; one is left out");
            }
        }
        self.shared.looked_up(host, new);
    }

    async fn keep_asking(self: Rc<Self>, addr: SocketAddr, alone: bool) {
        let mut failing = false;
        loop {
            let told = |instances| {
                failing = false;
                self.shared.tally.lock().discovered.snapshots += 1;
                self.shared.serves(addr, instances);
            };
            let end = question::ask(addr, told).await;
            self.shared.tally.lock().discovered.lost += 1;
            self.shared.serves(addr, Vec::new());
            match std::mem::replace(&mut failing, true) {
                false if alone => tracing::warn!(%addr, why = %end, "a worker does not say what it serves"),
                _ => tracing::debug!(%addr, why = %end, "a worker does not say what it serves"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
