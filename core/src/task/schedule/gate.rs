//! Where tasks wait until their scheduler has room: first come, first served, and no slot is lost whoever leaves.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;

use crate::buf::slab::{Key, Slab};
use crate::task::schedule::scheduler::{Room, TaskScheduler};
use crate::time::Instant;

/// The default of how many tasks may wait at one gate; one more is rejected.
pub const MAX_WAITING: usize = 1 << 20;

/// A place in the queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ticket(Key);

/// What a task is told that asks for a slot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It has one, and gives it back with [`Gate::release`].
    Go,
    /// It waits: [`Gate::poll`] when it is woken, and at the instant if there is one, or [`Gate::withdraw`].
    Wait(Ticket, Option<Instant>),
    /// Too many wait.
    Full,
}

/// What a waiting task is told.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Polled {
    /// It has a slot, and its ticket is used up.
    Go,
    /// It waits on. With an instant it asks again then, or when it is woken.
    Wait(Option<Instant>),
}

/// A scheduler with its queue. `W` is what wakes a waiting task; what a method returns of it must be woken, and will then
/// call [`Gate::poll`].
///
/// Only the task at the head of the queue is woken, and a slot leaves only into its hands. Whenever the head leaves, with a
/// slot or without, the next one is told if there is something for it: so a task that vanishes after it was woken costs
/// nobody a slot.
pub struct Gate<W> {
    scheduler: Box<dyn TaskScheduler>,
    /// First come first. Keys of tasks that have left remain until they come to the head, or are half of all.
    queue: VecDeque<Key>,
    waiting: Slab<W>,
    max_waiting: usize,
}

impl<W> fmt::Debug for Gate<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl<W: Clone> Gate<W> {
    /// A gate in front of `scheduler` at which at most `max_waiting` tasks wait ([`MAX_WAITING`] by default).
    pub fn new(scheduler: Box<dyn TaskScheduler>, max_waiting: usize) -> Self {
        Self { scheduler, queue: VecDeque::new(), waiting: Slab::new(), max_waiting }
    }

    /// A task wants a slot. `wake` is kept if it has to wait.
    pub fn ask(&mut self, now: Instant, wake: &W) -> Asked {
        let mut again = None;
        if self.waiting.is_empty() {
            match self.scheduler.room(now) {
                Room::Free => {
                    self.scheduler.acquire(now);
                    return Asked::Go;
                }
                Room::At(at) => again = Some(at),
                Room::Full => {}
            }
        }
        if self.waiting.len() >= self.max_waiting {
            return Asked::Full;
        }
        let key = self.waiting.insert(wake.clone());
        self.queue.push_back(key);
        Asked::Wait(Ticket(key), again)
    }

    /// A waiting task asks again. `wake` replaces what it left.
    pub fn poll(&mut self, ticket: Ticket, now: Instant, wake: &W) -> (Polled, Option<W>) {
        if self.head() != Some(ticket.0) {
            if let Some(kept) = self.waiting.get_mut(ticket.0) {
                kept.clone_from(wake);
            }
            return (Polled::Wait(None), None);
        }
        match self.scheduler.room(now) {
            Room::Free => {
                self.scheduler.acquire(now);
                self.waiting.discard(ticket.0);
                (Polled::Go, self.next(now))
            }
            room => {
                if let Some(kept) = self.waiting.get_mut(ticket.0) {
                    kept.clone_from(wake);
                }
                (Polled::Wait(if let Room::At(at) = room { Some(at) } else { None }), None)
            }
        }
    }

    /// A waiting task has left.
    #[must_use = "what is returned must be woken"]
    pub fn withdraw(&mut self, ticket: Ticket, now: Instant) -> Option<W> {
        let first = self.head() == Some(ticket.0);
        self.waiting.discard(ticket.0);
        if self.queue.len() > 32 && self.queue.len() > 2 * self.waiting.len() {
            self.queue.retain(|key| self.waiting.contains(*key));
        }
        if first { self.next(now) } else { None }
    }

    /// A slot comes back.
    #[must_use = "what is returned must be woken"]
    pub fn release(&mut self, now: Instant) -> Option<W> {
        self.scheduler.release();
        self.next(now)
    }

    /// Whether its scheduler looks at the time.
    pub fn is_timed(&self) -> bool {
        self.scheduler.is_timed()
    }

    /// Tasks that wait.
    pub const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What wakes the head, if there is a slot for it or a time to wait for.
    fn next(&mut self, now: Instant) -> Option<W> {
        let head = self.head()?;
        if self.scheduler.room(now) == Room::Full {
            return None;
        }
        self.waiting.get(head).cloned()
    }

