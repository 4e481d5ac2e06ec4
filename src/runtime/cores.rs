//! A group of driver threads, each with a node: where workers and clients live.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{EndpointKey, Request};
use ringplane_core::local::{Env, LocalCall, LocalNode};
use ringplane_core::node::Node;
use ringplane_tokio::random::random_u64;
use ringplane_tokio::tcp;

use crate::error::Error;
use crate::runtime::config::{Config, DriverChoice};
use crate::runtime::driver::{DriverInfo, Leftovers, choose};
use crate::runtime::snapshot::Snapshot;

/// What each thread of a group keeps.
pub(crate) struct Core {
    group: u64,
    /// Which of the group's threads this is, from 0.
    pub(crate) index: usize,
    pub(crate) node: Rc<LocalNode>,
    /// The node's keys of the endpoints that clients of the group call, by the group's numbers.
    pub(crate) endpoints: RefCell<HashMap<u64, EndpointKey>>,
}

impl Core {
    /// Makes a call to the endpoint with this number.
    pub(crate) fn call(&self, number: u64, request: Request) -> Result<LocalCall, CallError> {
        let key = self.endpoints.borrow().get(&number).copied().ok_or(CallError::Closed)?;
        self.node.call(key, request)
    }
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// Whether this thread is a core, of whatever group. One whose thread-locals are gone already may have been.
fn is_core() -> bool {
    CORE.try_with(|core| core.borrow().is_some()).unwrap_or(true)
}

/// The core of this thread, if it belongs to `group`.
pub(crate) fn current(group: u64) -> Option<Rc<Core>> {
    CORE.with_borrow(|core| core.as_ref().filter(|core| core.group == group).cloned())
}

/// The way into a group of threads. It does not keep them running: once they have ended it says so.
pub(crate) struct Group {
    pub(crate) number: u64,
    pub(crate) info: DriverInfo,
    handles: Vec<Handle>,
    turn: AtomicUsize,
}

/// A running group, owned: its threads end when this is dropped.
pub(crate) struct Cores {
    group: Arc<Group>,
    engines: Mutex<Vec<Engine>>,
}

enum Engine {
    /// On a ring: of our own, of monoio or of tokio-uring.
    #[cfg(target_os = "linux")]
    IoUring(ringplane_io_uring::Driver<LocalNode>),
    Tokio(tcp::Driver<LocalNode>),
}

#[derive(Clone)]
enum Handle {
    #[cfg(target_os = "linux")]
    IoUring(ringplane_io_uring::Handle<LocalNode>),
    Tokio(tcp::Handle<LocalNode>),
}

/// Why a core does not take a job, which is dropped unrun.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Its mailbox is full.
    Full,
    /// It has ended.
    Stopped,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Call(CallError::Overloaded),
            Refused::Stopped => Self::Stopped,
        }
    }
}

static GROUPS: AtomicU64 = AtomicU64::new(1);

/// How long a job that must not be lost is offered to a full mailbox.
const INSIST: Duration = Duration::from_secs(5);

impl Cores {
    /// Starts one thread per listener, or `config.cores` that only dial.
    pub(crate) fn start(name: &str, config: &Config, listeners: Vec<TcpListener>) -> Result<Self, Error> {
        check(config)?;
        let (driver, info) = choose(config.driver)?;
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let count = if listeners.is_empty() { config.cores } else { listeners.len() };
        let mut listeners = listeners.into_iter();
        let mut engines = Vec::new();
        for index in 0..count {
            let thread = format!("{name}-{index}");
            let seed = random_u64();
            let (worker, caller) = (config.worker, config.caller);
            let make = move |env: &Env| {
                let node = LocalNode::new(Node::new(worker, caller, seed), env);
                let core = Core { group: number, index, node: node.clone(), endpoints: RefCell::default() };
                CORE.set(Some(Rc::new(core)));
                node
            };
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            let cpu = config.pin.then_some(index % cpus);
            engines.push(Engine::start(&thread, driver, config, cpu, listeners.next(), make)?);
        }
        tracing::info!(driver = info.name, why = %info.why, threads = count, "{name} runs");
        let handles = engines.iter().map(Engine::handle).collect();
        let group = Arc::new(Group { number, info, handles, turn: AtomicUsize::new(0) });
        Ok(Self { group, engines: Mutex::new(engines) })
    }

    /// The way in.
    pub(crate) const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Stops every thread and says what they left behind. Later calls say nothing is left. The waiting is done by a thread of
    /// its own: this may be polled on one of the very threads that end, or on one that such a thread waits for.
    pub(crate) async fn stop(&self) -> Leftovers {
        let engines = self.halt();
        let (tell, told) = tokio::sync::oneshot::channel();
        let left = move || {
            let _ = tell.send(join(engines));
        };
        if reap(left) { told.await.unwrap_or_default() } else { Leftovers::default() }
    }

    /// Has every thread end, and hands over what is to be waited for.
    fn halt(&self) -> Vec<Engine> {
        let engines = std::mem::take(&mut *self.engines.lock().unwrap_or_else(PoisonError::into_inner));
        engines.iter().for_each(Engine::halt);
        engines
    }
}

/// Waits until the threads have ended, and says what they left behind.
fn join(engines: Vec<Engine>) -> Leftovers {
    let mut sum = Leftovers::default();
    for engine in engines {
        let left = engine.stop();
        sum.operations += left.operations;
        sum.connections += left.connections;
        sum.descriptors += left.descriptors;
        sum.buffers += left.buffers;
        sum.tasks += left.tasks;
    }
    sum
}

