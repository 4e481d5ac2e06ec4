//! The handle of an etcd.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::{self, JoinHandle};

use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::{BUCKET, Query};
use ringplane_core::discovery::record;
use ringplane_core::discovery::watch::Record;
use ringplane_core::id::InstanceId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::discovery::backend::{Backend, BoxFuture, Claim, Error, Registration, random_u64};
use crate::discovery::etcd::follower::Follower;
use crate::discovery::etcd::keeper::{Command, Keeper};
use crate::discovery::etcd::registry::Registry;
use crate::discovery::hub::{Hub, Watch};

/// Registrations that may wait for the thread; one more waits for room.
const REQUESTS: usize = 256;

/// An etcd shared with other processes. Clones share one thread, one lease and, per query, one watch. An outage changes
/// nothing about the instances known and ends nobody's service; records are written again when it is over.
#[derive(Clone, Debug)]
pub struct Etcd {
    owner: Arc<Owner>,
    id: InstanceId,
}

impl Etcd {
    /// Opens the etcd at `endpoints`, separated by commas; `http://` may be left out. Connects when first needed.
    ///
    /// # Errors
    /// [`Error::Registry`] for an endpoint that is no URL, a refused user, or if there can be no thread.
    pub fn open(endpoints: &str, config: Config) -> Result<Self, Error> {
        let fail = |what: String| Error::Registry { doing: "open", what };
        let endpoints: Vec<String> =
            endpoints.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        if endpoints.is_empty() {
            return Err(fail("etcd needs a URL: etcd:http://localhost:2379".to_owned()));
        }
        // Lease ids are positive numbers of 63 bits, and ours is the instance's id as well.
        let id = InstanceId((random_u64() >> 1).max(1));
        let (commands, requests) = async_channel::bounded(REQUESTS);
        let (opened, opening) = mpsc::channel();
        let knobs = config.clone();
        // All of etcd happens there: the thread that opens may be one of a runtime, which cannot be nested.
        let run = move || {
            let connected = connect(&endpoints, &knobs);
            let parts = connected.as_ref().map(|(runtime, registry)| (runtime.handle().clone(), registry.clone()));
            if opened.send(parts.map_err(Clone::clone)).is_ok()
                && let Ok((runtime, registry)) = connected
            {
                runtime.block_on(Keeper::run(registry, knobs, id, requests));
            }
        };
        let thread = thread::Builder::new().name("discovery".into()).spawn(run);
        let thread = Some(thread.map_err(|error| fail(error.to_string()))?);
        let (handle, registry) = opening.recv().map_err(|_| Error::Stopped)?.map_err(fail)?;
        let owner = Owner { registry, config, handle, commands, followed: Mutex::default(), thread };
        Ok(Self { owner: Arc::new(owner), id })
    }
}

/// A runtime and a connection on it.
fn connect(endpoints: &[String], config: &Config) -> Result<(Runtime, Registry), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let connected =
        runtime.block_on(async { timeout(config.etcd.startup, Registry::connect(endpoints, config)).await });
    match connected {
        Ok(Ok(registry)) => Ok((runtime, registry)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

impl Backend for Etcd {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, Error>> {
        Box::pin(async move {
            let value = record::write(&instance).map_err(Error::Record)?.into_bytes();
            let key = instance.key().full();
            let (reply, answer) = async_channel::bounded(1);
            let command = Command::Register { key: key.clone(), value, reply };
            self.owner.commands.send(command).await.map_err(|_| Error::Stopped)?;
            answer.recv().await.map_err(|_| Error::Stopped)??;
            Ok(Registration::new(instance, EtcdClaim { key, owner: Arc::clone(&self.owner), released: false }))
        })
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Vec<Instance>, Error>> {
        Box::pin(async move {
            let (registry, prefix) = (self.owner.registry.clone(), query.prefix());
            let snapshot = self.owner.run(async move { registry.snapshot(&prefix).await }).await?;
            let (_, entries) = snapshot.map_err(|what| Error::Registry { doing: "read", what })?;
            let mut found = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                match <Instance as Record>::read(&key, &value) {
                    Some(instance) => found.push(instance),
                    None => tracing::debug!(key, "ignored an instance's record"),
                }
            }
            found.sort_by_key(Instance::key);
            Ok(found)
        })
    }

    fn watch(&self, query: Query) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(async move {
            let followed = self.owner.follow(&query);
            let (mut synced, patience) = (followed.synced.clone(), self.owner.config.etcd.startup);
            let wait = async move { timeout(patience, async { synced.wait_for(|yes| *yes).await.is_ok() }).await };
            match self.owner.run(wait).await? {
                Ok(true) => Ok(Arc::clone(&followed.hub).watch(query, Some(followed))),
                _ => Err(Error::Registry { doing: "watch", what: "no answer in time".to_owned() }),
            }
        })
    }
}

/// One watch of etcd, shared by everybody in this process who asks for the same.
struct Followed {
    hub: Arc<Hub>,
    synced: watch::Receiver<bool>,
    task: AbortHandle,
    /// The thread lives as long as its watches.
    _owner: Arc<Owner>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends the thread with the last handle.
struct Owner {
    registry: Registry,
    config: Config,
    handle: Handle,
    commands: async_channel::Sender<Command>,
    followed: Mutex<BTreeMap<String, Weak<Followed>>>,
    thread: Option<JoinHandle<()>>,
}

impl Owner {
    /// Runs a call on the thread of discovery, whatever executor waits for it.
    async fn run<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        let (reply, answer) = async_channel::bounded(1);
        self.handle.spawn(async move {
            let _ = reply.try_send(call.await);
        });
        answer.recv().await.map_err(|_| Error::Stopped)
    }

    fn follow(self: &Arc<Self>, query: &Query) -> Arc<Followed> {
        let prefix = query.prefix();
        debug_assert!(prefix.starts_with(BUCKET), "{prefix}");
        let mut all = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, followed| followed.strong_count() > 0);
        if let Some(followed) = all.get(&prefix).and_then(Weak::upgrade) {
            return followed;
        }
        let hub = Arc::new(Hub::default());
        let (sender, synced) = watch::channel(false);
        let (registry, config) = (self.registry.clone(), self.config.clone());
        let task = self.handle.spawn(Follower::run(registry, prefix.clone(), config, Arc::clone(&hub), sender));
        let followed = Followed { hub, synced, task: task.abort_handle(), _owner: Arc::clone(self) };
        let followed = Arc::new(followed);
        all.insert(prefix, Arc::downgrade(&followed));
        followed
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.commands.close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// A record of ours.
struct EtcdClaim {
    key: String,
    owner: Arc<Owner>,
    released: bool,
}

impl Claim for EtcdClaim {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            self.released = true;
            let (reply, answer) = async_channel::bounded(1);
            let command = Command::Unregister { key: self.key.clone(), reply: Some(reply) };
            self.owner.commands.send(command).await.map_err(|_| Error::Stopped)?;
            answer.recv().await.map_err(|_| Error::Stopped)?
        })
    }
}

impl Drop for EtcdClaim {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let command = Command::Unregister { key: self.key.clone(), reply: None };
        if self.owner.commands.try_send(command).is_err() {
            tracing::warn!(key = self.key, "a registration stays until its process ends");
        }
    }
}
