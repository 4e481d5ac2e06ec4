//! Runs the tasks of one thread, beside whatever else the thread does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_task::{Runnable, Task};
use ringplane_core::buf::slab::{Key, Slab};
use ringplane_core::local::env::LocalTask;

use crate::bell::{Bell, Wake};

/// The tasks of one thread. Every task is in at most one queue at most once, so the queues are bounded by the number of
/// tasks and a wake allocates nothing once they have grown.
///
/// ```text
///   wake on this thread   -> `Local::ready`             no lock, no system call
///   wake on another one   -> `Foreign::ready` + bell    one short lock
/// ```
pub struct Executor<W> {
    local: Rc<Local>,
    foreign: Arc<Foreign<W>>,
}

impl<W> Clone for Executor<W> {
    fn clone(&self) -> Self {
        Self { local: self.local.clone(), foreign: self.foreign.clone() }
    }
}

/// What a task panics with ([`std::panic::resume_unwind`]) whose panic has been told of already: it is counted only.
#[derive(Debug)]
pub struct Told;

/// What only this thread touches.
struct Local {
    ready: RefCell<VecDeque<Runnable>>,
    /// `None` only while a task is being made.
    tasks: RefCell<Slab<Option<Task<()>>>>,
    alive: Cell<usize>,
    /// No task is taken any more.
    closed: Cell<bool>,
    scratch: RefCell<Vec<Runnable>>,
}

/// What any thread touches.
struct Foreign<W> {
    ready: Mutex<Vec<Runnable>>,
    bell: Arc<Bell<W>>,
}

thread_local! {
    /// The executor whose thread this is, known by the address of its foreign half.
    static CURRENT: RefCell<Option<(usize, Rc<Local>)>> = const { RefCell::new(None) };
}

impl<W> fmt::Debug for Executor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("tasks", &self.local.alive.get()).finish_non_exhaustive()
    }
}

impl<W: Wake> Executor<W> {
    /// Makes an executor for the calling thread.
    pub fn new(bell: Arc<Bell<W>>) -> Self {
        let local = Rc::new(Local {
            ready: RefCell::default(),
            tasks: RefCell::new(Slab::new()),
            alive: Cell::new(0),
            closed: Cell::new(false),
            scratch: RefCell::default(),
        });
        let foreign = Arc::new(Foreign { ready: Mutex::default(), bell });
        CURRENT.set(Some((Arc::as_ptr(&foreign).addr(), local.clone())));
        Self { local, foreign }
    }

    /// Starts a task; it runs in one of the next [`Executor::run`]s. After [`Executor::clear`] it is dropped instead.
    pub fn spawn(&self, task: LocalTask) {
        if self.local.closed.get() {
            return;
        }
        let foreign = self.foreign.clone();
        let schedule = move |runnable| foreign.schedule(runnable);
        let key = self.local.tasks.borrow_mut().insert(None);
        self.local.alive.set(self.local.alive.get() + 1);
        let leave = Leave { local: self.local.clone(), key };
        let future = async move {
            let _leave = leave;
            task.await;
        };
        let (runnable, handle) = async_task::spawn_local(future, schedule);
        if let Some(slot) = self.local.tasks.borrow_mut().get_mut(key) {
            *slot = Some(handle);
        }
        runnable.schedule();
    }

    /// Polls up to `limit` ready tasks; says how many, and how many of them panicked.
    pub fn run(&self, limit: usize) -> (u64, u64) {
        self.run_while(limit, || true)
    }

    /// The same, while `more` says so; it is asked after each.
    pub fn run_while(&self, limit: usize, more: impl Fn() -> bool) -> (u64, u64) {
        let (mut polls, mut panics) = (0, 0);
        for _ in 0..limit {
            let Some(runnable) = self.local.ready.borrow_mut().pop_front() else { break };
            polls += 1;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| runnable.run())) {
                panics += 1;
                if !panic.is::<Told>() {
                    tracing::error!("a task panicked; the driver goes on without it");
                }
            }
            if !more() {
                break;
            }
        }
        (polls, panics)
    }

    /// Moves tasks woken by other threads to where [`Executor::run`] finds them.
    pub fn collect(&self) {
        let mut scratch = self.local.scratch.borrow_mut();
        std::mem::swap(&mut *scratch, &mut *self.foreign.ready.lock().unwrap_or_else(PoisonError::into_inner));
        self.local.ready.borrow_mut().extend(scratch.drain(..));
    }

    /// Whether a task can run now.
    pub fn is_ready(&self) -> bool {
        !self.local.ready.borrow().is_empty()
    }

    /// Tasks alive.
    pub fn tasks(&self) -> usize {
        self.local.alive.get()
    }

    /// Drops every task, on this thread; waits up to `patience` for one that another thread is waking right now. Returns
    /// how many are left: 0 unless such a thread is stuck.
    pub fn clear(&self, patience: Duration) -> usize {
        self.local.closed.set(true);
        let start = Instant::now();
        loop {
            // A cancelled task is scheduled once more, to be dropped here.
            let tasks = std::mem::take(&mut *self.local.tasks.borrow_mut());
            drop(tasks);
            self.collect();
            let ready = std::mem::take(&mut *self.local.ready.borrow_mut());
            let idle = ready.is_empty();
            for runnable in ready {
                if catch_unwind(AssertUnwindSafe(|| drop(runnable))).is_err() {
                    tracing::error!("a task panicked while it was dropped");
                }
            }
            if self.tasks() == 0 || start.elapsed() > patience {
                return self.tasks();
            }
            if idle {
                std::thread::yield_now();
            }
        }
    }

    /// The thread runs tasks again.
    pub fn resume(&self) {
        CURRENT.set(Some((Arc::as_ptr(&self.foreign).addr(), self.local.clone())));
    }

    /// The thread no longer runs tasks, or not for now: a wake rings the bell from now on.
    pub fn retire(&self) {
        CURRENT.set(None);
    }
}

