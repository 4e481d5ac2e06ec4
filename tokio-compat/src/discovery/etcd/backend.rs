//! The handle of an etcd.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::kind::{self, Kind};
use ringplane_core::discovery::trouble::Cause;
use ringplane_core::discovery::watch::Record;
use ringplane_core::id::InstanceId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::discovery::backend::{Backend, BoxFuture, Claim, Edit, Place, Registration};
use crate::discovery::counters::{Counters, Tally};
use crate::discovery::error::Error;
use crate::discovery::etcd::follower::{Begun, Follower};
use crate::discovery::etcd::keeper::{Command, Keeper};
use crate::discovery::etcd::registry::Registry;
use crate::discovery::hub::{Hub, Watch};
use crate::discovery::rooms::{Rooms, Shape, Stored};
use crate::random::random_u64;

/// Registrations that may wait for the thread; one more waits for room.
const REQUESTS: usize = 256;

/// Tries to change a record before others did, and the pause before each but the first.
const EDITS: u32 = 8;
const EDIT_PAUSE: Duration = Duration::from_millis(100);

/// An etcd shared with other processes. Clones share one thread, one lease and, per query, one watch. An outage changes
/// nothing about the records known and ends nobody's service; records are written again when it is over.
#[derive(Clone, Debug)]
pub struct Etcd {
    owner: Arc<Owner>,
    id: InstanceId,
}

impl Etcd {
    /// Opens the etcd at `endpoints`, separated by commas; `http://` may be left out. Connects and logs in when first needed,
    /// and logs in again whenever etcd forgets that.
    ///
    /// # Errors
    /// [`Error::Registry`] for an endpoint that is no URL, or if there can be no thread. A login or rights that are refused
    /// are [`Error::Refused`] of what needs them first.
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
        let (knobs, tally) = (config.clone(), Tally::default());
        let counted = tally.clone();
        // All of etcd happens there: the thread that opens may be one of a runtime, which cannot be nested.
        let run = move || {
            let connected = connect(&endpoints, &knobs);
            let parts = connected.as_ref().map(|(runtime, registry)| (runtime.handle().clone(), registry.clone()));
            if opened.send(parts.map_err(Clone::clone)).is_ok()
                && let Ok((runtime, registry)) = connected
            {
                runtime.block_on(Keeper::run(registry, knobs, id, requests, counted));
            }
        };
        let thread = thread::Builder::new().name("discovery".into()).spawn(run);
        let thread = Some(thread.map_err(|error| fail(error.to_string()))?);
        let (handle, registry) = opening.recv().map_err(|_| Error::Stopped)?.map_err(fail)?;
        let owner = Owner { registry, config, handle, commands, followed: Rooms::default(), tally, thread };
        Ok(Self { owner: Arc::new(owner), id })
    }
}

/// A runtime and a connection on it.
fn connect(endpoints: &[String], config: &Config) -> Result<(Runtime, Registry), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let registry = runtime.block_on(Registry::connect(endpoints, config)).map_err(|error| error.to_string())?;
    Ok((runtime, registry))
}

impl Backend for Etcd {
    fn instance_id(&self) -> InstanceId {
        self.id
    }

    fn counters(&self) -> Counters {
        self.owner.tally.read()
    }
}

