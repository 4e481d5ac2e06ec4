//! Keeps the cores told which instances an endpoint has: one watch per endpoint, on a thread of its own that data load
//! cannot starve.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
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
use ringplane_tokio::discovery::{Backend, Watch};
use ringplane_tokio::random::random_u64;
use ringplane_tokio::tcp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::error::Error;
use crate::runtime::cores::{Core, Group, Known};

/// Endpoints that may be waiting for their watch to start.
const QUEUE: usize = 1024;

/// The watched endpoints of one client, by name.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// `None` once the client has been shut down.
    watched: RwLock<Option<Watched>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    endpoints: HashMap<String, Arc<Known>>,
    /// The thread ends when this is gone.
    wishes: mpsc::Sender<(EndpointId, Arc<Known>)>,
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Watcher {
    /// Starts the thread. It ends with the client.
    pub(crate) fn start(group: Arc<Group>, backend: Arc<dyn Backend>) -> Result<Self, Error> {
        let (wishes, inbox) = mpsc::channel(QUEUE);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            match runtime {
                Ok(runtime) => runtime.block_on(serve(inbox, backend, group)),
                Err(error) => tracing::error!(%error, "discovery cannot be watched"),
            }
        };
        let spawned = std::thread::Builder::new().name("ringplane-watch".to_owned()).spawn(run);
        spawned.map_err(|error| Error::Tokio(tcp::Error::Thread(error)))?;
        let watched = RwLock::new(Some(Watched { endpoints: HashMap::new(), wishes }));
        Ok(Self { watched, closed: AtomicBool::new(false) })
    }

    /// An endpoint, watched from the first time it is asked for. The threads learn of it with the first thing they hear
    /// about it, a call or its instances.
    pub(crate) fn endpoint(&self, name: &str, policy: &AnyPolicy) -> Result<Arc<Known>, Error> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = watched.as_ref().ok_or(Error::Stopped)?.endpoints.get(name) {
            return Ok(known.clone());
        }
        drop(watched);
        let id = EndpointId::parse(name)?;
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        let Watched { endpoints, wishes } = watched.as_mut().ok_or(Error::Stopped)?;
        if let Some(known) = endpoints.get(name) {
            return Ok(known.clone());
        }
        let known = Known { number: NUMBERS.fetch_add(1, Ordering::Relaxed), policy: policy.clone() };
        let known = Arc::new(known);
        wishes.try_send((id, known.clone())).map_err(|error| match error {
            TrySendError::Full(_) => Error::Call(CallError::Overloaded),
            TrySendError::Closed(_) => Error::Stopped,
        })?;
        endpoints.insert(name.to_owned(), known.clone());
        Ok(known)
    }

    /// Ends every watch; nothing is watched or called any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *self.watched.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it has been closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

async fn serve(mut wishes: mpsc::Receiver<(EndpointId, Arc<Known>)>, backend: Arc<dyn Backend>, group: Arc<Group>) {
    let mut watches = tokio::task::JoinSet::new();
    while let Some((endpoint, known)) = wishes.recv().await {
        watches.spawn(follow(endpoint, known, backend.clone(), group.clone()));
    }
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
    let tell = move |core: &Rc<Core>| news.tell(core, core.key(&known));
    loop {
        match group.each(tell.clone()).await {
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
    let labels = Labels::new(instance.device.iter().map(|device| (Labels::DEVICE, device.name())));
    let (addr, path, mux) = (instance.addr, instance.path.as_str().into(), instance.mux.is_some());
    Target { addr, path, mux, codec, transport, labels }
}
