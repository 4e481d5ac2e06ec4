//! What a driver drives ([`Host`]) and what it lends to the tasks beside it ([`Env`]).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use crate::local::pace::Pace;
use crate::protocol::Protocol;
use crate::time::Instant;

/// A machine and the listener to its events, shared between a driver and the tasks on its thread.
pub trait Host: 'static {
    /// The machine.
    type Machine: Protocol;

    /// Runs `f` on the machine. Not re-entrant.
    fn with<R>(&self, f: impl FnOnce(&mut Self::Machine) -> R) -> R;

    /// Takes one event of the machine, outside any [`Host::with`].
    fn deliver(&self, event: <Self::Machine as Protocol>::Event);
}

/// A task that stays on its thread.
pub type LocalTask = Pin<Box<dyn Future<Output = ()>>>;

/// What a driver lends to the code on its thread: the time, a place to run tasks, timers, and a way to say that the
/// machine has been touched and wants draining.
#[derive(Clone)]
pub struct Env {
    inner: Rc<EnvInner>,
}

struct EnvInner {
    clock: Box<dyn Fn() -> Instant>,
    spawn: Box<dyn Fn(LocalTask)>,
    touch: Box<dyn Fn()>,
    timers: Timers,
    pace: Pace,
    /// The time as far as the code that runs just now is concerned.
    held: Cell<Option<Instant>>,
}

/// Lets go of the time when what was to see it has run, or has panicked.
struct Hold<'a>(&'a Cell<Option<Instant>>);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

impl Env {
    /// An environment of a driver. `clock` reads its time, `spawn` starts a task on its thread, `touch` makes it drain
    /// the machine before it waits next (cheap, called once per command).
    pub fn new(
        clock: impl Fn() -> Instant + 'static,
        spawn: impl Fn(LocalTask) + 'static,
        touch: impl Fn() + 'static,
    ) -> Self {
        let inner = EnvInner {
            clock: Box::new(clock),
            spawn: Box::new(spawn),
            touch: Box::new(touch),
            timers: Timers::default(),
            pace: Pace::default(),
            held: Cell::new(None),
        };
        Self { inner: Rc::new(inner) }
    }

    /// The driver's time; within a poll of a task, the time at its begin: a dozen commands read the clock once.
    pub fn now(&self) -> Instant {
        self.inner.held.get().unwrap_or_else(|| (self.inner.clock)())
    }

    fn holding<R>(&self, f: impl FnOnce() -> R) -> R {
        let _hold = Hold(&self.inner.held);
        let now = (self.inner.clock)();
        self.inner.pace.begin(now);
        self.inner.held.set(Some(now));
        f()
    }

    /// Ready while the task that is polled may send or receive once more. Otherwise it has been woken already and is to give
    /// way to the others of its thread first.
    pub(super) fn poll_proceed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.inner.held.get().is_none() || self.inner.pace.spend(&self.inner.clock) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Starts a task on this thread. Time stands still while it is polled.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let env = self.clone();
        (self.inner.spawn)(Box::pin(async move {
            let mut task = pin!(task);
            poll_fn(|cx| env.holding(|| task.as_mut().poll(cx))).await;
        }));
    }

    /// Tells the driver that the machine has been touched.
    pub fn touch(&self) {
        (self.inner.touch)();
    }

    /// How long tasks may run on this thread. A driver looks at [`pace::TURN`](crate::local::pace::TURN) while it runs them, and
    /// calls [`Pace::rest`] afterwards.
    pub fn pace(&self) -> &Pace {
        &self.inner.pace
    }

    /// The timers of tasks on this thread; the driver waits for the earliest and fires them.
    pub fn timers(&self) -> &Timers {
        &self.inner.timers
    }

    /// Completes `after` from now, on the driver's clock.
    pub async fn sleep(&self, after: Duration) {
        // Not the held time: who has computed for a while before it sleeps shall not wake early.
        let at = (self.inner.clock)() + after;
        let entry = TimerEntry { env: self, key: Cell::new(None) };
        poll_fn(|cx| {
            if self.now() >= at {
                return Poll::Ready(());
            }
            let key = self.inner.timers.arm(entry.key.get(), at, cx.waker());
            entry.key.set(Some(key));
            self.touch();
            Poll::Pending
        })
        .await;
    }
}

/// Takes its timer along when a sleep is dropped half way.
struct TimerEntry<'a> {
    env: &'a Env,
    key: Cell<Option<TimerKey>>,
}

impl Drop for TimerEntry<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.get() {
            self.env.inner.timers.entries.borrow_mut().remove(&key);
        }
    }
}

#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct TimerKey {
    at: Instant,
    number: u64,
}

/// Sleeping tasks by the time they want to wake. Bounded by the number of tasks.
#[derive(Default, Debug)]
pub struct Timers {
    entries: RefCell<BTreeMap<TimerKey, Waker>>,
    next: Cell<u64>,
}

impl Timers {
    /// The earliest instant somebody waits for.
    pub fn next(&self) -> Option<Instant> {
        self.entries.borrow().keys().next().map(|key| key.at)
    }

    /// Wakes everybody whose time has come.
    pub fn fire(&self, now: Instant) {
        loop {
            let due = {
                let mut entries = self.entries.borrow_mut();
                match entries.first_entry() {
                    Some(first) if first.key().at <= now => first.remove(),
                    _ => return,
                }
            };
            due.wake();
        }
    }

    fn arm(&self, old: Option<TimerKey>, at: Instant, waker: &Waker) -> TimerKey {
        let mut entries = self.entries.borrow_mut();
        let key = old.unwrap_or_else(|| {
            let number = self.next.get();
            self.next.set(number + 1);
            TimerKey { at, number }
        });
        entries.insert(key, waker.clone());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_only_when_due() {
        let timers = Timers::default();
        timers.arm(None, Instant::from_nanos(20), Waker::noop());
        timers.arm(None, Instant::from_nanos(10), Waker::noop());
        assert_eq!(timers.next(), Some(Instant::from_nanos(10)));
        timers.fire(Instant::from_nanos(15));
        assert_eq!(timers.next(), Some(Instant::from_nanos(20)));
        timers.fire(Instant::from_nanos(20));
        assert_eq!(timers.next(), None);
    }
}
