//! Keeps the cores told which instances an endpoint has: one watch per endpoint, on a thread of its own that data load
//! cannot starve. Endpoints that nobody uses any more are let go.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::EndpointKey;
use ringplane_core::caller::target::{self, Target};
use ringplane_core::chain::Chain;
use ringplane_core::discovery::instance::{self, Instance, Transport, nats_slug_subject};
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::{Change, Set};
use ringplane_core::discovery::trouble::{Cause, Trouble};
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::retry::backoff::{self, Backoff};
use ringplane_core::rng::Rng;
use ringplane_core::route::labels::Labels;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::time::Instant;
use ringplane_core::wire::codec::Codec;
use ringplane_driver::error::SubmitError;
use ringplane_tokio::discovery::{Backend, Counters, Watch};
use ringplane_tokio::random::random_u64;
use ringplane_tokio::tcp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::error::Error;
#[cfg(feature = "metrics")]
use crate::observe::metrics::sources::Endpoints;
use crate::runtime::config::Config;
use crate::runtime::cores::{Core, ForEach, Group};
use crate::runtime::known::Known;
use crate::runtime::upkeep::Upkeep;

/// The watched endpoints of one client, by name.
#[derive(Debug)]
pub(crate) struct Watcher {
    watched: Arc<Names>,
    closed: AtomicBool,
    /// The thread, and the watches on it.
    upkeep: Upkeep,
    /// How many may be kept.
    most: usize,
}

/// `None` once the client has been shut down.
type Names = RwLock<Option<Watched>>;

#[derive(Debug)]
struct Watched {
    endpoints: HashMap<String, Entry>,
    /// The thread keeps it, and lets go of it: that may take a while.
    backend: Weak<dyn Backend>,
    /// The thread ends when this is gone.
    wishes: mpsc::Sender<(EndpointId, Arc<Known>)>,
}

#[derive(Debug)]
struct Entry {
    known: Arc<Known>,
    /// Whether it was asked for since the last look at what is idle.
    used: AtomicBool,
}

impl Entry {
    fn ask(&self) -> Arc<Known> {
        // The line stays shared among those that ask all the time.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.known.clone()
    }

    /// Whether nobody asked for it lately, and nobody but this entry and its watch has it.
    fn is_idle(&self) -> bool {
        !self.used.load(Ordering::Relaxed) && Arc::strong_count(&self.known) <= 2
    }
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Watcher {
    /// Starts the thread. It ends with the client.
    pub(crate) fn start(group: Arc<Group>, backend: Arc<dyn Backend>, config: &Config) -> Result<Self, Error> {
        let (wishes, inbox) = mpsc::channel(config.max_endpoints);
        let counted = Arc::downgrade(&backend);
        let watched = Watched { endpoints: HashMap::new(), backend: counted, wishes };
        let watched = Arc::new(RwLock::new(Some(watched)));
        let upkeep = group.upkeep().below();
        let (names, below) = (Arc::downgrade(&watched), upkeep.below());
        let keeper = Keeper { names, backend, group, watches: HashMap::new(), upkeep: below };
        let serving = upkeep.track(keeper.serve(inbox, config.endpoint_idle));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            match runtime {
                Ok(runtime) => _ = runtime.block_on(serving),
                Err(error) => tracing::error!(%error, "discovery cannot be watched"),
            }
        };
        let spawned = std::thread::Builder::new().name("ringplane-watch".to_owned()).spawn(run);
        spawned.map_err(|error| Error::Tokio(tcp::Error::Thread(error)))?;
        Ok(Self { watched, closed: AtomicBool::new(false), upkeep, most: config.max_endpoints })
    }