impl<R: Stored> Place<R> for Etcd {
    fn claim(&self, record: R) -> BoxFuture<'_, Result<Registration<R>, Error>> {
        Box::pin(async move {
            let value = record.write().map_err(Error::Record)?.into_bytes();
            let name = record.key();
            let (key, serves) = (R::full(&name), kind::serves::<R>);
            let (reply, answer) = async_channel::bounded(1);
            let command = Command::Register { key: key.clone(), value, serves, reply };
            self.owner.commands.send(command).await.map_err(|_| Error::Stopped)?;
            let stored = answer.recv().await.map_err(|_| Error::Stopped)??;
            let claim = EtcdClaim { key, owner: Arc::clone(&self.owner), released: false };
            let record = R::read(&name, &stored).map_err(Error::Record)?;
            Ok(Registration::new(record, claim))
        })
    }

    fn list(&self, query: R::Query) -> BoxFuture<'_, Result<Vec<R>, Error>> {
        Box::pin(async move {
            let (registry, prefix) = (self.owner.registry.clone(), prefix::<R>(&query));
            let snapshot = self.owner.run(async move { registry.snapshot(&prefix).await }).await?;
            let (_, entries) = snapshot.map_err(|cause| Error::failed("read", &cause))?;
            let mut found = BTreeMap::new();
            for (key, value) in entries {
                match <R as Record>::read(&key, &value) {
                    Some(record) => _ = found.insert(record.key(), record),
                    None => tracing::debug!(key, "ignored a record"),
                }
            }
            found.retain(|key, _| R::is_asked(&query, key));
            Ok(found.into_values().collect())
        })
    }

    fn watch(&self, query: R::Query) -> BoxFuture<'_, Result<Watch<R>, Error>> {
        Box::pin(async move {
            let followed = self.owner.follow::<R>(&query);
            let (mut begun, patience) = (followed.begun.clone(), self.owner.config.etcd.startup);
            let is_decided = |begun: &Begun| match begun {
                Begun::Yes => true,
                Begun::Not(cause) => cause.as_ref().is_some_and(Cause::is_refusal),
            };
            let wait = async move {
                let waited = timeout(patience, async { begun.wait_for(is_decided).await.is_ok() }).await;
                let begun = begun.borrow().clone();
                (waited, begun)
            };
            match self.owner.run(wait).await? {
                (_, Begun::Yes) => Ok(Arc::clone(&followed.hub).watch(query, Some(followed))),
                (Ok(true), Begun::Not(Some(cause))) => Err(Error::failed("watch", &cause)),
                (_, Begun::Not(cause)) => Err(Error::late("watch", cause.as_ref())),
            }
        })
    }
}

/// What the whole keys asked for begin with.
fn prefix<R: Kind>(query: &R::Query) -> String {
    format!("{}/{}", R::BUCKET, R::prefix(query))
}

/// One watch of etcd, shared by everybody in this process who asks for the same.
struct Followed<R: Kind> {
    hub: Arc<Hub<R>>,
    begun: watch::Receiver<Begun>,
    task: AbortHandle,
    /// The thread lives as long as its watches.
    _owner: Arc<Owner>,
}

impl<R: Kind> Drop for Followed<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The watches there are of a kind, by prefix.
enum Watches {}

impl Shape for Watches {
    type Room<R: Kind> = Mutex<BTreeMap<String, Weak<Followed<R>>>>;
}

/// Ends the thread with the last handle.
struct Owner {
    registry: Registry,
    config: Config,
    handle: Handle,
    commands: async_channel::Sender<Command>,
    followed: Rooms<Watches>,
    tally: Tally,
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

    fn follow<R: Stored>(self: &Arc<Self>, query: &R::Query) -> Arc<Followed<R>> {
        let prefix = prefix::<R>(query);
        let mut all = R::room(&self.followed).lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, followed| followed.strong_count() > 0);
        if let Some(followed) = all.get(&prefix).and_then(Weak::upgrade) {
            return followed;
        }
        let hub = Arc::new(Hub::default());
        let (sender, begun) = watch::channel(Begun::Not(None));
        let (registry, config) = (self.registry.clone(), self.config.clone());
        let (told, tally) = (Arc::clone(&hub), self.tally.clone());
        let task = self.handle.spawn(Follower::run(registry, prefix.clone(), config, told, sender, tally));
        let followed = Followed { hub, begun, task: task.abort_handle(), _owner: Arc::clone(self) };
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

impl<R: Kind> Claim<R> for EtcdClaim {
    fn release(mut self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            self.released = true;
            let (reply, answer) = async_channel::bounded(1);
            let command = Command::Unregister { key: self.key.clone(), reply: Some(reply) };
            self.owner.commands.send(command).await.map_err(|_| Error::Stopped)?;
            answer.recv().await.map_err(|_| Error::Stopped)?
        })
    }

    fn edit(&self, edit: Edit<R>) -> BoxFuture<'_, Result<R, Error>> {
        Box::pin(async move {
            let (registry, key) = (self.owner.registry.clone(), self.key.clone());
            let (stored, value) = self.owner.run(async move { swap(&registry, key, &edit).await }).await??;
            // What is looked after from now on. A look in between takes either value for ours.
            let command = Command::Replace { key: self.key.clone(), value };
            self.owner.commands.send(command).await.map_err(|_| Error::Stopped)?;
            Ok(stored)
        })
    }
}

