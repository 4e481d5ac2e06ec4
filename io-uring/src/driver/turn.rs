//! The loop of one driver's thread: enter the ring, complete, drain the machine, run tasks, and again.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use ringplane_core::local::pace::TURN;
use ringplane_core::local::{Env, Host};
use ringplane_core::protocol::Protocol;
use ringplane_core::time::Instant;
use ringplane_driver::clock::Clock;
use ringplane_driver::config::{Common, Given};
use ringplane_driver::cpu;
use ringplane_driver::drain::{PATIENCE, POLLS, deliver, drain, drain_out, expire, next_deadline, rest};
use ringplane_driver::executor::Executor;
use ringplane_driver::handle::Report;
use ringplane_driver::mailbox::{Inbox, Ran};
use ringplane_driver::stats::Stats;

use crate::driver::config::Config;
use crate::driver::net::Net;
use crate::driver::polling::Polling;
use crate::driver::share::Share;
use crate::error::Error;
use crate::kernel::bell::Doorbell;
use crate::kernel::probe::self_test;
use crate::kernel::ring::{Ring, Wait};
use crate::kernel::setup::refusal;

/// Looks at the completion queue between two offers of the CPU to other threads that want it.
const LOOKS: u32 = 32;

/// One driver on its thread.
///
/// ```text
///   enter ring (submit, sleep) -> completions -> timers -> mailbox -> events -> tasks -> drain -> arm -+
///        ^---------------------------------------------------------------------------------------------+
///   drain: transmit, act, deliver events; again while anything moves
/// ```
pub(crate) struct Loop<H: Host> {
    host: Rc<H>,
    env: Env,
    net: Net,
    executor: Executor<Doorbell>,
    clock: Rc<Clock>,
    touched: Rc<Cell<bool>>,
    inbox: Inbox<H, Doorbell>,
    polling: Polling,
    share: Share,
    /// Since when there has been nothing to do.
    idle: Option<Instant>,
    /// Something was left for the next turn, which must not wait.
    hurry: bool,
}

impl<H: Host> Loop<H> {
    /// Sets everything up on the calling thread.
    pub(crate) fn open(
        common: &Common,
        config: &Config,
        given: Given,
        inbox: Inbox<H, Doorbell>,
        make: impl FnOnce(&Env) -> Rc<H>,
    ) -> Result<Self, Error> {
        given.cpu.map_or(Ok(()), |cpu| cpu::pin(cpu).map_err(|error| Error::pin(cpu, &error)))?;
        let mut ring = Ring::open(config.sizes(common)).map_err(refusal)?;
        self_test(&mut ring)?;
        let polling = Polling::new(config.spin);
        let clock = Rc::new(Clock::start());
        let touched = Rc::new(Cell::new(true));
        let net = Net::new(ring, common, given.listener, clock.clone(), inbox.bell().clone())?;
        let executor = Executor::new(inbox.bell().clone());
        let (time, spawner, touch) = (clock.clone(), executor.clone(), touched.clone());
        let env = Env::new(move || time.read(), move |task| spawner.spawn(task), move || touch.set(true));
        let host = make(&env);
        Ok(Self {
            host,
            env,
            net,
            executor,
            clock,
            touched,
            inbox,
            polling,
            share: Share::new(),
            idle: None,
            hurry: true,
        })
    }