/// Runs `work` on a thread of its own; `false`: there is none to be had, and it has been dropped here.
fn reap(work: impl FnOnce() + Send + 'static) -> bool {
    std::thread::Builder::new().name("ringplane-reaper".to_owned()).spawn(work).is_ok()
}

impl Drop for Cores {
    /// Ends the threads and waits for them, unless this is a core: it may be one of them, or one of them may be waiting for it.
    fn drop(&mut self) {
        let engines = self.halt();
        if engines.is_empty() || !is_core() {
            join(engines);
        } else {
            reap(move || _ = join(engines));
        }
    }
}

impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cores").field(&self.group).finish()
    }
}

impl Group {
    /// Runs `job` on the next core in turn.
    pub(crate) fn submit(&self, job: impl FnOnce(&Rc<Core>) + Send + 'static) -> Result<(), Refused> {
        let index = self.turn.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        self.submit_to(index, job)
    }

    /// Runs `job` on the core of that number.
    pub(crate) fn submit_to(&self, index: usize, job: impl FnOnce(&Rc<Core>) + Send + 'static) -> Result<(), Refused> {
        self.handles.get(index).ok_or(Refused::Stopped)?.submit(self.number, Box::new(job))
    }

    /// Runs `job` on every core, waiting for room in their mailboxes.
    pub(crate) fn each(&self, job: impl Fn(&Rc<Core>) + Send + Sync + Clone + 'static) -> Result<(), Refused> {
        for handle in &self.handles {
            let begun = std::time::Instant::now();
            while let Err(refused) = handle.submit(self.number, Box::new(job.clone())) {
                if refused == Refused::Stopped || begun.elapsed() > INSIST {
                    return Err(refused);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// What all cores hold and have counted.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (tell, mut told) = tokio::sync::mpsc::channel(self.handles.len());
        self.each(move |core| {
            let _ = tell.try_send(core.node.touching(|node| Snapshot::of(node)));
        })?;
        let mut sum = Snapshot::default();
        for _ in &self.handles {
            sum.merge(&told.recv().await.ok_or(Error::Stopped)?);
        }
        Ok(sum)
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

impl Engine {
    fn start(
        name: &str,
        driver: DriverChoice,
        config: &Config,
        cpu: Option<usize>,
        listener: Option<TcpListener>,
        make: impl FnOnce(&Env) -> Rc<LocalNode> + Send + 'static,
    ) -> Result<Self, Error> {
        let max_connections = config.max_connections;
        match driver {
            #[cfg(target_os = "linux")]
            DriverChoice::IoUring => {
                let spin = config.spin;
                let knobs = ringplane_io_uring::Config { listener, cpu, max_connections, spin, ..Default::default() };
                ringplane_io_uring::start(name, knobs, make).map(Self::IoUring).map_err(Error::IoUring)
            }
            #[cfg(all(feature = "monoio", target_os = "linux"))]
            DriverChoice::Monoio => {
                use ringplane_io_uring::monoio;
                let knobs = monoio::Config { listener, cpu, max_connections, ..Default::default() };
                monoio::start(name, knobs, make).map(Self::IoUring).map_err(Error::IoUring)
            }
            #[cfg(all(feature = "tokio-uring", target_os = "linux"))]
            DriverChoice::TokioUring => {
                use ringplane_io_uring::tokio_uring;
                let knobs = tokio_uring::Config { listener, cpu, max_connections, ..Default::default() };
                tokio_uring::start(name, knobs, make).map(Self::IoUring).map_err(Error::IoUring)
            }
            _ => {
                let knobs = tcp::Config { listener, cpu, max_connections, ..Default::default() };
                tcp::start(name, knobs, make).map(Self::Tokio).map_err(Error::Tokio)
            }
        }
    }

    fn handle(&self) -> Handle {
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring(driver) => Handle::IoUring(driver.handle()),
            Self::Tokio(driver) => Handle::Tokio(driver.handle()),
        }
    }

    /// Has the thread end with its turn.
    fn halt(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring(driver) => driver.halt(),
            Self::Tokio(driver) => driver.halt(),
        }
    }

    fn stop(self) -> Leftovers {
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring(driver) => {
                let report = driver.stop();
                Leftovers {
                    operations: report.ops_in_flight,
                    connections: report.connections,
                    descriptors: report.descriptors,
                    buffers: report.buffers_out,
                    tasks: report.tasks,
                }
            }
            Self::Tokio(driver) => {
                let report = driver.stop();
                Leftovers { connections: report.connections, tasks: report.tasks, ..Leftovers::default() }
            }
        }
    }
}

/// What runs on a core.
type Job = Box<dyn FnOnce(&Rc<Core>) + Send>;

impl Handle {
    fn submit(&self, group: u64, job: Job) -> Result<(), Refused> {
        let run = move |_: &Rc<LocalNode>, _: &Env| {
            if let Some(core) = current(group) {
                job(&core);
            }
        };
        match self {
            #[cfg(target_os = "linux")]
            Self::IoUring(handle) => handle.submit(run).map_err(|error| match error {
                ringplane_io_uring::SubmitError::Full => Refused::Full,
                _ => Refused::Stopped,
            }),
            Self::Tokio(handle) => handle.submit(run).map_err(|error| match error {
                tcp::SubmitError::Full => Refused::Full,
                _ => Refused::Stopped,
            }),
        }
    }
}

fn check(config: &Config) -> Result<(), Error> {
    if !(1..=1024).contains(&config.cores) {
        return Err(Error::Config("cores must be 1 to 1024"));
    }
    if config.bridge == 0 || config.max_connections == 0 {
        return Err(Error::Config("bridge and max_connections must be at least 1"));
    }
    config.worker.validate().map_err(Error::Bounds)?;
    config.caller.validate().map_err(Error::Bounds)
}
