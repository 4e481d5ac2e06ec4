//! A group of driver threads, each with a node: where workers and clients live.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringplane_core::buf::slab::Key;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{EndpointKey, Request};
#[cfg(feature = "metrics")]
use ringplane_core::caller::view::InstanceView;
use ringplane_core::local::job::Handler;
use ringplane_core::local::{Env, Host, LocalCall, LocalNode};
use ringplane_core::node::Node;
use ringplane_core::protocol::Protocol;
use ringplane_core::worker::canary::Stats as CanaryStats;
use ringplane_core::{caller, worker};
use ringplane_driver::config::Given;
use ringplane_driver::error::SubmitError;
use ringplane_driver::handle::{Driver, Handle};
use ringplane_driver::mailbox::Parcel;
use ringplane_driver::stats as driver;
use ringplane_tokio::random::random_u64;
use ringplane_tokio::tcp::{self, Here};

use crate::error::Error;
use crate::runtime::background::{background, enter};
use crate::runtime::config::{Config, DriverChoice};
use crate::runtime::crossing::Crossing;
use crate::runtime::driver::{DriverInfo, Leftovers, Start, choose, own_runtime, start};
use crate::runtime::hub::Wakes;
use crate::runtime::known::Known;
use crate::runtime::observers::Observers;
use crate::runtime::port::Port;
use crate::runtime::pump::{Pump, lose};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::upkeep::Upkeep;
use crate::runtime::watchdog::Watched;

/// What each thread of a group keeps.
pub(crate) struct Core {
    group: u64,
    /// Which of the group's threads this is, from 0.
    pub(crate) index: usize,
    pub(crate) node: Rc<LocalNode>,
    watched: Arc<Watched>,
    /// The node's keys of the endpoints that clients of the group call, by their numbers.
    endpoints: RefCell<HashMap<u64, EndpointKey>>,
    /// The calls that other threads read.
    pub(crate) pump: Pump,
}

impl Core {
    /// Begins the calls that have been handed in.
    fn begin(&self) {
        self.pump.begin(|known, request| self.call(known, request));
    }

    /// Answers requests for `path`, the endpoint of that name.
    pub(crate) fn serve(&self, path: &str, name: &str, handler: Handler) {
        let number = self.node.serve(path, handler);
        self.node.name_served(number, name);
        self.watched.name(number, path);
    }

    /// Makes a call to an endpoint.
    pub(crate) fn call(&self, endpoint: &Known, request: Request) -> Result<LocalCall, CallError> {
        self.node.call(self.key(endpoint), request)
    }

    /// The node's key of an endpoint, which is made known to the node if it is not yet.
    pub(crate) fn key(&self, endpoint: &Known) -> EndpointKey {
        let mut keys = self.endpoints.borrow_mut();
        *keys.entry(endpoint.number).or_insert_with(|| {
            let key = self.node.endpoint(endpoint.policy.clone());
            self.node.name_called(key, &endpoint.name);
            key
        })
    }

    /// Whether calls of the endpoint of that number are under way here.
    pub(crate) fn is_called(&self, number: u64) -> bool {
        let key = self.endpoints.borrow().get(&number).copied();
        key.is_some_and(|key| self.node.touching(|node| node.caller.is_called(key)))
    }

    /// What is known of the instances of the endpoint of that number; nothing if it has not been heard of here.
    #[cfg(feature = "metrics")]
    pub(crate) fn instances(&self, number: u64) -> Vec<InstanceView> {
        let key = self.endpoints.borrow().get(&number).copied();
        let now = self.node.env().now();
        key.map(|key| self.node.touching(|node| node.caller.view(key, now).collect())).unwrap_or_default()
    }

    /// How many endpoints it knows by number, and how many its node knows.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.endpoints.borrow().len(), self.node.touching(|node| node.caller.endpoints()))
    }

    /// Lets go of the endpoint of that number.
    pub(crate) fn forget(&self, number: u64) {
        let key = self.endpoints.borrow_mut().remove(&number);
        if let Some(key) = key {
            self.node.forget_endpoint(key);
        }
    }
}

impl Host for Core {
    type Machine = <LocalNode as Host>::Machine;

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut Self::Machine) -> R) -> R {
        self.node.with(f)
    }

    #[inline]
    fn deliver(&self, event: <Self::Machine as Protocol>::Event) {
        self.node.deliver(event);
    }
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Whether this thread is a core, of whatever group. One whose thread-locals are gone already may have been.
fn is_core() -> bool {
    CORE.try_with(|core| core.borrow().is_some()).unwrap_or(true)
}

