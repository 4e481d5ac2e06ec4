//! Keeps the cores told which instances an endpoint has: one watch per endpoint, on a thread of its own that data load
//! cannot starve.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringplane_core::caller::error::CallError;
use ringplane_core::caller::target::Target;
use ringplane_core::caller::target::Way;
use ringplane_core::discovery::instance::{self, Instance, Transport, nats_slug_subject};
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::{Change, Set};
use ringplane_core::discovery::trouble::{Cause, Trouble};
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::retry::backoff::{self, Backoff};
use ringplane_core::rng::Rng;
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
use crate::runtime::cores::{Core, Group};

/// Endpoints that may be waiting for their watch to start.
const QUEUE: usize = 1024;

/// The watched endpoints of one client, by number.
#[derive(Debug)]
pub(crate) struct Watcher {
    /// `None` once the client has been shut down.
    watched: Mutex<Option<Watched>>,
}

#[derive(Debug)]
struct Watched {
    endpoints: HashMap<String, u64>,
    /// The thread ends when this is gone.
    wishes: mpsc::Sender<(EndpointId, u64)>,
}

static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

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
        Ok(Self { watched: Mutex::new(Some(Watched { endpoints: HashMap::new(), wishes })) })
    }

    /// The number of an endpoint, watched from the first time it is asked for.
    pub(crate) fn endpoint(&self, name: &str, group: &Group, policy: &AnyPolicy) -> Result<u64, Error> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Watched { endpoints, wishes } = watched.as_mut().ok_or(Error::Stopped)?;
        if let Some(number) = endpoints.get(name) {
            return Ok(*number);
        }
        let id = EndpointId::parse(name)?;
        let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let policy = policy.clone();
        group.each(move |core| add(core, number, &policy))?;
        wishes.try_send((id, number)).map_err(|error| match error {
            TrySendError::Full(_) => Error::Call(CallError::Overloaded),
            TrySendError::Closed(_) => Error::Stopped,
        })?;
        endpoints.insert(name.to_owned(), number);
        Ok(number)
    }

    /// Ends every watch; nothing is watched or called any more.
    pub(crate) fn close(&self) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn add(core: &Core, number: u64, policy: &AnyPolicy) {
    let mut endpoints = core.endpoints.borrow_mut();
    endpoints.entry(number).or_insert_with(|| core.node.endpoint(policy.clone()));
}

async fn serve(mut wishes: mpsc::Receiver<(EndpointId, u64)>, backend: Arc<dyn Backend>, group: Arc<Group>) {
    let mut watches = tokio::task::JoinSet::new();
    while let Some((endpoint, number)) = wishes.recv().await {
        watches.spawn(follow(endpoint, number, backend.clone(), group.clone()));
    }
}

/// Follows one endpoint until the client is gone. An unreachable registry never empties the set: what was known stays.
async fn follow(endpoint: EndpointId, number: u64, backend: Arc<dyn Backend>, group: Arc<Group>) {
    let mut rng = Rng::new(random_u64());
    let shape = backoff::Config { attempts: u32::MAX, ..backoff::Config::default() };
    let mut backoff = Backoff::new(shape);
    let (mut trouble, epoch) = (Trouble::default(), std::time::Instant::now());
    loop {
        match backend.endpoints().watch(Query::Endpoint(endpoint.clone())).await {
            Ok(watch) => {
                backoff = Backoff::new(shape);
                trouble.settle();
                if !relay(watch, number, &group).await {
                    return;
                }
            }
            Err(error) => {
                if trouble.fail(Cause::Unable(error.to_string()), Instant::ZERO + epoch.elapsed()) {
                    tracing::warn!(%endpoint, %error, "discovery cannot be watched; trying again");
                }
            }
        }
        let pause = backoff.pause(&mut rng).unwrap_or(Duration::from_secs(5));
        tokio::time::sleep(pause).await;
    }
}

/// Passes on what a watch says; `false` once the cores are gone.
async fn relay(mut watch: Watch, number: u64, group: &Group) -> bool {
    let mut set = Set::default();
    let mut synced = false;
    while let Some(change) = watch.next().await {
        let complete = matches!(change, Change::Resync(_));
        let changed = !set.apply(change).is_empty();
        let first = complete && !synced;
        synced |= complete;
        // Half a snapshot is not passed on: calls would crowd onto the instances named first.
        let news = first || (synced && changed);
        if !news {
            continue;
        }
        let targets: Vec<(InstanceId, Target)> = set.iter().map(|instance| (instance.id, target(instance))).collect();
        if !tell(group, number, &targets).await {
            return false;
        }
    }
    true
}

/// Tells every core, for as long as it takes: news that are not passed on would be missed for good. `false` once the cores
/// are gone.
async fn tell(group: &Group, number: u64, targets: &[(InstanceId, Target)]) -> bool {
    loop {
        let targets = targets.to_vec();
        let told = group.each(move |core| {
            let key = core.endpoints.borrow().get(&number).copied();
            if let Some(key) = key {
                core.node.set_instances(key, targets.clone());
            }
        });
        match told {
            Ok(()) => return true,
            Err(SubmitError::Stopped) => return false,
            // The client may have been dropped meanwhile, and this task with it.
            Err(SubmitError::Full) => tokio::task::yield_now().await,
        }
    }
}

/// How calls reach an instance.
fn target(instance: &Instance) -> Target {
    let codec = match instance.codec {
        instance::Codec::Json => Codec::Json,
        instance::Codec::Msgpack => Codec::Msgpack,
    };
    let way = match &instance.transport {
        Transport::Tcp => Way::Frames,
        Transport::Nats(subject) => {
            let slug = nats_slug_subject(instance.id, &instance.endpoint);
            Way::Nats { slug: (slug != *subject).then_some(slug), subject: subject.clone() }
        }
        Transport::Http(url) => Way::Http(url.clone()),
    };
    Target { addr: instance.addr, path: instance.path.as_str().into(), mux: instance.mux.is_some(), codec, way }
}