    /// Turns until it is told to stop.
    ///
    /// # Errors
    /// If the ring cannot be entered any more.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        while !self.inbox.is_closed() {
            self.turn()?;
        }
        Ok(())
    }

    /// Ends everything, in order: the machine and its application hear of it, tasks are dropped, connections that linger do
    /// so to their end, operations are cancelled and reaped, descriptors closed, memory freed.
    pub(crate) fn finish(mut self, failed: bool) -> Report {
        if failed {
            self.inbox.close();
        } else {
            let ran = self.inbox.finish(&self.host, &self.env);
            self.count(ran);
            drain_out(&*self.host, &mut self.net, &self.touched);
            self.host.with(|machine| self.net.end_all(machine));
            drain_out(&*self.host, &mut self.net, &self.touched);
            // One more poll for tasks that have just heard the end of what they waited for.
            self.executor.run(POLLS);
        }
        let tasks = self.executor.clear(PATIENCE);
        self.executor.retire();
        if !failed && let Err(error) = self.host.with(|machine| self.net.linger_out(machine)) {
            tracing::error!(%error, "the ring cannot be entered; what lingers is cut off");
        }
        if tasks > 0 {
            tracing::error!(tasks, "tasks that cannot be dropped: another thread is stuck while waking them");
        }
        let stats = self.net.stats();
        let Self { host, env, net, inbox, .. } = self;
        let left = Rc::downgrade(&host);
        drop((host, env));
        let report = Report { tasks, failed, hosts: left.strong_count(), ..net.shut_down() };
        inbox.publish(&Stats {
            connections: report.connections as u64,
            ops_in_flight: report.ops_in_flight as u64,
            buffers_out: report.buffers_out as u64,
            tasks: tasks as u64,
            ..stats
        });
        report
    }

    fn turn(&mut self) -> io::Result<()> {
        let wait = self.wait()?;
        self.net.ring.enter(wait)?;
        self.inbox.bell().wake_up();
        let now = self.clock.read();
        if let Some(since) = self.idle.take() {
            self.share.waited(since, now);
            // The end of a timer says nothing about traffic.
            if self.net.ring.is_pending() || self.inbox.bell().is_signalled() {
                self.polling.waited(now.since(since));
            }
        }
        self.net.stats.turns += 1;
        self.host.with(|machine| {
            self.net.complete(machine);
            self.net.expire(machine);
            expire(machine, now);
        });
        self.env.timers().fire(now);
        if self.inbox.bell().hush() {
            self.executor.collect();
            let ran = self.inbox.run(&self.host, &self.env);
            self.count(ran);
        }
        self.host.with(|machine| self.net.resume(machine));
        // Handlers run before anything is written: an answer that is ready at once leaves with everything else of this
        // turn, and makes a sign of life superfluous.
        deliver(&*self.host);
        self.run_tasks();
        rest(&self.env, self.clock.read());
        self.hurry |= !drain(&*self.host, &mut self.net, &self.touched);
        self.net.arm();
        self.publish();
        Ok(())
    }

    /// Runs tasks until it is time to write.
    fn run_tasks(&mut self) {
        let (begun, share) = (self.clock.read(), self.share.take());
        // Each poll has read the clock at its begin.
        let (host, clock) = (&self.host, &self.clock);
        let more = || {
            let took = clock.now().since(begun);
            let writers = || u32::try_from(host.with(|machine| machine.writers())).unwrap_or(u32::MAX);
            took < TURN && (took < share || took < share.saturating_mul(writers()))
        };
        let (polls, panics) = self.executor.run_while(POLLS, more);
        self.net.stats.task_polls += polls;
        self.net.stats.panics += panics;
    }

    /// How long nothing can happen by itself.
    fn wait(&mut self) -> io::Result<Wait> {
        let busy = self.touched.get()
            || self.executor.is_ready()
            || self.net.sender.has_postponed()
            || self.inbox.bell().is_signalled();
        if std::mem::take(&mut self.hurry) || busy {
            return Ok(Wait::No);
        }
        let next = next_deadline(&*self.host, &self.env, self.net.next_deadline());
        self.idle = Some(self.clock.read());
        if self.poll(next)? || next.is_some_and(|at| at <= self.clock.read()) || !self.inbox.bell().fall_asleep() {
            return Ok(Wait::No);
        }
        Ok(match next {
            Some(at) if at < Instant::FAR => Wait::For(at.since(self.clock.now())),
            _ => Wait::Forever,
        })
    }

    /// Watches for completions and rings while that pays; `true`: there is something.
    fn poll(&mut self, next: Option<Instant>) -> io::Result<bool> {
        let Some(bound) = self.polling.bound() else { return Ok(false) };
        self.net.ring.enter(Wait::No)?;
        let end = (self.clock.now() + bound).min(next.unwrap_or(Instant::FAR));
        loop {
            for _ in 0..LOOKS {
                if self.net.ring.is_pending() || self.inbox.bell().is_signalled() {
                    return Ok(true);
                }
                if self.clock.read() >= end {
                    return Ok(false);
                }
                std::hint::spin_loop();
            }
            // Returns at once if nobody else wants this CPU. If somebody does, the time it takes counts as waited.
            std::thread::yield_now();
        }
    }

    fn count(&mut self, ran: Ran) {
        self.net.stats.jobs += ran.jobs;
        self.net.stats.panics += ran.panics;
    }

    fn publish(&self) {
        let mut stats = self.net.stats();
        stats.tasks = self.executor.tasks() as u64;
        self.inbox.publish(&stats);
    }
}