/// Has errands run on other threads: at once, or, if this thread is a core, with those of others before it sleeps again.
pub(crate) fn errands(add: impl FnOnce(&mut Wakes)) {
    let core = CORE.try_with(|core| core.borrow().clone()).ok().flatten();
    match core.filter(|core| !core.pump.is_closed()) {
        Some(core) => core.pump.errands(add),
        None => {
            let mut alone = Wakes::default();
            add(&mut alone);
            alone.give();
        }
    }
}

/// The task that sees to the calls that other threads read, for as long as the core runs tasks.
async fn run_pump(core: Rc<Core>) {
    let pumping = Pumping(core);
    let core = &pumping.0;
    poll_fn(|cx| {
        core.pump.rest(cx);
        core.begin();
        core.pump.poll(&core.node, cx)
    })
    .await;
}

struct Pumping(Rc<Core>);

impl Drop for Pumping {
    fn drop(&mut self) {
        self.0.pump.close();
    }
}

impl Parcel<Core> for Crossing {
    fn open(self: Arc<Self>, core: &Rc<Core>, _: &Env) {
        core.pump.open(self);
    }

    fn turn_away(self: Arc<Self>) {
        lose(&self);
    }
}

/// The core of this thread, if it belongs to `group`.
pub(crate) fn current(group: u64) -> Option<Rc<Core>> {
    CORE.with_borrow(|core| core.as_ref().filter(|core| core.group == group).cloned())
}

/// What a core is made of, on the thread where it is to live.
struct Making<P> {
    group: u64,
    index: usize,
    pump: (Arc<Port<Key>>, usize),
    node: (worker::config::Config, caller::config::Config, u64),
    watched: Arc<Watched>,
    observers: Observers,
    prepare: P,
}

impl<P: ForEach> Making<P> {
    fn make(self, env: &Env) -> Rc<Core> {
        let Self { group, index, pump: (port, depth), node: (worker, caller, seed), watched, observers, prepare } =
            self;
        let node = LocalNode::new(Node::new(worker, caller, seed), env);
        observers.of(index).iter().for_each(|observer| node.observe(observer));
        watched.add(env.pace().beat().clone());
        let pump = Pump::new(port, depth);
        let core = Rc::new(Core { group, index, node, watched, endpoints: RefCell::default(), pump });
        env.spawn(run_pump(core.clone()));
        prepare(&core);
        core
    }
}

/// Makes a core on this thread, and has it run there.
fn start_here(
    start: &Start,
    config: &Config,
    listener: Option<TcpListener>,
    making: Making<impl ForEach>,
) -> Result<Driver<Core>, Error> {
    let mut made = Weak::new();
    let make = |env: &Env| {
        let core = making.make(env);
        made = Rc::downgrade(&core);
        core
    };
    let (driver, driving) = tcp::here(config.common, config.tokio, listener, make).map_err(Error::Tokio)?;
    start(Box::pin(as_core(made, driving)));
    Ok(driver)
}

/// Runs a driver on a thread that is a core while it polls this, and otherwise its caller's.
async fn as_core(core: Weak<Core>, mut driving: Here<Core>) {
    /// What the thread was before.
    struct Before(Option<Rc<Core>>);

    impl Drop for Before {
        fn drop(&mut self) {
            CORE.set(self.0.take());
        }
    }

    poll_fn(|cx| {
        let _before = Before(CORE.replace(core.upgrade()));
        Pin::new(&mut driving).poll(cx)
    })
    .await;
}

/// The way into a group of threads. It does not keep them running: once they have ended it says so.
pub(crate) struct Group {
    pub(crate) number: u64,
    pub(crate) info: DriverInfo,
    handles: Vec<Handle<Core>>,
    /// Where the core of that number hears of news from other threads.
    ports: Vec<Arc<Port<Key>>>,
    /// Items that may be ahead between a core and another thread.
    bridge: usize,
    turn: AtomicUsize,
    #[cfg(feature = "status")]
    watched: Arc<Watched>,
    /// What became of the canaries that its endpoints were sent.
    canaries: Mutex<CanaryStats>,
    /// Where it is waited for room in a mailbox: a caller's executor may have no timers.
    tokio: tokio::runtime::Handle,
    upkeep: Upkeep,
}

/// A running group, owned: its threads end when this is dropped.
pub(crate) struct Cores {
    group: Arc<Group>,
    drivers: Mutex<Vec<Driver<Core>>>,
}

static GROUPS: AtomicU64 = AtomicU64::new(1);

/// How long a job that must not be lost is offered to a full mailbox, and how often.
const INSIST: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(1);