/// Compares and swaps until nobody was faster; the record and its value as they are then.
async fn swap<R: Kind>(registry: &Registry, key: String, edit: &Edit<R>) -> Result<(R, Vec<u8>), Error> {
    let fail = |cause| Error::failed("write to", &cause);
    let name = kind::parse_full::<R>(&key).ok_or_else(|| Error::Exists { key: key.clone() })?;
    for attempt in 0..EDITS {
        if attempt > 0 {
            sleep(EDIT_PAUSE).await;
        }
        // One that is gone is about to be written again.
        let Some(found) = registry.get(&key).await.map_err(fail)? else { continue };
        let stored = R::read(&name, &found.value).map_err(Error::Record)?;
        let Some(edited) = edit(&stored).map_err(Error::Record)? else { return Ok((stored, found.value)) };
        let value = edited.write().map_err(Error::Record)?.into_bytes();
        if registry.swap(&key, &found, value.clone()).await.map_err(fail)? {
            return Ok((edited, value));
        }
    }
    Err(Error::Contended { key })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering};

    use ringplane_core::discovery::card::Card;
    use ringplane_core::discovery::model::Model;
    use ringplane_core::id::EndpointId;
    use ringplane_servers::etcd::Etcd as Server;

    use super::*;

    fn model() -> Model {
        let (endpoint, card) = (EndpointId::new("n", "c", "e"), Card::new(r#"{"display_name":"m"}"#).unwrap());
        Model { endpoint, id: InstanceId(1), suffix: None, card }
    }

    /// Writes the model anew, on a connection of its own.
    fn rewrite(endpoint: &str) {
        let (runtime, registry) = connect(&[endpoint.to_owned()], &Config::default()).unwrap();
        let put = async {
            let mut client = registry.session.client.kv_client();
            client.put(Model::full(&model().key()), model().write().unwrap(), None).await.unwrap();
        };
        runtime.block_on(put);
    }

    /// Changes taints while somebody else writes, `faster` times before we do; and how often that was tried.
    fn contended(endpoint: &str, faster: u32) -> (Result<(Model, Vec<u8>), Error>, u32) {
        rewrite(endpoint);
        let (tries, rival) = (Arc::new(AtomicU32::new(0)), endpoint.to_owned());
        let tried = Arc::clone(&tries);
        let edit: Edit<Model> = Arc::new(move |stored: &Model| {
            if tried.fetch_add(1, Ordering::Relaxed) < faster {
                let rival = rival.clone();
                thread::spawn(move || rewrite(&rival)).join().unwrap();
            }
            stored.with_taints(&BTreeSet::from(["a".to_owned()]))
        });
        let (runtime, registry) = connect(&[endpoint.to_owned()], &Config::default()).unwrap();
        let swapped = runtime.block_on(swap(&registry, Model::full(&model().key()), &edit));
        (swapped, tries.load(Ordering::Relaxed))
    }

    #[test]
    fn a_record_that_others_change_is_tried_again_eight_times_in_all() {
        let Some(server) = Server::start() else { return };
        let endpoint = server.url().strip_prefix("etcd:").unwrap();
        let (swapped, tries) = contended(endpoint, 7);
        assert_eq!((swapped.unwrap().0.card.facts().taints.len(), tries), (1, 8));
        let (swapped, tries) = contended(endpoint, 8);
        assert!(matches!(swapped, Err(Error::Contended { .. })) && tries == 8, "{swapped:?} {tries}");
    }
}
