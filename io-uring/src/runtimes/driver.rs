//! The root task of a driver on a runtime with owned buffers: its turns, its start and its end.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ringplane_core::local::pace::TURN;
use ringplane_core::local::{Env, Host};
use ringplane_driver::accept::waiting;
use ringplane_driver::clock::Clock;
use ringplane_driver::config::{Common, Given};
use ringplane_driver::cpu;
use ringplane_driver::drain::{PATIENCE, POLLS, deliver, drain, drain_out, expire, next_deadline, rest};
use ringplane_driver::executor::Executor;
use ringplane_driver::handle::{Driver, Ready, Report, launch};
use ringplane_driver::mailbox::{Inbox, Ran};
use ringplane_driver::stats::Stats;
use socket2::SockRef;

use crate::driver::probe::probe;
use crate::error::Error;
use crate::kernel::bell::Doorbell;
use crate::kernel::setup::{Setup, refusal};
use crate::runtimes::config::Config;
use crate::runtimes::net::Net;
use crate::runtimes::runtime::Runtime;
use crate::runtimes::signal::{Alarm, Halt, Signal, either};
use crate::runtimes::tasks::{Inner, adopt, guarded};

/// Starts a driver on the runtime `R`.
pub(crate) fn start<R: Runtime, H: Host>(
    name: &str,
    common: Common,
    config: Config,
    given: Given,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    common.validate()?;
    config.validate()?;
    let doorbell = Doorbell::new().map_err(|error| Error::os("making the doorbell", &error))?;
    let body = move |inbox, ready: &Ready<Error>| {
        // The runtimes give up on a ring in their own ways; this one says why.
        let pinned = given.cpu.map_or(Ok(()), |cpu| cpu::pin(cpu).map_err(|error| Error::pin(cpu, &error)));
        if let Err(error) = pinned.and_then(|()| probe().map(drop).map_err(Error::from)) {
            ready.tell(Err(error));
            return Report::default();
        }
        let (told, entries) = (ready.clone(), config.entries);
        let outcome = R::run(entries, async move {
            match Root::<R, H>::open(&common, &config, given.listener, inbox, make) {
                Ok(root) => root.live(&told).await,
                Err(error) => {
                    told.tell(Err(error));
                    Report::default()
                }
            }
        });
        outcome.unwrap_or_else(|error| {
            ready.tell(Err(Error::Refused(refusal(Setup::Build(error)))));
            Report::default()
        })
    };
    Ok(launch(name, common.mailbox, doorbell, body)?)
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
    executor: Executor<Doorbell>,
    touched: Rc<Cell<bool>>,
    inbox: Inbox<H, Doorbell>,
    /// Something was left for the next turn, which must not wait.
    hurry: bool,
}