    fn head(&mut self) -> Option<Key> {
        while let Some(key) = self.queue.front() {
            if self.waiting.contains(*key) {
                return Some(*key);
            }
            self.queue.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use core::time::Duration;

    use super::*;
    use crate::rng::Rng;
    use crate::task::schedule::rate::RateScheduler;
    use crate::task::schedule::semaphore::SemaphoreScheduler;

    /// Tasks by number at one gate, polled only when they are woken or their time has come.
    struct World {
        gate: Gate<u64>,
        rng: Rng,
        now: u64,
        waiting: BTreeMap<u64, Ticket>,
        woken: Vec<u64>,
        alarms: BTreeMap<u64, u64>,
        running: Vec<u64>,
        begun: Vec<u64>,
        rejected: u64,
    }

    impl World {
        fn new(seed: u64, scheduler: Box<dyn TaskScheduler>, max_waiting: usize) -> Self {
            Self {
                gate: Gate::new(scheduler, max_waiting),
                rng: Rng::new(seed),
                now: 0,
                waiting: BTreeMap::new(),
                woken: Vec::new(),
                alarms: BTreeMap::new(),
                running: Vec::new(),
                begun: Vec::new(),
                rejected: 0,
            }
        }

        fn at(&self) -> Instant {
            Instant::from_nanos(self.now)
        }

        fn begin(&mut self, task: u64) {
            self.running.push(task);
            self.begun.push(task);
        }

        fn ask(&mut self, task: u64) {
            match self.gate.ask(self.at(), &task) {
                Asked::Go => self.begin(task),
                Asked::Wait(ticket, again) => {
                    assert!(self.waiting.insert(task, ticket).is_none());
                    self.alarms.extend(again.map(|at| (task, at.as_nanos())));
                }
                Asked::Full => self.rejected += 1,
            }
        }

        fn poll(&mut self, task: u64) {
            let Some(ticket) = self.waiting.get(&task).copied() else { return };
            self.alarms.remove(&task);
            let (polled, wake) = self.gate.poll(ticket, self.at(), &task);
            self.woken.extend(wake);
            match polled {
                Polled::Go => {
                    self.waiting.remove(&task);
                    self.begin(task);
                }
                Polled::Wait(Some(at)) => drop(self.alarms.insert(task, at.as_nanos())),
                Polled::Wait(None) => {}
            }
        }

        fn pick(&mut self, of: usize) -> usize {
            usize::try_from(self.rng.below(of as u64)).unwrap()
        }

        fn leave(&mut self) {
            if self.waiting.is_empty() {
                return;
            }
            let which = self.pick(self.waiting.len());
            let (task, ticket) = self.waiting.iter().nth(which).map(|(task, ticket)| (*task, *ticket)).unwrap();
            self.waiting.remove(&task);
            self.alarms.remove(&task);
            self.woken.extend(self.gate.withdraw(ticket, self.at()));
        }

        fn finish(&mut self) {
            if self.running.is_empty() {
                return;
            }
            let which = self.pick(self.running.len());
            self.running.swap_remove(which);
            self.woken.extend(self.gate.release(self.at()));
        }

        fn wake_one(&mut self) {
            if !self.woken.is_empty() {
                let which = self.pick(self.woken.len());
                let task = self.woken.swap_remove(which);
                self.poll(task);
            }
        }

        fn pass(&mut self) {
            self.now += self.rng.below(30);
            let due: Vec<u64> = self.alarms.iter().filter(|(_, at)| **at <= self.now).map(|(task, _)| *task).collect();
            due.into_iter().for_each(|task| self.poll(task));
        }

        /// Everything that is awake runs, nothing finishes.
        fn settle(&mut self) {
            while !self.woken.is_empty() {
                self.wake_one();
            }
        }
    }

    fn run(seed: u64, scheduler: Box<dyn TaskScheduler>, check: impl Fn(&World)) -> World {
        let mut world = World::new(seed, scheduler, 40);
        let mut tasks = 0;
        for _ in 0..600 {
            match world.rng.below(12) {
                0..4 => {
                    world.ask(tasks);
                    tasks += 1;
                }
                4..7 => world.finish(),
                7 => world.leave(),
                8 => world.pass(),
                _ => world.wake_one(),
            }
            check(&world);
        }
        assert!(world.begun.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: not first come, first served");
        world
    }

    #[test]
    fn a_permit_is_never_lost_whoever_finishes_or_leaves_when() {
        let mut rejected = 0;
        for seed in 0..500 {
            let permits = usize::try_from(Rng::new(seed).below(5)).unwrap() + 1;
            let mut world = run(seed, Box::new(SemaphoreScheduler::new(permits)), |world| {
                assert!(world.running.len() <= permits, "seed {seed}: more run than may");
                assert!(world.waiting.len() <= 40 && world.gate.waiting() == world.waiting.len(), "seed {seed}");
            });
            world.settle();
            let idle = permits - world.running.len();
            assert!(idle == 0 || world.waiting.is_empty(), "seed {seed}: {idle} permits idle while tasks wait");
            while !world.running.is_empty() || !world.waiting.is_empty() {
                assert!(!world.running.is_empty(), "seed {seed}: tasks wait and none runs");
                world.finish();
                world.settle();
            }
            rejected += world.rejected;
            assert_eq!(world.gate.scheduler.room(world.at()), Room::Free);
        }
        assert!(rejected > 100, "{rejected}");
    }

    #[test]
    fn a_task_that_waits_for_a_rate_has_an_alarm_and_begins_by_it() {
        for seed in 0..500 {
            let rate = RateScheduler::new(Duration::from_nanos(10 + seed % 40), 3);
            let mut world = run(seed, Box::new(rate), |_| {});
            world.settle();
            while !world.waiting.is_empty() {
                let (_, at) = world.alarms.first_key_value().unwrap_or_else(|| panic!("seed {seed}: nobody to wake"));
                world.now = world.now.max(*at);
                world.pass();
                world.settle();
            }
        }
    }

    #[test]
    fn tasks_that_come_and_leave_behind_one_that_waits_take_no_memory() {
        let mut gate = Gate::new(Box::new(SemaphoreScheduler::new(1)), MAX_WAITING);
        assert_eq!(gate.ask(Instant::ZERO, &0), Asked::Go);
        let Asked::Wait(head, None) = gate.ask(Instant::ZERO, &1) else { panic!("there is one permit") };
        for task in 2..10_000 {
            let Asked::Wait(ticket, None) = gate.ask(Instant::ZERO, &task) else { panic!("no permit came back") };
            assert_eq!(gate.withdraw(ticket, Instant::ZERO), None);
            assert!(gate.queue.len() <= 34, "{}", gate.queue.len());
        }
        assert_eq!(gate.release(Instant::ZERO), Some(1));
        assert_eq!(gate.poll(head, Instant::ZERO, &1), (Polled::Go, None));
    }
}
