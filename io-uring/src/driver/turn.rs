//! The loop of one driver's thread: enter the ring, complete, drain the machine, run tasks, and again.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use ringplane_core::local::pace::TURN;
use ringplane_core::local::{Env, Host};
use ringplane_core::protocol::Protocol;
use ringplane_core::time::Instant;

use crate::clock::Clock;
use crate::driver::config::Config;
use crate::driver::executor::Executor;
use crate::driver::net::Net;
use crate::driver::polling::Polling;
use crate::driver::share::Share;
use crate::error::Error;
use crate::handle::{Report, Shared};
use crate::held::rested;
use crate::kernel::probe::self_test;
use crate::kernel::ring::{Ring, Wait};
use crate::kernel::setup::{Sizes, refusal};
use crate::mailbox::Job;

/// Rounds of the drain rule before completions get their turn again.
const ROUNDS: usize = 16;
/// Events delivered in one round.
const EVENTS: usize = 4096;
/// Jobs run in one turn.
const JOBS: usize = 1024;
/// Looks at the completion queue between two offers of the CPU to other threads that want it.
const LOOKS: u32 = 32;
/// Task polls in one turn.
const POLLS: usize = 256;
/// How long a stop waits for a task that another thread is waking.
const PATIENCE: Duration = Duration::from_secs(5);

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
    executor: Executor,
    clock: Rc<Clock>,
    touched: Rc<Cell<bool>>,
    mail: Receiver<Job<H>>,
    shared: Arc<Shared>,
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
        config: Config,
        shared: Arc<Shared>,
        mail: Receiver<Job<H>>,
        make: impl FnOnce(&Env) -> Rc<H>,
    ) -> Result<Self, Error> {
        pin(config.cpu)?;
        let mut ring = Ring::open(Sizes::of(&config)).map_err(refusal)?;
        self_test(&mut ring)?;
        let polling = Polling::new(config.spin);
        let clock = Rc::new(Clock::start());
        let touched = Rc::new(Cell::new(true));
        let net = Net::new(ring, config, clock.clone(), shared.bell.clone())?;
        let executor = Executor::new(shared.bell.clone());
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
            mail,
            shared,
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
        while !self.shared.is_stopping() {
            self.turn()?;
        }
        Ok(())
    }

    /// Ends everything, in order: the machine and its application hear of it, tasks are dropped, connections that linger do
    /// so to their end, operations are cancelled and reaped, descriptors closed, memory freed.
    pub(crate) fn finish(mut self, failed: bool) -> Report {
        if !failed {
            self.host.with(|machine| self.net.end_all(machine));
            self.deliver();
            // One more poll for tasks that have just heard the end of what they waited for.
            self.executor.run(POLLS);
        }
        drop(self.mail);
        let tasks = self.executor.clear(PATIENCE);
        self.executor.retire();
        if !failed && let Err(error) = self.host.with(|machine| self.net.linger_out(machine)) {
            tracing::error!(%error, "the ring cannot be entered; what lingers is cut off");
        }
        if tasks > 0 {
            tracing::error!(tasks, "tasks that cannot be dropped: another thread is stuck while waking them");
        }
        let report = Report { tasks, failed, ..self.net.shut_down() };
        self.shared.published.store(&Default::default());
        report
    }

    fn turn(&mut self) -> io::Result<()> {
        let wait = self.wait()?;
        self.net.ring.enter(wait)?;
        self.shared.bell.wake_up();
        let now = self.clock.read();
        if let Some(since) = self.idle.take() {
            self.share.waited(since, now);
            // The end of a timer says nothing about traffic.
            if self.net.ring.is_pending() || self.shared.bell.is_signalled() {
                self.polling.waited(now.since(since));
            }
        }
        self.net.stats.turns += 1;
        self.host.with(|machine| {
            self.net.complete(machine);
            self.net.expire(machine);
            if machine.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                machine.handle_timeout(now);
            }
        });
        self.env.timers().fire(now);
        if self.shared.bell.hush() {
            self.executor.collect();
            self.read_mail();
        }
        self.host.with(|machine| self.net.resume(machine));
        // Handlers run before anything is written: an answer that is ready at once leaves with everything else of this
        // turn, and makes a sign of life superfluous.
        self.deliver();
        self.run_tasks();
        rested(&self.env, self.clock.read());
        self.drain();
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
            let writers = || u32::try_from(host.with(|machine| machine.ready())).unwrap_or(u32::MAX);
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
            || self.shared.bell.is_signalled();
        if std::mem::take(&mut self.hurry) || busy {
            return Ok(Wait::No);
        }
        let machine = self.host.with(|machine| machine.poll_timeout()).map(|deadline| deadline.at);
        let next = [machine, self.env.timers().next(), self.net.next_deadline()].into_iter().flatten().min();
        self.idle = Some(self.clock.read());
        if self.poll(next)? || next.is_some_and(|at| at <= self.clock.read()) || !self.shared.bell.fall_asleep() {
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
                if self.net.ring.is_pending() || self.shared.bell.is_signalled() {
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

    fn read_mail(&mut self) {
        for _ in 0..JOBS {
            let Ok(job) = self.mail.try_recv() else { return };
            self.net.stats.jobs += 1;
            if catch_unwind(AssertUnwindSafe(|| job(&self.host, &self.env))).is_err() {
                self.net.stats.panics += 1;
                tracing::error!("a job panicked; the driver goes on");
            }
        }
        self.shared.bell.ring();
    }

    /// The drain rule, until nothing moves.
    fn drain(&mut self) {
        for _ in 0..ROUNDS {
            self.touched.set(false);
            let moved = self.host.with(|machine| {
                let wrote = self.net.transmit(machine);
                self.net.act(machine) || wrote
            });
            let heard = self.deliver();
            if !moved && !heard && !self.touched.get() {
                return;
            }
        }
        self.hurry = true;
    }

    /// Hands the machine's events to the application; says whether there were any.
    fn deliver(&mut self) -> bool {
        for delivered in 0..EVENTS {
            let Some(event) = self.host.with(Protocol::poll_event) else { return delivered > 0 };
            self.host.deliver(event);
        }
        true
    }

    fn publish(&self) {
        let mut stats = self.net.stats();
        stats.tasks = self.executor.tasks() as u64;
        self.shared.published.store(&stats);
    }
}

/// Keeps the calling thread on a CPU.
pub(crate) fn pin(cpu: Option<usize>) -> Result<(), Error> {
    let Some(cpu) = cpu else { return Ok(()) };
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(Error::Pin { cpu, errno: libc::EINVAL });
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| Error::Pin { cpu, errno: error.raw_os_error() })
}
