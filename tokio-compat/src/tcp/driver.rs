//! Starting a driver, talking to it from other threads, and stopping it.

use std::fmt;
use std::panic::resume_unwind;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringplane_core::local::env::{Env, Host, LocalTask};
use ringplane_core::time::Instant;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use crate::tcp::config::{Config, Error};
use crate::tcp::gauge::Gauge;
use crate::tcp::net::Net;
use crate::tcp::stats::Stats;
use crate::tcp::turn::{Beside, Job, Loop, Shared, Timer};

/// Tasks tokio polls before it looks at the sockets again. Its default of 61 is meant for smaller tasks than a turn.
const EVENT_INTERVAL: u32 = 31;

/// Starts a thread called `name` that drives the host `make` builds there. Returns once the host exists and the
/// listener, if any, accepts.
///
/// # Errors
/// See [`Error`]. Nothing keeps running then.
pub fn start<H: Host>(
    name: &str,
    config: Config,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    config.check()?;
    let shared = Arc::new(Shared::default());
    let (sender, mailbox) = mpsc::channel(config.mailbox);
    let (started, starting) = std::sync::mpsc::sync_channel(1);
    let seed = Seed { config, shared: Arc::clone(&shared), mailbox, started };
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || seed.grow(make));
    let thread = spawned.map_err(Error::Thread)?;
    match starting.recv() {
        Ok(Ok(())) => Ok(Driver { handle: Handle { mailbox: sender, shared }, thread: Some(thread) }),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => {
            let _ = thread.join();
            Err(Error::Panicked)
        }
    }
}

/// A running driver. Dropping it stops it too.
pub struct Driver<H: Host> {
    handle: Handle<H>,
    thread: Option<JoinHandle<Report>>,
}

impl<H: Host> fmt::Debug for Driver<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("stats", &self.handle.stats()).finish_non_exhaustive()
    }
}

impl<H: Host> Driver<H> {
    /// A way to talk to the driver.
    pub fn handle(&self) -> Handle<H> {
        self.handle.clone()
    }

    /// Has the driver end after its turn, without waiting for it.
    pub fn halt(&self) {
        self.handle.shared.stop.store(true, Ordering::Release);
        self.handle.shared.ready.wake_driver();
    }

    /// Runs the jobs already taken, closes every connection with `Local`, drops every task, and waits for the thread to
    /// end. A graceful end is the machine's business: have it drain first. Connections that it has closed by then, and accepted
    /// ones, linger up to `linger`: nothing they were given is lost, and a peer that still sends is not reset.
    pub fn stop(mut self) -> Report {
        self.join()
    }

    fn join(&mut self) -> Report {
        self.halt();
        let Some(thread) = self.thread.take() else { return Report::default() };
        if thread.thread().id() == thread::current().id() {
            // Dropped by one of its own jobs or tasks: the thread ends by itself after this turn.
            return Report::default();
        }
        thread.join().unwrap_or_else(|_| Report { failed: true, ..Report::default() })
    }
}

impl<H: Host> Drop for Driver<H> {
    fn drop(&mut self) {
        self.join();
    }
}

/// A way to talk to a driver from any thread.
pub struct Handle<H> {
    mailbox: mpsc::Sender<Job<H>>,
    shared: Arc<Shared>,
}

impl<H> Clone for Handle<H> {
    fn clone(&self) -> Self {
        Self { mailbox: self.mailbox.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<H> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<H> Handle<H> {
    /// Runs `job` on the driver's thread. Jobs of one thread run in order. A job that was taken is run, even if a stop
    /// follows; one that panics is logged and counted.
    ///
    /// # Errors
    /// [`SubmitError::Full`] if the mailbox holds its bound, [`SubmitError::Stopped`] if nobody will ever run it.
    pub fn submit(&self, job: impl FnOnce(&Rc<H>, &Env) + Send + 'static) -> Result<(), SubmitError> {
        self.mailbox.try_send(Box::new(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Full,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Stopped,
        })
    }

    /// The driver's counters as of the end of its last turn.
    pub fn stats(&self) -> Stats {
        self.shared.stats.load()
    }
}

/// Why a job was not taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SubmitError {
    /// As many jobs wait as may. Try again later.
    Full,
    /// The driver has ended.
    Stopped,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the driver's mailbox is full",
            Self::Stopped => "the driver has stopped",
        })
    }
}