    /// An endpoint, watched from the first time it is asked for. The threads learn of it with the first thing they hear
    /// about it, a call or its instances.
    pub(crate) fn endpoint(&self, name: &str, policy: &AnyPolicy) -> Result<Arc<Known>, Error> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = watched.as_ref().ok_or(Error::Stopped)?.endpoints.get(name) {
            return Ok(entry.ask());
        }
        drop(watched);
        let id = EndpointId::parse(name)?;
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        let watched = watched.as_mut().ok_or(Error::Stopped)?;
        if let Some(entry) = watched.endpoints.get(name) {
            return Ok(entry.ask());
        }
        self.keep(watched, name.to_owned(), id, policy.clone())
    }

    /// An endpoint with a policy of its own: another one for each time that it is asked for.
    pub(crate) fn endpoint_with(&self, name: &str, policy: AnyPolicy) -> Result<Arc<Known>, Error> {
        let id = EndpointId::parse(name)?;
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        let watched = watched.as_mut().ok_or(Error::Stopped)?;
        // No endpoint has such a name, so that nobody finds it by one.
        let apart = format!("{name} {}", NUMBERS.load(Ordering::Relaxed));
        self.keep(watched, apart, id, policy)
    }

    /// Has an endpoint watched, and keeps it under `name`.
    fn keep(
        &self,
        watched: &mut Watched,
        name: String,
        id: EndpointId,
        policy: AnyPolicy,
    ) -> Result<Arc<Known>, Error> {
        if watched.endpoints.len() >= self.most {
            return Err(Error::Call(CallError::Overloaded));
        }
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let known = Arc::new(Known { number, name: id.to_string(), policy });
        watched.wishes.try_send((id, known.clone())).map_err(|error| match error {
            TrySendError::Full(_) => Error::Call(CallError::Overloaded),
            TrySendError::Closed(_) => Error::Stopped,
        })?;
        watched.endpoints.insert(name, Entry { known: known.clone(), used: AtomicBool::new(true) });
        Ok(known)
    }

    /// Every endpoint that is kept, by name: several of one name if they have policies of their own.
    #[cfg(feature = "status")]
    pub(crate) fn all(&self) -> Vec<(String, Arc<Known>)> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        let endpoints = watched.iter().flat_map(|watched| &watched.endpoints);
        let name = |name: &String| name.split(' ').next().unwrap_or_default().to_owned();
        let mut all: Vec<_> = endpoints.map(|(key, entry)| (name(key), entry.known.clone())).collect();
        all.sort_by(|(one, first), (other, second)| (one, first.number).cmp(&(other, second.number)));
        all
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        watched.as_ref().map_or(0, |watched| watched.endpoints.len())
    }

    /// What discovery has counted; nothing once it has been closed.
    pub(crate) fn counters(&self) -> Counters {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        let backend = watched.as_ref().and_then(|watched| watched.backend.upgrade());
        drop(watched);
        backend.map_or_else(Counters::default, |backend| backend.counters())
    }

    /// Ends every watch; nothing is watched or called any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *self.watched.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The same, and waits until the thread and its watches have let go.
    pub(crate) async fn end(&self) {
        self.close();
        self.upkeep.end().await;
    }

    /// Whether it has been closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(feature = "metrics")]
impl Endpoints for Watcher {
    fn endpoints(&self) -> Vec<(String, u64)> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        let all = watched.iter().flat_map(|watched| &watched.endpoints);
        all.map(|(name, entry)| (name.clone(), entry.known.number)).collect()
    }
}

/// The thread's part: starts watches and ends those of endpoints that nobody uses any more.
struct Keeper {
    names: Weak<Names>,
    backend: Arc<dyn Backend>,
    group: Arc<Group>,
    /// By the numbers of their endpoints.
    watches: HashMap<u64, JoinHandle<Option<()>>>,
    upkeep: Upkeep,
}

