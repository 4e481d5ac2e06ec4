//! One driver's loop: jobs, sockets, timers, then the machine, with a bound on each.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use ringplane_core::local::env::{Env, Host};
use ringplane_core::local::pace::TURN;
use ringplane_core::protocol::Protocol;
use ringplane_core::time::Instant;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::tcp::linger::Lingering;
use crate::tcp::net::Net;
use crate::tcp::ready::ReadyList;
use crate::tcp::stats::Published;
use crate::tcp::tasks::Tasks;

/// Jobs run in one turn.
const JOBS_PER_TURN: usize = 256;
/// Events delivered in one round of a drain.
const EVENTS_PER_ROUND: usize = 1024;
/// Rounds of a drain in one turn: deliveries touch the machine, which has more to say.
const ROUNDS_PER_TURN: usize = 16;
/// Task polls in one turn.
const POLLS_PER_TURN: usize = 256;
/// Rounds of the last drain, after which a machine that still talks is cut short.
const ROUNDS_AT_STOP: usize = 1024;

/// A closure for the driver's thread.
pub(crate) type Job<H> = Box<dyn FnOnce(&Rc<H>, &Env) + Send>;

/// What the driver's thread and the others share.
#[derive(Default, Debug)]
pub(crate) struct Shared {
    pub(crate) stop: AtomicBool,
    pub(crate) ready: Arc<ReadyList>,
    pub(crate) stats: Published,
}

/// What the driver's loop and the tasks beside it share.
#[derive(Default, Debug)]
pub(crate) struct Beside {
    pub(crate) touched: Cell<bool>,
    pub(crate) in_turn: Cell<bool>,
    pub(crate) tasks: Tasks,
    pub(crate) panics: Cell<u64>,
    /// The time as of the last reading.
    pub(crate) now: Cell<Instant>,
}

/// A driver at work.
pub(crate) struct Loop<H: Host> {
    pub(crate) host: Rc<H>,
    pub(crate) env: Env,
    pub(crate) beside: Rc<Beside>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailbox: mpsc::Receiver<Job<H>>,
    pub(crate) jobs: Vec<Job<H>>,
    pub(crate) net: Net,
    pub(crate) timer: Timer,
}

/// Why a turn ended.
enum Turn {
    /// There is more to do, after the others have had their share.
    More,
    /// Somebody asked for it.
    Stop,
}

impl<H: Host> Loop<H> {
    /// Runs until somebody stops it. To be polled without tokio's cooperative budget: that is meant for tasks without
    /// bounds of their own, and would make ready sockets look blocked here.
    pub(crate) async fn run(mut self) {
        while let Turn::More = poll_fn(|cx| self.turn(cx)).await {
            // Comes back only after tokio has polled the sockets.
            tokio::task::yield_now().await;
        }
        self.finish().over().await;
    }

