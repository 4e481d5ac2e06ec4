//! The queue in front of a scheduler, as futures.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use ringplane_core::task::schedule::{Asked, Gate, Polled, TaskScheduler, Ticket};
use ringplane_core::time::Instant;
use tokio::time::Sleep;

use crate::task::clock::Clock;

/// A scheduler that trackers share, with those that wait for it.
#[derive(Debug)]
pub(super) struct Door {
    gate: Mutex<Gate<Waker>>,
    /// `None` if the scheduler does not look at the time.
    clock: Option<Clock>,
    pub(super) max_waiting: usize,
}

/// The right to run. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Door>);

/// A place in the queue. Left when it is dropped.
struct Waiting<'a> {
    door: &'a Door,
    ticket: Option<Ticket>,
}

impl Door {
    /// `None` if there is always room, so that nobody has to ask.
    pub(super) fn new(scheduler: Box<dyn TaskScheduler>, max_waiting: usize) -> Option<Arc<Self>> {
        if scheduler.is_unlimited() {
            return None;
        }
        let gate = Gate::new(scheduler, max_waiting);
        let clock = gate.is_timed().then(Clock::start);
        Some(Arc::new(Self { gate: Mutex::new(gate), clock, max_waiting }))
    }

    /// Waits for a slot; `None` if too many do. Whoever drops the future leaves the queue.
    pub(super) async fn acquire(self: &Arc<Self>) -> Option<Permit> {
        let asked = poll_fn(|cx| Poll::Ready(self.lock().ask(self.now(), cx.waker()))).await;
        let (ticket, mut again) = match asked {
            Asked::Go => return Some(Permit(self.clone())),
            Asked::Full => return None,
            Asked::Wait(ticket, again) => (ticket, Some(again)),
        };
        let mut waiting = Waiting { door: self, ticket: Some(ticket) };
        let mut alarm = pin!(None::<Sleep>);
        poll_fn(|cx| {
            loop {
                // The first time it has just asked.
                let at = match again.take().map_or_else(|| waiting.poll(cx.waker()), Polled::Wait) {
                    Polled::Go => return Poll::Ready(()),
                    Polled::Wait(at) => at.zip(self.clock).and_then(|(at, clock)| clock.at(at)),
                };
                alarm.set(at.map(tokio::time::sleep_until));
                // An alarm that rings at once has it asked again.
                if alarm.as_mut().as_pin_mut().is_none_or(|sleep| sleep.poll(cx).is_pending()) {
                    return Poll::Pending;
                }
            }
        })
        .await;
        Some(Permit(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Gate<Waker>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.clock.map_or(Instant::ZERO, Clock::now)
    }

    /// Does something to the gate, then wakes whom that concerns, outside the lock.
    fn change<T>(&self, change: impl FnOnce(&mut Gate<Waker>, Instant) -> (T, Option<Waker>)) -> T {
        let (result, wake) = change(&mut self.lock(), self.now());
        if let Some(waker) = wake {
            waker.wake();
        }
        result
    }
}

impl Waiting<'_> {
    fn poll(&mut self, waker: &Waker) -> Polled {
        let Some(ticket) = self.ticket else { return Polled::Go };
        let polled = self.door.change(|gate, now| gate.poll(ticket, now, waker));
        if polled == Polled::Go {
            self.ticket = None;
        }
        polled
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.door.change(|gate, now| ((), gate.withdraw(ticket, now)));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.change(|gate, now| ((), gate.release(now)));
    }
}
