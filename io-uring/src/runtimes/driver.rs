//! The root task of a driver on a runtime with owned buffers: its turns, its start and its end.

use std::cell::{Cell, RefCell};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use ringplane_core::local::pace::TURN;
use ringplane_core::local::{Env, Host};
use ringplane_core::protocol::Protocol;
use socket2::SockRef;

use crate::clock::Clock;
use crate::driver::conn::Options;
use crate::driver::executor::Executor;
use crate::driver::turn::pin;
use crate::error::Error;
use crate::handle::{Driver, Report, Shared, launch};
use crate::held::rested;
use crate::kernel::probe::probe;
use crate::kernel::setup::{Setup, refusal};
use crate::mailbox::Job;
use crate::runtimes::config::Config;
use crate::runtimes::net::Net;
use crate::runtimes::runtime::Runtime;
use crate::runtimes::signal::{Alarm, Halt, Signal, either};
use crate::runtimes::tasks::{Inner, guarded};
use crate::stats::Stats;

/// Rounds of the drain rule before operations get their turn again.
const ROUNDS: usize = 16;
/// Events delivered in one round.
const EVENTS: usize = 4096;
/// Jobs run in one turn.
const JOBS: usize = 1024;
/// Task polls in one turn.
const POLLS: usize = 256;
/// How long a stop waits for tasks and operations.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a driver on the runtime `R`.
pub(crate) fn start<R: Runtime, H: Host>(
    name: &str,
    config: Config,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    config.check()?;
    launch(name, config.mailbox, move |shared, mail, ready| {
        // The runtimes give up on a ring in their own ways; this one says why.
        if let Err(error) = pin(config.cpu).and_then(|()| probe().map(drop).map_err(Error::from)) {
            let _ = ready.send(Err(error));
            return Report::default();
        }
        let (told, entries) = (ready.clone(), config.entries);
        let outcome = R::run(entries, async move {
            match Root::<R, H>::open(config, shared, mail, make) {
                Ok(root) => root.live(&told).await,
                Err(error) => {
                    let _ = told.send(Err(error));
                    Report::default()
                }
            }
        });
        outcome.unwrap_or_else(|error| {
            let _ = ready.send(Err(Error::Refused(refusal(Setup::Build(error)))));
            Report::default()
        })
    })
}

/// One driver on its thread.
///
/// ```text
///   signal -> timers -> mailbox -> events -> tasks -> drain -> alarm -> wait for the signal -+
///      ^------------------------------------------------------------------------------------+
///   drain: transmit, act, deliver events; again while anything moves
/// ```
struct Root<R: Runtime, H: Host> {
    inner: Rc<Inner<H, R>>,
    listener: Option<Rc<R::Listener>>,
    /// The listening socket by another name, to shut it down.
    door: Option<TcpListener>,
    watch: Rc<R::Watch>,
    env: Env,
    executor: Executor,
    touched: Rc<Cell<bool>>,
    mail: Receiver<Job<H>>,
    shared: Arc<Shared>,
    /// Something was left for the next turn, which must not wait.
    hurry: bool,
}

impl<R: Runtime, H: Host> Root<R, H> {
    fn open(
        mut config: Config,
        shared: Arc<Shared>,
        mail: Receiver<Job<H>>,
        make: impl FnOnce(&Env) -> Rc<H>,
    ) -> Result<Self, Error> {
        let options =
            Options::new(config.user_timeout, config.home_user_timeout, config.keepalive, config.notsent_lowat);
        let door = config.listener.as_ref().map(TcpListener::try_clone).transpose();
        let door = door.map_err(|error| Error::os("setting up the listener", &error))?;
        let listener = config.listener.take().map(|listener| {
            listener.set_nonblocking(false)?;
            options.apply(SockRef::from(&listener), false)?;
            R::listener(listener).map(Rc::new)
        });
        let listener = listener.transpose().map_err(|error| Error::os("setting up the listener", &error))?;
        let watch = shared.bell.as_fd().try_clone_to_owned().and_then(R::watch);
        let watch = Rc::new(watch.map_err(|error| Error::os("watching the doorbell", &error))?);
        let clock = Rc::new(Clock::start());
        let executor = Executor::new(shared.bell.clone());
        let touched = Rc::new(Cell::new(true));
        let signal = Rc::new(Signal::default());
        let (time, spawner) = (clock.clone(), executor.clone());
        let (touch, ring) = (touched.clone(), signal.clone());
        let env = Env::new(
            move || time.read(),
            move |task| spawner.spawn(task),
            move || {
                touch.set(true);
                ring.ring();
            },
        );
        let host = catch_unwind(AssertUnwindSafe(|| make(&env))).map_err(|_| Error::Make)?;
        let inner = Rc::new(Inner {
            host,
            net: RefCell::new(Net::new(&config, options, clock.clone())),
            clock,
            signal,
            alarm: Alarm::default(),
            halts: <[Halt; 3]>::default(),
            ops: Cell::new(0),
            tasks: Cell::new(0),
            gone: Signal::default(),
            failed: Cell::new(false),
        });
        Ok(Self { inner, listener, door, watch, env, executor, touched, mail, shared, hurry: true })
    }

