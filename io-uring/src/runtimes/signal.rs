//! How the tasks of one thread wait for each other: a bell, an order to leave, an alarm clock.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ringplane_core::time::Instant;

/// Somebody who may wait.
#[derive(Default)]
struct Waiter(Cell<Option<Waker>>);

impl Waiter {
    fn keep(&self, cx: &Context<'_>) {
        let kept = self.0.take().filter(|waker| waker.will_wake(cx.waker()));
        self.0.set(Some(kept.unwrap_or_else(|| cx.waker().clone())));
    }

    fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiter")
    }
}

/// Something that was rung, once or often, until the one who waits has heard it.
#[derive(Default, Debug)]
pub(crate) struct Signal {
    rung: Cell<bool>,
    waiter: Waiter,
}

impl Signal {
    pub(crate) fn ring(&self) {
        if !self.rung.replace(true) {
            self.waiter.wake();
        }
    }

    /// What it rang for is done.
    pub(crate) fn clear(&self) {
        self.rung.set(false);
    }

    /// Completes when it has been rung since the last time.
    pub(crate) async fn heard(&self) {
        poll_fn(|cx| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            self.waiter.keep(cx);
            Poll::Pending
        })
        .await;
    }
}

/// An order to leave, for one task.
#[derive(Default, Debug)]
pub(crate) struct Halt {
    ordered: Cell<bool>,
    waiter: Waiter,
}

impl Halt {
    pub(crate) fn order(&self) {
        self.ordered.set(true);
        self.waiter.wake();
    }

    pub(crate) const fn is_ordered(&self) -> bool {
        self.ordered.get()
    }

    /// The outcome of `future`; `None`, and `future` dropped, once the order is given.
    pub(crate) async fn race<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.ordered.get() {
                return Poll::Ready(None);
            }
            self.waiter.keep(cx);
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// One alarm for everything that waits. It is moved to an earlier time only: a deadline that moves away, as most do with
/// each message, costs nothing until the old time has come.
#[derive(Default, Debug)]
pub(crate) struct Alarm {
    wanted: Cell<Option<Instant>>,
    armed: Cell<Option<Instant>>,
    waiter: Waiter,
}

impl Alarm {
    /// Asks for a ring at `at`.
    pub(crate) fn want(&self, at: Option<Instant>) {
        self.wanted.set(at.filter(|at| *at < Instant::FAR));
        if self.is_late() {
            self.waiter.wake();
        }
    }

    /// The time to ring at, once there is one. It is armed then.
    pub(crate) async fn next(&self) -> Instant {
        self.armed.set(None);
        poll_fn(|cx| match self.wanted.get() {
            Some(at) => {
                self.armed.set(Some(at));
                Poll::Ready(at)
            }
            None => {
                self.waiter.keep(cx);
                Poll::Pending
            }
        })
        .await
    }

    /// Completes when `sleep` has, with `true`, or when an earlier time is wanted.
    pub(crate) async fn until(&self, sleep: impl Future<Output = ()>) -> bool {
        let mut sleep = pin!(sleep);
        poll_fn(|cx| {
            if self.is_late() {
                return Poll::Ready(false);
            }
            self.waiter.keep(cx);
            sleep.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    /// It has rung, and does not ring again until it is wanted.
    pub(crate) fn rang(&self) {
        self.wanted.set(None);
    }

    /// Whether the armed time is later than the one wanted.
    fn is_late(&self) -> bool {
        self.wanted.get().is_some_and(|at| self.armed.get().is_none_or(|armed| at < armed))
    }
}

/// Completes with the first of the two.
pub(crate) async fn either(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| if first.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { second.as_mut().poll(cx) }).await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_signal_is_heard_once_however_often_it_rang() {
        let signal = Signal::default();
        assert!(poll(signal.heard()).is_pending());
        signal.ring();
        signal.ring();
        assert!(poll(signal.heard()).is_ready());
        assert!(poll(signal.heard()).is_pending());
        signal.ring();
        signal.clear();
        assert!(poll(signal.heard()).is_pending());
    }

    #[test]
    fn an_order_to_leave_wins_and_stays() {
        let halt = Halt::default();
        assert_eq!(poll(halt.race(async { 7 })), Poll::Ready(Some(7)));
        assert!(poll(halt.race(pending::<()>())).is_pending());
        halt.order();
        assert_eq!(poll(halt.race(async { 7 })), Poll::Ready(None));
    }

    #[test]
    fn an_alarm_is_moved_to_an_earlier_time_and_not_to_a_later_one() {
        let at = |secs| Some(Instant::from_nanos(secs));
        let alarm = Alarm::default();
        assert!(poll(alarm.next()).is_pending());
        alarm.want(at(20));
        assert_eq!(poll(alarm.next()).map(Some), Poll::Ready(at(20)));
        assert!(poll(alarm.until(pending())).is_pending());
        alarm.want(at(30));
        assert!(poll(alarm.until(pending())).is_pending());
        alarm.want(at(10));
        assert_eq!(poll(alarm.until(pending())), Poll::Ready(false));
        assert_eq!(poll(alarm.next()).map(Some), Poll::Ready(at(10)));
        assert_eq!(poll(alarm.until(async {})), Poll::Ready(true));
        alarm.rang();
        assert!(poll(alarm.next()).is_pending());
    }
}