impl std::error::Error for SubmitError {}

/// What a driver left behind. All zero after a clean stop.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Connections and dials that still exist, lingering ones included.
    pub connections: usize,
    /// Tasks that still exist.
    pub tasks: usize,
    /// References to the host that still exist.
    pub hosts: usize,
    /// Whether the loop ended by itself: the machine or the host panicked. The other numbers say nothing then.
    pub failed: bool,
}

impl Report {
    /// Whether nothing is left.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// What a thread needs to become a driver.
struct Seed<H: Host> {
    config: Config,
    shared: Arc<Shared>,
    mailbox: mpsc::Receiver<Job<H>>,
    started: SyncSender<Result<(), Error>>,
}

impl<H: Host> Seed<H> {
    fn grow(self, make: impl FnOnce(&Env) -> Rc<H>) -> Report {
        let started = self.started.clone();
        match self.config.cpu.map_or(Ok(()), stay_on).and_then(|()| runtime()) {
            Ok(runtime) => self.drive(runtime, make),
            Err(error) => {
                let _ = started.send(Err(error));
                Report::default()
            }
        }
    }

    fn drive(mut self, runtime: LocalRuntime, make: impl FnOnce(&Env) -> Rc<H>) -> Report {
        let beside = Rc::new(Beside::default());
        let connections = Gauge::default();
        let mut host = Weak::new();
        let outside = Rc::clone(&beside);
        let outcome = runtime.block_on(async {
            let net = match Net::new(&mut self.config, Arc::clone(&self.shared.ready), connections.clone()) {
                Ok(net) => net,
                Err(error) => {
                    let _ = self.started.send(Err(Error::Listener(error)));
                    return Ok(());
                }
            };
            let Self { shared, mailbox, started, .. } = self;
            let epoch = std::time::Instant::now();
            let env = environment(epoch, &shared, &beside);
            let made = make(&env);
            host = Rc::downgrade(&made);
            let timer = Timer::new(epoch);
            let work = Loop { host: made, env, beside, shared, mailbox, jobs: Vec::new(), net, timer };
            let _ = started.send(Ok(()));
            // As a task and not as the root future: tokio wakes the root with a system call, a task without.
            tokio::task::spawn_local(tokio::task::unconstrained(work.run())).await
        });
        // Of a loop that broke off there are some.
        outside.tasks.clear();
        drop(runtime);
        if let Err(error) = outcome
            && error.is_panic()
        {
            resume_unwind(error.into_panic());
        }
        Report {
            connections: connections.count(),
            tasks: outside.tasks.len(),
            hosts: host.strong_count(),
            failed: false,
        }
    }
}

fn environment(epoch: std::time::Instant, shared: &Arc<Shared>, beside: &Rc<Beside>) -> Env {
    let read = Rc::clone(beside);
    let clock = move || {
        let now = Instant::ZERO + epoch.elapsed();
        read.now.set(now);
        now
    };
    let (ready, touched) = (Arc::clone(&shared.ready), Rc::clone(beside));
    let touch = move || {
        if !touched.touched.replace(true) && !touched.in_turn.get() {
            ready.wake_driver();
        }
    };
    let beside = Rc::clone(beside);
    let spawn = move |task: LocalTask| beside.tasks.spawn(task);
    Env::new(clock, spawn, touch)
}

fn runtime() -> Result<LocalRuntime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .thread_keep_alive(Duration::from_secs(1))
        .build_local(LocalOptions::default())
        .map_err(Error::Runtime)
}

fn stay_on(cpu: usize) -> Result<(), Error> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let set = |()| {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)
    };
    let known = if cpu < CpuSet::MAX_CPU { Ok(()) } else { Err(rustix::io::Errno::INVAL) };
    known.and_then(set).map_err(|errno| Error::Affinity { cpu, source: errno.into() })
}
