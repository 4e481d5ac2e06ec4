//! One driver's loop: jobs, sockets, timers, then the machine, with a bound on each.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ringplane_core::local::env::{Env, Host};
use ringplane_core::local::pace::TURN;
use ringplane_core::time::Instant;
use ringplane_driver::clock::Clock;
use ringplane_driver::drain::{PATIENCE, POLLS, deliver, drain, drain_out, expire, next_deadline, rest};
use ringplane_driver::executor::Executor;
use ringplane_driver::mailbox::{Inbox, Ran};
use tokio::time::Sleep;

use crate::tcp::linger::Lingering;
use crate::tcp::net::Net;
use crate::tcp::ready::ReadyList;

/// What the driver's loop and the code beside it share.
#[derive(Default, Debug)]
pub(crate) struct Beside {
    /// The machine wants draining.
    pub(crate) touched: Cell<bool>,
    /// The loop is at work and drains before it waits.
    pub(crate) in_turn: Cell<bool>,
}

/// A driver at work.
pub(crate) struct Loop<H: Host> {
    pub(crate) host: Rc<H>,
    pub(crate) env: Env,
    pub(crate) clock: Rc<Clock>,
    pub(crate) beside: Rc<Beside>,
    pub(crate) inbox: Inbox<H, Arc<ReadyList>>,
    pub(crate) executor: Executor<Arc<ReadyList>>,
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
        self.executor.resume();
        let more = self.hear(cx);
        deliver(&*self.host);
        self.run_tasks();
        self.speak(cx, more)
    }

    /// Jobs, timers, sockets. `true` if something is left.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        let bell = self.inbox.bell();
        bell.wake_up();
        bell.waker().set_driver(cx.waker());
        if bell.hush() {
            self.executor.collect();
            let ran = self.inbox.run(&self.host, &self.env);
            self.count(ran);
        }
        let now = self.clock.read();
        self.env.timers().fire(now);
        self.host.with(|machine| {
            expire(machine, now);
            let more = self.net.accept(cx, machine, now);
            self.net.visit_ready(machine, now);
            more
        })
    }

    /// Drains the machine and sees to what comes next.
    fn speak(&mut self, cx: &mut Context<'_>, mut more: bool) -> Poll<Turn> {
        more |= !drain(&*self.host, &mut self.net, &self.beside.touched);
        more |= self.net.has_pending();
        self.publish();
        let next = next_deadline(&*self.host, &self.env, self.net.poll_timeout());
        more |= self.timer.arm(cx, next, &self.env);
        more |= self.executor.is_ready();
        // What tokio runs between two turns wakes tasks like a foreign thread.
        self.executor.retire();
        self.beside.in_turn.set(false);
        if self.inbox.is_closed() {
            Poll::Ready(Turn::Stop)
        } else if more || !self.inbox.bell().fall_asleep() {
            Poll::Ready(Turn::More)
        } else {
            Poll::Pending
        }
    }

    /// Runs tasks until it is time to see to the sockets again.
    fn run_tasks(&mut self) {
        let begun = self.clock.read();
        // Each poll has read the clock at its begin.
        let clock = &self.clock;
        let (polls, panics) = self.executor.run_while(POLLS, || clock.now().since(begun) < TURN);
        self.net.stats.task_polls += polls;
        self.net.stats.panics += panics;
        rest(&self.env, self.clock.read());
    }

    fn count(&mut self, ran: Ran) {
        self.net.stats.jobs += ran.jobs;
        self.net.stats.panics += ran.panics;
    }

    /// Runs the jobs that were taken, lets their bytes go, ends every connection, hears the machine out and drops the tasks.
    /// Connections that the machine has closed before may linger on.
    fn finish(mut self) -> Lingering {
        self.beside.in_turn.set(true);
        self.executor.resume();
        let ran = self.inbox.finish(&self.host, &self.env);
        self.count(ran);
        drain_out(&*self.host, &mut self.net, &self.beside.touched);
        let now = self.clock.read();
        self.host.with(|machine| self.net.close_all(machine, now));
        drain_out(&*self.host, &mut self.net, &self.beside.touched);
        // One more poll for tasks that have just heard the end of what they waited for.
        self.run_tasks();
        self.executor.clear(PATIENCE);
        self.executor.retire();
        self.publish();
        self.net.into_lingering()
    }

    fn publish(&mut self) {
        let connections = self.net.len() as u64;
        let stats = &mut self.net.stats;
        stats.turns += 1;
        stats.connections = connections;
        stats.tasks = self.executor.tasks() as u64;
        self.inbox.publish(stats);
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