impl Keeper {
    /// Runs until the client is gone.
    async fn serve(mut self, mut wishes: mpsc::Receiver<(EndpointId, Arc<Known>)>, idle: Duration) {
        let mut looks = tokio::time::interval(idle);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wish = wishes.recv() => {
                    let Some((endpoint, known)) = wish else { return };
                    if Arc::strong_count(&known) == 1 {
                        // It was let go before its watch began: nobody asks for it or holds it, and nobody can any more.
                        continue;
                    }
                    let number = known.number;
                    let following = follow(endpoint, known, self.backend.clone(), self.group.clone());
                    self.watches.insert(number, tokio::spawn(self.upkeep.track(following)));
                }
                _ = looks.tick() => self.let_go().await,
            }
        }
    }

    /// Ends the watches of endpoints that are neither asked for nor held, and of which no core has calls under way.
    async fn let_go(&mut self) {
        let idle = self.idle();
        if idle.is_empty() {
            return;
        }
        let Some(called) = called(&self.group, &idle).await else { return };
        let gone: Arc<[u64]> = self.forget(&idle, &called).into();
        for number in gone.iter() {
            if let Some(watch) = self.watches.remove(number) {
                watch.abort();
                // What it had begun to tell the cores is told before they forget.
                let _ = watch.await;
            }
        }
        let forget = move |core: &Rc<Core>| gone.iter().for_each(|number| core.forget(*number));
        insist(&self.group, forget).await;
    }

    /// The endpoints that seem idle. The others count as idle from now on, until they are asked for.
    fn idle(&self) -> HashMap<u64, String> {
        let Some(names) = self.names.upgrade() else { return HashMap::new() };
        let watched = names.read().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = &*watched else { return HashMap::new() };
        let mut idle = HashMap::new();
        for (name, entry) in &watched.endpoints {
            if entry.is_idle() {
                idle.insert(entry.known.number, name.clone());
            }
            entry.used.store(false, Ordering::Relaxed);
        }
        idle
    }

    /// Removes those that are idle still, and answers their numbers. Nobody can have made a call of one in between: to
    /// have it they would have asked for it, or hold it.
    fn forget(&self, idle: &HashMap<u64, String>, called: &HashSet<u64>) -> Vec<u64> {
        let Some(names) = self.names.upgrade() else { return Vec::new() };
        let mut watched = names.write().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = &mut *watched else { return Vec::new() };
        let mut gone = Vec::new();
        for (number, name) in idle.iter().filter(|(number, _)| !called.contains(number)) {
            if watched.endpoints.get(name).is_some_and(|entry| entry.known.number == *number && entry.is_idle()) {
                watched.endpoints.remove(name);
                gone.push(*number);
            }
        }
        gone
    }
}

/// Those of the endpoints that a core has calls of under way; `None` if the cores are gone.
async fn called(group: &Arc<Group>, numbers: &HashMap<u64, String>) -> Option<HashSet<u64>> {
    let numbers: Arc<[u64]> = numbers.keys().copied().collect();
    let called = Arc::new(Mutex::new(HashSet::new()));
    let (done, mut answers) = mpsc::channel::<()>(group.len());
    let shared = called.clone();
    let asked = group.each(move |core| {
        let here = numbers.iter().copied().filter(|number| core.is_called(*number));
        shared.lock().unwrap_or_else(PoisonError::into_inner).extend(here);
        let _ = done.try_send(());
    });
    asked.await.ok()?;
    for _ in 0..group.len() {
        answers.recv().await?;
    }
    let called = std::mem::take(&mut *called.lock().unwrap_or_else(PoisonError::into_inner));
    Some(called)
}

/// Follows one endpoint until the client is gone. An unreachable registry never empties the set: what was known stays.
async fn follow(endpoint: EndpointId, known: Arc<Known>, backend: Arc<dyn Backend>, group: Arc<Group>) {
    let mut rng = Rng::new(random_u64());
    let shape = backoff::Config { attempts: u32::MAX, ..backoff::Config::default() };
    let mut backoff = Backoff::new(shape);
    let (mut trouble, epoch) = (Trouble::default(), std::time::Instant::now());
    loop {
        match backend.endpoints().watch(Query::Endpoint(endpoint.clone())).await {
            Ok(watch) => {
                backoff = Backoff::new(shape);
                trouble.settle();
                if !relay(watch, &known, &group).await {
                    return;
                }
            }
            Err(error) => {
                if trouble.fail(Cause::Unable(Chain(&error).to_string()), Instant::ZERO + epoch.elapsed()) {
                    tracing::warn!(%endpoint, error = %Chain(&error), "discovery cannot be watched; trying again");
                }
            }
        }
        let pause = backoff.pause(&mut rng).unwrap_or(Duration::from_secs(5));
        tokio::time::sleep(pause).await;
    }
}