impl<W: Wake> Foreign<W> {
    fn schedule(&self, runnable: Runnable) {
        let mut runnable = Some(runnable);
        // A thread that is being torn down has no thread-locals; it is not the driver's then.
        let _ = CURRENT.try_with(|current| match &*current.borrow() {
            Some((owner, local)) if *owner == (&raw const *self).addr() => {
                local.ready.borrow_mut().extend(runnable.take());
            }
            _ => {}
        });
        if let Some(runnable) = runnable {
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(runnable);
            self.bell.ring();
        }
    }
}

/// Takes a task off the books when its future is gone, completed or dropped.
struct Leave {
    local: Rc<Local>,
    key: Key,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.local.alive.set(self.local.alive.get() - 1);
        let task = self.local.tasks.borrow_mut().remove(self.key);
        drop(task);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::task::{Poll, Waker};

    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn executor() -> (Executor<Nobody>, Arc<Bell<Nobody>>) {
        let bell = Arc::new(Bell::new(Nobody));
        (Executor::new(bell.clone()), bell)
    }

    #[test]
    fn ten_thousand_tasks_run_and_leave_the_books() {
        let (executor, _) = executor();
        let done = Rc::new(Cell::new(0));
        for _ in 0..10_000 {
            let done = done.clone();
            let mut yielded = false;
            executor.spawn(Box::pin(async move {
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                done.set(done.get() + 1);
            }));
        }
        while executor.is_ready() {
            executor.run(256);
        }
        assert_eq!((done.get(), executor.tasks()), (10_000, 0));
    }

    #[test]
    fn a_wake_from_another_thread_rings_and_the_task_still_runs_here() {
        let (executor, bell) = executor();
        let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
        let done = Rc::new(Cell::new(false));
        let finished = done.clone();
        let mut first = true;
        executor.spawn(Box::pin(async move {
            poll_fn(|cx| {
                if std::mem::take(&mut first) {
                    sender.send(cx.waker().clone()).unwrap();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            finished.set(true);
        }));
        executor.run(8);
        std::thread::spawn(move || receiver.recv().unwrap().wake()).join().unwrap();
        assert!(bell.is_signalled() && !executor.is_ready());
        executor.collect();
        executor.run(8);
        assert!(done.get());
    }

    #[test]
    fn clearing_drops_tasks_in_every_state_and_late_wakes_do_nothing() {
        let (executor, _) = executor();
        let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
        let guard = Rc::new(());
        for polled in [true, false] {
            let (guard, sender) = (guard.clone(), sender.clone());
            executor.spawn(Box::pin(async move {
                let _guard = guard;
                let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
                sender.send(waker).unwrap();
                pending::<()>().await;
            }));
            if polled {
                executor.run(8);
            }
        }
        assert_eq!((executor.clear(Duration::from_secs(1)), Rc::strong_count(&guard)), (0, 1));
        executor.retire();
        let waker = receiver.recv().unwrap();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        executor.spawn(Box::pin(async { unreachable!("spawned too late") }));
        assert_eq!((executor.run(8), executor.tasks()), ((0, 0), 0));
    }

    #[test]
    fn a_panicking_task_is_counted_and_the_others_go_on() {
        let (executor, _) = executor();
        let done = Rc::new(Cell::new(false));
        let finished = done.clone();
        executor.spawn(Box::pin(async { panic!("on purpose") }));
        executor.spawn(Box::pin(async move { finished.set(true) }));
        assert_eq!(executor.run(8), (2, 1));
        assert!(done.get() && executor.tasks() == 0);
    }
}