impl Cores {
    /// Starts one thread per listener, or `config.cores` that only dial, by a configuration that is within its bounds; or, with
    /// `here`, a single core without a thread. Each core is watched and prepared before it takes a connection.
    pub(crate) fn start(
        name: &str,
        config: &Config,
        observers: &Observers,
        listeners: Vec<TcpListener>,
        here: Option<Start>,
        prepare: impl ForEach,
    ) -> Result<Self, Error> {
        let (driver, info) = if here.is_some() { (DriverChoice::Tokio, own_runtime()) } else { choose(config.driver)? };
        let tokio = background()?;
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let count = if listeners.is_empty() { config.cores } else { listeners.len() };
        let mut listeners = listeners.into_iter();
        let (mut drivers, mut ports) = (Vec::new(), Vec::new());
        let upkeep = Upkeep::new(tokio.clone());
        let watched = Watched::start(&upkeep);
        let making = |index: usize, port: &Arc<Port<Key>>| Making {
            group: number,
            index,
            pump: (port.clone(), config.bridge),
            node: (config.worker, config.caller, random_u64()),
            watched: watched.clone(),
            observers: observers.clone(),
            prepare: prepare.clone(),
        };
        if let Some(start) = here {
            let port = Arc::<Port<Key>>::default();
            drivers.push(start_here(&start, config, listeners.next(), making(0, &port))?);
            ports.push(port);
        }
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        for index in drivers.len()..count {
            let port = Arc::<Port<Key>>::default();
            let (tokio, making) = (tokio.clone(), making(index, &port));
            let make = move |env: &Env| {
                // The others poll their tasks inside a runtime of tokio's already.
                if matches!(driver, DriverChoice::IoUring | DriverChoice::Monoio) {
                    enter(&tokio);
                }
                let core = making.make(env);
                CORE.set(Some(core.clone()));
                core
            };
            let given = Given { listener: listeners.next(), cpu: config.pin.then_some(index % cpus) };
            drivers.push(start(&format!("{name}-{index}"), driver, config, given, make)?);
            ports.push(port);
        }
        tracing::info!(driver = info.name, why = %info.why, threads = count, "{name} runs");
        let handles = drivers.iter().map(Driver::handle).collect();
        let (bridge, turn) = (config.bridge, AtomicUsize::new(0));
        let canaries = Mutex::default();
        let group = Arc::new(Group {
            number,
            info,
            handles,
            ports,
            bridge,
            turn,
            canaries,
            #[cfg(feature = "status")]
            watched,
            tokio,
            upkeep,
        });
        Ok(Self { group, drivers: Mutex::new(drivers) })
    }

    /// The way in.
    pub(crate) const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Stops every thread and says what they left behind. Later calls say nothing is left. The waiting is done by a thread of
    /// its own: this may be polled on one of the very threads that end, or on one that such a thread waits for.
    pub(crate) async fn stop(&self) -> Leftovers {
        self.group.upkeep.end().await;
        let drivers = self.halt();
        let (tell, told) = tokio::sync::oneshot::channel();
        let left = move || {
            let _ = tell.send(join(drivers));
        };
        if reap(left) { told.await.unwrap_or_default() } else { Leftovers::default() }
    }

    /// Has every thread end, and hands over what is to be waited for.
    fn halt(&self) -> Vec<Driver<Core>> {
        self.group.upkeep.cancel();
        let drivers = std::mem::take(&mut *self.drivers.lock().unwrap_or_else(PoisonError::into_inner));
        drivers.iter().for_each(Driver::halt);
        drivers
    }
}

/// Waits until the threads have ended, and says what they left behind.
fn join(drivers: Vec<Driver<Core>>) -> Leftovers {
    let mut sum = Leftovers::default();
    for driver in drivers {
        sum.add(driver.stop());
    }
    sum
}

/// Runs `work` on a thread of its own; `false`: there is none to be had, and it has been dropped here.
fn reap(work: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().name("ringplane-reaper".to_owned()).spawn(work).is_ok()
}

impl Drop for Cores {
    /// Ends the threads and waits for them, unless this is a core: it may be one of them, or one of them may be waiting for it.
    /// A core without a thread ends with its next turn.
    fn drop(&mut self) {
        let drivers = self.halt();
        if drivers.is_empty() || !is_core() {
            drop(drivers);
        } else {
            reap(move || drop(drivers));
        }
    }
}

impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cores").field(&self.group).finish()
    }
}