/// What cores are told of an endpoint's instances; they share it.
#[derive(Clone)]
enum News {
    /// All there are.
    Whole(Arc<[(InstanceId, Target)]>),
    /// Those that are gone, then those that are new or another.
    Changes(Arc<[InstanceId]>, Arc<[(InstanceId, Target)]>),
}

impl News {
    fn tell(&self, core: &Core, key: EndpointKey) {
        match self {
            Self::Whole(all) => core.node.set_instances(key, all.to_vec()),
            Self::Changes(gone, here) => {
                gone.iter().for_each(|id| core.node.remove_instance(key, *id));
                here.iter().for_each(|(id, target)| core.node.add_instance(key, *id, target.clone()));
            }
        }
    }
}

/// Passes on what a watch says; `false` once the cores are gone.
async fn relay(mut watch: Watch, known: &Arc<Known>, group: &Arc<Group>) -> bool {
    let mut set = Set::default();
    let mut synced = false;
    let reached = |instance: &Instance| (instance.id, target(instance));
    while let Some(change) = watch.next().await {
        let complete = matches!(change, Change::Resync(_));
        let diff = set.apply(change);
        let first = complete && !synced;
        synced |= complete;
        // Half a snapshot is not passed on: calls would crowd onto the instances named first.
        let news = if first {
            News::Whole(set.iter().map(reached).collect())
        } else if synced && !diff.is_empty() {
            let here = diff.added.iter().chain(&diff.updated).map(reached).collect();
            News::Changes(diff.removed.iter().map(|instance| instance.id).collect(), here)
        } else {
            continue;
        };
        if !tell(group, known, news).await {
            return false;
        }
    }
    true
}

/// Tells every core, for as long as it takes: news that are not passed on would be missed for good. `false` once the cores
/// are gone.
async fn tell(group: &Arc<Group>, known: &Arc<Known>, news: News) -> bool {
    let known = known.clone();
    insist(group, move |core: &Rc<Core>| news.tell(core, core.key(&known))).await
}

/// Runs `job` on every core, for as long as it takes; `false` once the cores are gone.
async fn insist(group: &Arc<Group>, job: impl ForEach) -> bool {
    loop {
        match group.each(job.clone()).await {
            Ok(()) => return true,
            Err(SubmitError::Stopped) => return false,
            Err(SubmitError::Full) => {}
        }
    }
}

/// How calls reach an instance.
fn target(instance: &Instance) -> Target {
    let codec = match instance.codec {
        instance::Codec::Json => Codec::Json,
        instance::Codec::Msgpack => Codec::Msgpack,
    };
    let transport = match &instance.transport {
        Transport::Tcp => target::Transport::Tcp,
        Transport::Nats(subject) => {
            let slug = nats_slug_subject(instance.id, &instance.endpoint);
            target::Transport::Nats { slug: (slug != *subject).then_some(slug), subject: subject.clone() }
        }
        Transport::Http(url) => target::Transport::Http(url.clone()),
    };
    let device = instance.device.iter().map(|device| (Labels::DEVICE, device.name().to_owned()));
    let capacity = instance.capacity.iter().map(|capacity| (Labels::CAPACITY, capacity.to_string()));
    let labels = Labels::new(device.chain(capacity));
    let (addr, path, mux) = (instance.addr, instance.path.as_str().into(), instance.mux.is_some());
    Target { addr, path, mux, codec, transport, labels }
}