    async fn live(mut self, ready: &SyncSender<Result<(), Error>>) -> Report {
        if let Some(listener) = self.listener.clone() {
            self.inner.launch(self.inner.clone().accept(listener));
        }
        self.inner.launch(self.inner.clone().listen(self.shared.bell.clone(), self.watch.clone()));
        self.inner.launch(self.inner.clone().tick());
        // The starter waits for this; it cannot be gone.
        let _ = ready.send(Ok(()));
        let panicked = !guarded(self.turns()).await;
        // Whoever submits from now on shall know.
        self.shared.stop();
        let failed = panicked || self.inner.failed.get();
        if failed {
            tracing::error!("the machine or its host panicked, or the runtime failed; the driver ends");
        }
        self.finish(failed).await
    }

    /// Turns until somebody stops it or something fails.
    async fn turns(&mut self) {
        while !self.shared.is_stopping() && !self.inner.failed.get() {
            // A task woken between two turns, by something else on this runtime, has to ring like a foreign one.
            self.executor.resume();
            self.turn();
            self.executor.retire();
            // Nobody else ran meanwhile: who rang asked for this turn, or has touched the machine during it.
            self.inner.signal.clear();
            let busy = std::mem::take(&mut self.hurry) || self.touched.get() || self.executor.is_ready();
            if busy || self.shared.bell.is_signalled() || !self.shared.bell.fall_asleep() {
                R::pause(&self.watch).await;
            } else {
                self.inner.signal.heard().await;
                self.shared.bell.wake_up();
            }
        }
    }

    fn turn(&mut self) {
        let now = self.inner.clock.read();
        self.inner.work(|machine, net| {
            net.stats.turns += 1;
            net.expire(machine);
            if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                machine.handle_timeout(now);
            }
        });
        self.env.timers().fire(now);
        if self.shared.bell.hush() {
            self.executor.collect();
            self.read_mail();
        }
        // Handlers run before anything is written: an answer that is ready at once leaves with everything else.
        self.deliver();
        // Each poll has read the clock at its begin.
        let clock = &self.inner.clock;
        let begun = clock.read();
        let (polls, panics) = self.executor.run_while(POLLS, || clock.now().since(begun) < TURN);
        rested(&self.env, clock.read());
        self.drain();
        let machine = self.inner.host.with(|machine| machine.poll_timeout()).map(|deadline| deadline.at);
        let next = [machine, self.env.timers().next(), self.inner.next_deadline()].into_iter().flatten().min();
        self.inner.alarm.want(next);
        self.publish(polls, panics);
    }

    fn read_mail(&self) {
        for _ in 0..JOBS {
            let Ok(job) = self.mail.try_recv() else { return };
            let panicked = catch_unwind(AssertUnwindSafe(|| job(&self.inner.host, &self.env))).is_err();
            let stats = &mut self.inner.net.borrow_mut().stats;
            stats.jobs += 1;
            if panicked {
                stats.panics += 1;
                tracing::error!("a job panicked; the driver goes on");
            }
        }
        self.shared.bell.ring();
    }

    /// The drain rule, until nothing moves.
    fn drain(&mut self) {
        for _ in 0..ROUNDS {
            self.touched.set(false);
            let moved = self.inner.work(|machine, net| {
                let wrote = net.transmit(machine);
                net.act(machine) || wrote
            });
            let heard = self.deliver();
            if !moved && !heard && !self.touched.get() {
                return;
            }
        }
        self.hurry = true;
    }

    /// Hands the machine's events to the application; says whether there were any.
    fn deliver(&self) -> bool {
        for delivered in 0..EVENTS {
            let Some(event) = self.inner.host.with(Protocol::poll_event) else { return delivered > 0 };
            self.inner.host.deliver(event);
        }
        true
    }

    fn publish(&self, polls: u64, panics: u64) {
        let net = &mut *self.inner.net.borrow_mut();
        net.stats.task_polls += polls;
        net.stats.panics += panics;
        let now = Stats {
            connections: net.conns.len() as u64,
            ops_in_flight: self.inner.ops.get() as u64,
            tasks: self.executor.tasks() as u64,
            ..net.stats
        };
        self.shared.published.store(&now);
    }

    /// Ends everything, in order: the machine and its application hear of it, local tasks are dropped, connections that
    /// linger do so to their end, operations are cancelled and reaped, descriptors closed.
    async fn finish(self, failed: bool) -> Report {
        let Self { inner, listener, door, watch, env, executor, mail, shared, .. } = self;
        executor.resume();
        if failed {
            inner.net.borrow_mut().abort_all();
        } else {
            inner.work(|machine, net| net.end_all(machine));
            while let Some(event) = inner.host.with(Protocol::poll_event) {
                inner.host.deliver(event);
            }
            // One more poll for tasks that have just heard the end of what they waited for.
            executor.run(POLLS);
        }
        drop(mail);
        let tasks = executor.clear(PATIENCE);
        executor.retire();
        if tasks > 0 {
            tracing::error!(tasks, "tasks that cannot be dropped: another thread is stuck while waking them");
        }
        for halt in &inner.halts {
            halt.order();
        }
        if let Some(door) = &door {
            // The accept ends with it, and those who wait are turned away. Fails on nothing that listens.
            let _ = SockRef::from(door).shutdown(Shutdown::Both);
        }
        if !failed {
            inner.linger_out().await;
        }
        if inner.tasks.get() > 0 {
            either(inner.gone.heard(), R::sleep(PATIENCE)).await;
        }
        drop((door, watch, env));
        let listening = listener.is_some_and(|listener| Rc::strong_count(&listener) > 1);
        let connections = inner.net.borrow().conns.len();
        shared.published.store(&Stats::default());
        Report {
            ops_in_flight: inner.ops.get(),
            connections,
            descriptors: connections + usize::from(listening),
            tasks,
            failed,
            ..Report::default()
        }
    }
}