    /// Hears, lets the handlers run, then speaks: an answer that is ready at once leaves with everything else of this turn,
    /// and makes a sign of life superfluous.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.beside.in_turn.set(true);
        self.beside.tasks.begin(cx.waker());
        let more = self.hear(cx);
        let more = self.deliver() == EVENTS_PER_ROUND || more;
        self.run_tasks();
        self.speak(cx, more)
    }

    /// Jobs, timers, sockets. `true` if something is left.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        self.shared.ready.set_driver(cx.waker());
        let mut more = self.run_jobs(cx);
        let now = self.env.now();
        self.fire_timers(now);
        more |= self.host.with(|machine| self.net.accept(cx, machine, now));
        self.host.with(|machine| self.net.visit_ready(machine, now));
        more
    }

    /// Drains the machine and sees to what comes next.
    fn speak(&mut self, cx: &mut Context<'_>, mut more: bool) -> Poll<Turn> {
        more |= !self.drain(ROUNDS_PER_TURN);
        more |= self.net.has_pending();
        self.publish();
        let next = self.next_deadline();
        more |= self.timer.arm(cx, next, &self.env);
        more |= !self.beside.tasks.may_wait();
        self.beside.in_turn.set(false);
        if self.shared.stop.load(Ordering::Acquire) {
            Poll::Ready(Turn::Stop)
        } else if more {
            Poll::Ready(Turn::More)
        } else {
            Poll::Pending
        }
    }

    /// `true` if jobs may be left.
    fn run_jobs(&mut self, cx: &mut Context<'_>) -> bool {
        let mut left = JOBS_PER_TURN;
        while left > 0 {
            match self.mailbox.poll_recv_many(cx, &mut self.jobs, left) {
                Poll::Pending | Poll::Ready(0) => return false,
                Poll::Ready(count) => left -= count,
            }
            let mut jobs = std::mem::take(&mut self.jobs);
            jobs.drain(..).for_each(|job| self.run_job(job));
            self.jobs = jobs;
        }
        true
    }

    fn run_job(&mut self, job: Job<H>) {
        self.net.stats.jobs += 1;
        if catch_unwind(AssertUnwindSafe(|| job(&self.host, &self.env))).is_err() {
            self.count(1);
            tracing::error!("a job panicked; the driver goes on");
        }
    }

    /// Runs tasks until it is time to see to the sockets again.
    fn run_tasks(&mut self) {
        let begun = self.env.now();
        // Each poll has read the clock at its begin.
        let now = &self.beside.now;
        self.count(self.beside.tasks.run(POLLS_PER_TURN, || now.get().since(begun) < TURN));
        if let Some(held) = self.env.pace().rest(self.env.now()) {
            let (endpoint, took, others) = (held.endpoint.as_deref().unwrap_or("none"), held.took, held.others);
            tracing::warn!(endpoint, ?took, others, "a task held its core; nobody else was served there meanwhile");
        }
    }

    fn count(&self, panics: u64) {
        self.beside.panics.set(self.beside.panics.get() + panics);
    }

    fn fire_timers(&mut self, now: Instant) {
        self.env.timers().fire(now);
        self.host.with(|machine| {
            if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                machine.handle_timeout(now);
            }
        });
    }

    /// The drain rule. `true` if nothing is left to drain.
    fn drain(&mut self, rounds: usize) -> bool {
        for _ in 0..rounds {
            self.beside.touched.set(false);
            let now = self.env.now();
            let dirty = self.host.with(|machine| self.net.settle(machine, now));
            let delivered = self.deliver();
            if !dirty && !self.beside.touched.get() && delivered < EVENTS_PER_ROUND {
                return true;
            }
        }
        false
    }

    /// Hands the machine's events to the application; how many.
    fn deliver(&self) -> usize {
        for delivered in 0..EVENTS_PER_ROUND {
            let Some(event) = self.host.with(Protocol::poll_event) else { return delivered };
            self.host.deliver(event);
        }
        EVENTS_PER_ROUND
    }

    fn next_deadline(&self) -> Option<Instant> {
        let machine = self.host.with(|machine| machine.poll_timeout()).map(|deadline| deadline.at);
        [machine, self.env.timers().next(), self.net.poll_timeout()].into_iter().flatten().min()
    }

    /// Runs the jobs that were taken, lets their bytes go, ends every connection, hears the machine out and drops the tasks.
    /// Connections that the machine has closed before may linger on.
    fn finish(mut self) -> Lingering {
        self.beside.in_turn.set(true);
        self.mailbox.close();
        while let Ok(job) = self.mailbox.try_recv() {
            self.run_job(job);
        }
        self.drain(ROUNDS_AT_STOP);
        let now = self.env.now();
        self.host.with(|machine| self.net.close_all(machine, now));
        if !self.drain(ROUNDS_AT_STOP) {
            tracing::warn!("the machine still talks after all its connections are closed");
        }
        // One more poll for tasks that have just heard the end of what they waited for.
        self.run_tasks();
        self.beside.tasks.clear();
        self.publish();
        self.net.into_lingering()
    }

    fn publish(&mut self) {
        let connections = self.net.len() as u64;
        let stats = &mut self.net.stats;
        stats.turns += 1;
        stats.panics = self.beside.panics.get();
        stats.connections = connections;
        stats.tasks = self.beside.tasks.len() as u64;
        self.shared.stats.store(stats);
    }
}

/// One tokio timer for everything that waits. It is only moved to an earlier time: a deadline that moves away, as most
/// do with each message, costs nothing until the old time has come.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    epoch: std::time::Instant,
}

impl Timer {
    /// A timer on a clock that began at `epoch`. Needs a running tokio.
    pub(crate) fn new(epoch: std::time::Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(epoch.into())), armed: None, epoch }
    }

    /// Wakes the task at `next`. `true` if that time has come already.
    fn arm(&mut self, cx: &mut Context<'_>, next: Option<Instant>, env: &Env) -> bool {
        let Some(at) = next else { return false };
        loop {
            if self.armed.is_none_or(|armed| at < armed) {
                let deadline = self.epoch + Instant::since(at, Instant::ZERO);
                self.sleep.as_mut().reset(deadline.into());
                self.armed = Some(at);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.armed = None;
            if at <= env.now() {
                return true;
            }
        }
    }
}
