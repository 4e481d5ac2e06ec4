//! The tasks beside a driver's loop, run by it: in its own order, for as long as it says.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ringplane_core::local::env::LocalTask;

use crate::tcp::gauge::{Alive, Gauge};
use crate::tcp::ready::{ReadyList, SlotWaker};

/// The tasks of one thread. Each is in at most one queue at most once, so the queues are bounded by the number of tasks.
///
/// ```text
///   wake (from any thread) -> `woken`, which wakes the loop unless it is at work -> `queue` -> polled
/// ```
#[derive(Default)]
pub(crate) struct Tasks {
    places: RefCell<Places>,
    woken: Arc<ReadyList>,
    queue: RefCell<VecDeque<u32>>,
    taken: RefCell<Vec<u32>>,
    alive: Gauge,
    /// No task is taken any more.
    closed: Cell<bool>,
}

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<u32>,
}

/// A place for one task at a time. A wake that comes after its end makes the next task run once in vain.
struct Place {
    id: Arc<SlotWaker>,
    /// `None` while the task is polled.
    work: Option<Work>,
    waker: Option<Waker>,
}

struct Work {
    task: LocalTask,
    _alive: Alive,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("alive", &self.len()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// Takes a task; it runs in one of the next [`Tasks::run`]s. After [`Tasks::clear`] it is dropped instead.
    pub(crate) fn spawn(&self, task: LocalTask) {
        if self.closed.get() {
            return;
        }
        let work = Some(Work { task, _alive: self.alive.one() });
        let places = &mut *self.places.borrow_mut();
        let number = places.free.pop().unwrap_or_else(|| {
            let number = u32::try_from(places.places.len()).expect("fewer tasks than bytes of memory");
            let id = SlotWaker::new(number, Arc::clone(&self.woken));
            let waker = Some(Waker::from(Arc::clone(&id)));
            places.places.push(Place { id, work: None, waker });
            number
        });
        let place = &mut places.places[number as usize];
        place.work = work;
        place.id.wake_by_ref();
    }

    /// The loop is at work, and is `driver` when it is not: whoever wakes a task need not wake it too.
    pub(crate) fn begin(&self, driver: &Waker) {
        self.woken.begin(driver);
    }

    /// The loop is about to wait; `false`: it must not, a task is ready.
    pub(crate) fn may_wait(&self) -> bool {
        self.woken.rest() && self.queue.borrow().is_empty()
    }

    /// Polls up to `limit` ready tasks while `more` says so, which is asked after each. How many of them panicked.
    pub(crate) fn run(&self, limit: usize, more: impl Fn() -> bool) -> u64 {
        let mut panics = 0;
        for _ in 0..limit {
            let Some(number) = self.next() else { break };
            panics += u64::from(!self.poll(number));
            if !more() {
                break;
            }
        }
        panics
    }

    /// Drops every task and takes no more.
    pub(crate) fn clear(&self) {
        self.closed.set(true);
        let works: Vec<Work> =
            self.places.borrow_mut().places.iter_mut().filter_map(|place| place.work.take()).collect();
        for work in works {
            end(work);
        }
    }

    /// Tasks alive.
    pub(crate) fn len(&self) -> usize {
        self.alive.count()
    }

    fn next(&self) -> Option<u32> {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            let mut taken = self.taken.borrow_mut();
            self.woken.take(&mut taken);
            queue.extend(taken.drain(..));
        }
        queue.pop_front()
    }