impl<R: Runtime, H: Host> Root<R, H> {
    fn open(
        common: &Common,
        config: &Config,
        listener: Option<TcpListener>,
        inbox: Inbox<H, Doorbell>,
        make: impl FnOnce(&Env) -> Rc<H>,
    ) -> Result<Self, Error> {
        let options = common.options();
        let door = listener.as_ref().map(TcpListener::try_clone).transpose();
        let door = door.map_err(|error| Error::os("setting up the listener", &error))?;
        let listener = listener.map(|listener| {
            listener.set_nonblocking(false)?;
            options.apply(SockRef::from(&listener), false)?;
            R::listener(listener).map(Rc::new)
        });
        let listener = listener.transpose().map_err(|error| Error::os("setting up the listener", &error))?;
        let watch = inbox.bell().waker().as_fd().try_clone_to_owned().and_then(R::watch);
        let watch = Rc::new(watch.map_err(|error| Error::os("watching the doorbell", &error))?);
        let clock = Rc::new(Clock::start());
        let executor = Executor::new(inbox.bell().clone());
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
            net: RefCell::new(Net::new(common, config.recv_buffer, clock.clone())),
            clock,
            signal,
            alarm: Alarm::default(),
            halts: <[Halt; 3]>::default(),
            ops: Cell::new(0),
            tasks: Cell::new(0),
            gone: Signal::default(),
            failed: Cell::new(false),
        });
        Ok(Self { inner, listener, door, watch, env, executor, touched, inbox, hurry: true })
    }

    async fn live(mut self, ready: &Ready<Error>) -> Report {
        if let Some(listener) = self.listener.clone() {
            let local = self.door.as_ref().and_then(|door| door.local_addr().ok());
            let local = local.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
            self.inner.launch(self.inner.clone().accept(listener, local));
        }
        self.inner.launch(self.inner.clone().listen(self.inbox.bell().clone(), self.watch.clone()));
        self.inner.launch(self.inner.clone().tick());
        ready.tell(Ok(()));
        let panicked = !guarded(self.turns()).await;
        let failed = panicked || self.inner.failed.get();
        if failed {
            tracing::error!("the machine or its host panicked, or the runtime failed; the driver ends");
        }
        self.finish(failed).await
    }

    /// Turns until somebody stops it or something fails.
    async fn turns(&mut self) {
        while !self.inbox.is_closed() && !self.inner.failed.get() {
            // A task woken between two turns, by something else on this runtime, has to ring like a foreign one.
            self.executor.resume();
            self.turn();
            self.executor.retire();
            // Nobody else ran meanwhile: who rang asked for this turn, or has touched the machine during it.
            self.inner.signal.clear();
            let busy = std::mem::take(&mut self.hurry) || self.touched.get() || self.executor.is_ready();
            if busy || self.inbox.bell().is_signalled() || !self.inbox.bell().fall_asleep() {
                R::pause(&self.watch).await;
            } else {
                self.inner.signal.heard().await;
                self.inbox.bell().wake_up();
            }
        }
    }

    fn turn(&mut self) {
        let now = self.inner.clock.read();
        self.inner.work(|machine, net| {
            net.stats.turns += 1;
            net.expire(machine);
            expire(machine, now);
        });
        self.env.timers().fire(now);
        if self.inbox.bell().hush() {
            self.executor.collect();
            let ran = self.inbox.run(&self.inner.host, &self.env);
            self.count(ran);
        }
        // Handlers run before anything is written: an answer that is ready at once leaves with everything else.
        deliver(&*self.inner.host);
        // Each poll has read the clock at its begin.
        let clock = &self.inner.clock;
        let begun = clock.read();
        let (polls, panics) = self.executor.run_while(POLLS, || clock.now().since(begun) < TURN);
        rest(&self.env, clock.read());
        self.hurry |= !self.drain();
        let next = next_deadline(&*self.inner.host, &self.env, self.inner.next_deadline());
        self.inner.alarm.want(next);
        self.publish(polls, panics);
    }

    /// The drain rule; `false`: something may be left.
    fn drain(&self) -> bool {
        let done = drain(&*self.inner.host, &mut *self.inner.net.borrow_mut(), &self.touched);
        self.inner.start_tasks();
        done
    }

    fn drain_out(&self) {
        drain_out(&*self.inner.host, &mut *self.inner.net.borrow_mut(), &self.touched);
        self.inner.start_tasks();
    }

    fn count(&self, ran: Ran) {
        let stats = &mut self.inner.net.borrow_mut().stats;
        stats.jobs += ran.jobs;
        stats.panics += ran.panics;
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
        self.inbox.publish(&now);
    }

    /// Ends everything, in order: the machine and its application hear of it, local tasks are dropped, connections that
    /// linger do so to their end, operations are cancelled and reaped, descriptors closed.
    async fn finish(self, failed: bool) -> Report {
        self.executor.resume();
        if failed {
            self.inbox.close();
            self.inner.net.borrow_mut().abort_all();
        } else {
            self.count(self.inbox.finish(&self.inner.host, &self.env));
            self.drain_out();
            self.inner.work(|machine, net| net.end_all(machine));
            self.drain_out();
            // One more poll for tasks that have just heard the end of what they waited for.
            self.executor.run(POLLS);
        }
        let Self { inner, listener, door, watch, env, executor, inbox, .. } = self;
        let tasks = executor.clear(PATIENCE);
        executor.retire();
        if tasks > 0 {
            tracing::error!(tasks, "tasks that cannot be dropped: another thread is stuck while waking them");
        }
        for halt in &inner.halts {
            halt.order();
        }
        if let Some(door) = &door {
            if !failed {
                let streams = waiting(SockRef::from(door)).into_iter().flat_map(adopt::<R>);
                streams.for_each(|stream| inner.work(|_, net| net.turn_away(stream)));
            }
            // The accept ends with it. Fails on nothing that listens.
            let _ = SockRef::from(door).shutdown(Shutdown::Both);
        }
        if !failed {
            inner.linger_out().await;
        }
        if inner.tasks.get() > 0 {
            either(inner.gone.heard(), R::sleep(PATIENCE)).await;
        }
        drop((door, watch, env));
        let host = Rc::downgrade(&inner.host);
        let listening = listener.is_some_and(|listener| Rc::strong_count(&listener) > 1);
        let connections = inner.net.borrow().conns.len();
        let ops_in_flight = inner.ops.get();
        inbox.publish(&Stats {
            connections: connections as u64,
            ops_in_flight: ops_in_flight as u64,
            tasks: tasks as u64,
            ..inner.net.borrow().stats
        });
        // Tasks that have not ended hold it as well.
        drop(inner);
        Report {
            ops_in_flight,
            connections,
            descriptors: connections + usize::from(listening),
            buffers_out: 0,
            tasks,
            hosts: host.strong_count(),
            failed,
        }
    }
}