impl Group {
    /// Makes a call on the next core in turn. If it cannot be handed in for now, that is its outcome.
    ///
    /// # Errors
    /// [`SubmitError::Stopped`].
    pub(crate) fn call(&self, known: Arc<Known>, request: Request, placed: bool) -> Result<Arc<Crossing>, SubmitError> {
        let index = self.next();
        let (port, handle) = self.ports.get(index).zip(self.handles.get(index)).ok_or(SubmitError::Stopped)?;
        let crossing = Arc::new(Crossing::new(port.clone(), self.bridge, (known, request), placed));
        match handle.post(crossing.clone()) {
            Err(SubmitError::Full) => crossing.lose(CallError::Overloaded, &mut Wakes::default()),
            told => told?,
        }
        Ok(crossing)
    }

    /// Runs `job` on the next core in turn.
    pub(crate) fn submit(&self, job: impl FnOnce(&Rc<Core>) + Send + 'static) -> Result<(), SubmitError> {
        self.submit_to(self.next(), job)
    }

    /// Runs `job` on the core of that number, after the calls that this thread has made before.
    pub(crate) fn submit_to(
        &self,
        index: usize,
        job: impl FnOnce(&Rc<Core>) + Send + 'static,
    ) -> Result<(), SubmitError> {
        self.handles.get(index).ok_or(SubmitError::Stopped)?.submit(move |core, _| {
            core.begin();
            job(core);
        })
    }

    /// Runs `job` on every core, unless a mailbox has no room: not while nothing else can be in there.
    pub(crate) fn each_now(&self, job: impl ForEach) -> Result<(), SubmitError> {
        (0..self.len()).try_for_each(|index| self.submit_to(index, job.clone()))
    }

    /// Runs `job` on every core, waiting for room in their mailboxes.
    pub(crate) async fn each(self: &Arc<Self>, job: impl ForEach) -> Result<(), SubmitError> {
        for index in 0..self.len() {
            match self.submit_to(index, job.clone()) {
                Err(SubmitError::Full) => {
                    let waiting = self.upkeep.spawn(insist(self.clone(), index, job.clone()));
                    waiting.await.ok().flatten().unwrap_or(Err(SubmitError::Stopped))?;
                }
                told => told?,
            }
        }
        Ok(())
    }

    /// What all cores hold and have counted.
    pub(crate) async fn snapshot(self: &Arc<Self>) -> Result<Snapshot, Error> {
        let (tell, mut told) = tokio::sync::mpsc::channel(self.handles.len());
        self.each(move |core| {
            let now = core.node.env().now();
            let _ = tell.try_send(core.node.touching(|node| Snapshot::of(node, now)));
        })
        .await?;
        let mut sum = Snapshot::default();
        for _ in &self.handles {
            sum.merge(&told.recv().await.ok_or(Error::Stopped)?);
        }
        sum.driver = self.driver_stats();
        sum.canaries = self.canary_stats();
        sum.background = self.upkeep.stats();
        Ok(sum)
    }

    /// What the drivers of all cores have counted.
    pub(crate) fn driver_stats(&self) -> driver::Stats {
        let mut sum = driver::Stats::default();
        self.handles.iter().for_each(|handle| sum.merge(&handle.stats()));
        sum
    }

    /// The paths of the endpoints whose handlers run at this moment: one of them it is that holds a core which does not answer.
    #[cfg(feature = "status")]
    pub(crate) fn running(&self) -> Vec<String> {
        self.watched.running()
    }

    /// Counts what became of canaries.
    pub(crate) fn count_canaries(&self, more: &CanaryStats) {
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner).merge(more);
    }

    /// What has been counted of them.
    pub(crate) fn canary_stats(&self) -> CanaryStats {
        *self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done for it in the background.
    pub(crate) const fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    /// Is over after that time, wherever it is polled. To be aborted when nobody waits for it any more.
    pub(crate) fn pause(&self, time: Duration) -> tokio::task::JoinHandle<()> {
        self.tokio.spawn(tokio::time::sleep(time))
    }

    fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len()
    }

    pub(crate) const fn len(&self) -> usize {
        self.handles.len()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("driver", &self.info).field("threads", &self.handles.len()).finish()
    }
}

/// Offers a job to a core until there is room for it.
async fn insist(group: Arc<Group>, index: usize, job: impl ForEach) -> Result<(), SubmitError> {
    let begun = std::time::Instant::now();
    loop {
        tokio::time::sleep(AGAIN).await;
        let told = group.submit_to(index, job.clone());
        if told != Err(SubmitError::Full) || begun.elapsed() > INSIST {
            return told;
        }
    }
}

/// What runs on every core.
pub(crate) trait ForEach: Fn(&Rc<Core>) + Send + Clone + 'static {}

impl<J: Fn(&Rc<Core>) + Send + Clone + 'static> ForEach for J {}