    /// `false`: it panicked.
    fn poll(&self, number: u32) -> bool {
        let Some((mut work, waker)) = self.lift(number) else { return true };
        let context = &mut Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| work.task.as_mut().poll(context))) {
            Ok(Poll::Pending) => {
                self.put(number, waker, Some(work));
                true
            }
            Ok(Poll::Ready(())) => {
                self.put(number, waker, None);
                end(work)
            }
            Err(_) => {
                tracing::error!("a task panicked; the driver goes on without it");
                self.put(number, waker, None);
                end(work);
                false
            }
        }
    }

    /// Takes a task out for as long as it is polled: it may spawn others meanwhile.
    fn lift(&self, number: u32) -> Option<(Work, Waker)> {
        let place = &mut self.places.borrow_mut().places[number as usize];
        place.id.begin();
        Some((place.work.take()?, place.waker.take()?))
    }

    fn put(&self, number: u32, waker: Waker, work: Option<Work>) {
        let places = &mut *self.places.borrow_mut();
        if work.is_none() {
            places.free.push(number);
        }
        let place = &mut places.places[number as usize];
        (place.waker, place.work) = (Some(waker), work);
    }
}

/// Drops a task, with nothing borrowed; `false`: it panicked.
fn end(work: Work) -> bool {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(work))).is_ok();
    if !dropped {
        tracing::error!("a task panicked while it was dropped");
    }
    dropped
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn give_way() -> impl Future<Output = ()> {
        let mut gave = false;
        poll_fn(move |cx| {
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut gave, true) { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    #[test]
    fn tasks_run_in_the_order_they_were_woken_and_one_that_gives_way_is_last() {
        let (tasks, order) = (Tasks::default(), Rc::new(RefCell::new(Vec::new())));
        for name in 0..3 {
            let order = order.clone();
            tasks.spawn(Box::pin(async move {
                order.borrow_mut().push(name);
                give_way().await;
                order.borrow_mut().push(name + 10);
            }));
        }
        tasks.run(2, || true);
        assert_eq!((order.borrow().clone(), tasks.len()), (vec![0, 1], 3));
        tasks.run(100, || true);
        assert_eq!((order.borrow().clone(), tasks.len()), (vec![0, 1, 2, 10, 11, 12], 0));
        // Their places are free again, and late wakes of those who had them do no harm.
        tasks.spawn(Box::pin(async move { order.borrow_mut().push(3) }));
        tasks.run(100, || true);
        assert_eq!((tasks.len(), tasks.places.borrow().places.len()), (0, 3));
    }

    #[test]
    fn no_more_run_than_time_allows_and_the_loop_does_not_wait_while_one_is_ready() {
        let tasks = Tasks::default();
        (0..3).for_each(|_| tasks.spawn(Box::pin(async {})));
        assert!(!tasks.may_wait());
        tasks.run(100, || false);
        assert_eq!((tasks.len(), tasks.may_wait()), (2, false));
        tasks.run(100, || true);
        assert_eq!((tasks.len(), tasks.may_wait()), (0, true));
    }

    #[test]
    fn a_wake_wakes_the_loop_once_and_only_while_it_waits() {
        let (tasks, counter) = (Tasks::default(), Arc::new(Counter::default()));
        let driver = Waker::from(counter.clone());
        let woken = || counter.0.load(Ordering::Relaxed);
        tasks.begin(&driver);
        let (sender, wakers) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let sender = sender.clone();
            tasks.spawn(Box::pin(poll_fn(move |cx| {
                sender.send(cx.waker().clone()).unwrap();
                Poll::Pending
            })));
        }
        tasks.run(100, || true);
        assert!(tasks.may_wait() && woken() == 0);
        let wakers: Vec<_> = wakers.try_iter().collect();
        std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake)).join().unwrap();
        assert_eq!(woken(), 1);
        tasks.clear();
    }

    #[test]
    fn a_task_that_panics_is_counted_and_clearing_drops_the_others() {
        let (tasks, guard) = (Tasks::default(), Rc::new(()));
        tasks.spawn(Box::pin(async { panic!("on purpose") }));
        for _ in 0..2 {
            let guard = guard.clone();
            tasks.spawn(Box::pin(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
        }
        assert_eq!((tasks.run(2, || true), tasks.len()), (1, 2));
        tasks.clear();
        assert_eq!((tasks.len(), Rc::strong_count(&guard)), (0, 1));
        tasks.spawn(Box::pin(async { unreachable!("spawned too late") }));
        assert_eq!((tasks.run(8, || true), tasks.len()), (0, 0));
    }
}
