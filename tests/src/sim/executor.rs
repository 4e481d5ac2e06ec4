//! The tasks of one simulated host, run on this thread in an order that is a function of the seed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use ringplane_core::local::env::LocalTask;

use super::rng::Rng;

/// Hosts that want a turn, each listed once, in the order they asked.
#[derive(Default, Debug)]
pub struct Attention {
    hosts: Mutex<VecDeque<u32>>,
}

impl Attention {
    fn push(&self, host: u32) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).push_back(host);
    }

    /// The next host that wants a turn. It may ask again from now on only after [`Bell::answer`].
    pub fn pop(&self) -> Option<u32> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// How the tasks and the commands of one host ask for a turn.
#[derive(Debug)]
pub struct Bell {
    host: u32,
    rung: AtomicBool,
    attention: Arc<Attention>,
}

impl Bell {
    /// The bell of host number `host`.
    pub fn new(host: u32, attention: Arc<Attention>) -> Arc<Self> {
        Arc::new(Self { host, rung: AtomicBool::new(false), attention })
    }

    /// Asks for a turn, unless one has been asked for.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            self.attention.push(self.host);
        }
    }

    /// The turn begins: whatever rings from now on asks for another.
    pub fn answer(&self) {
        self.rung.store(false, Ordering::Relaxed);
    }
}

/// Tasks of one host. Wakers belong to slots and are reused with them; a waker that outlives its task makes the next
/// task of the slot run once in vain, which every future must bear.
pub struct Executor {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    shuffle: Option<RefCell<Rng>>,
}

struct Slot {
    task: Option<LocalTask>,
    waker: Waker,
    woken: Arc<SlotWaker>,
}

#[derive(Debug)]
struct Ready {
    queue: Mutex<VecDeque<usize>>,
    bell: Arc<Bell>,
}

struct SlotWaker {
    slot: usize,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.slot);
            self.ready.bell.ring();
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("slots", &self.slots.borrow().len()).finish_non_exhaustive()
    }
}

impl Executor {
    /// An executor that rings `bell` when a task is ready. With `shuffle` it picks ready tasks at random, without it
    /// in the order they were woken.
    pub fn new(bell: Arc<Bell>, shuffle: Option<Rng>) -> Self {
        Self {
            slots: RefCell::default(),
            free: RefCell::default(),
            ready: Arc::new(Ready { queue: Mutex::default(), bell }),
            shuffle: shuffle.map(RefCell::new),
        }
    }

    /// Takes a task; it runs for the first time in the next [`Executor::run`].
    pub fn spawn(&self, task: LocalTask) {
        let vacant = self.free.borrow_mut().pop();
        let mut slots = self.slots.borrow_mut();
        let slot = vacant.unwrap_or(slots.len());
        if let Some(found) = slots.get_mut(slot) {
            found.task = Some(task);
        } else {
            let woken = Arc::new(SlotWaker { slot, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
            slots.push(Slot { task: Some(task), waker: Waker::from(Arc::clone(&woken)), woken });
        }
        slots[slot].woken.wake_by_ref();
    }

    /// Runs ready tasks, and those they wake, at most `most` times altogether. Returns how often.
    pub fn run(&self, most: usize) -> usize {
        for ran in 0..most {
            let Some(slot) = self.pick() else { return ran };
            self.poll(slot);
        }
        most
    }

    /// Drops every task where it stands.
    pub fn clear(&self) {
        let tasks: Vec<LocalTask> = self.slots.borrow_mut().iter_mut().filter_map(|slot| slot.task.take()).collect();
        drop(tasks);
    }

    /// Tasks that have not finished.
    pub fn alive(&self) -> usize {
        self.slots.borrow().iter().filter(|slot| slot.task.is_some()).count()
    }

    fn pick(&self) -> Option<usize> {
        let mut queue = self.ready.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.shuffle {
            Some(rng) if queue.len() > 1 => {
                let chosen = rng.borrow_mut().index(queue.len());
                queue.swap_remove_back(chosen)
            }
            _ => queue.pop_front(),
        }
    }

    fn poll(&self, slot: usize) {
        let (task, waker) = {
            let mut slots = self.slots.borrow_mut();
            let found = &mut slots[slot];
            found.woken.queued.store(false, Ordering::Relaxed);
            (found.task.take(), found.waker.clone())
        };
        let Some(mut task) = task else { return };
        if task.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Pending {
            self.slots.borrow_mut()[slot].task = Some(task);
        } else {
            drop(task);
            self.free.borrow_mut().push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn executor(shuffle: Option<Rng>) -> (Executor, Arc<Attention>) {
        let attention = Arc::<Attention>::default();
        (Executor::new(Bell::new(4, Arc::clone(&attention)), shuffle), attention)
    }

    fn order(shuffle: Option<Rng>) -> Vec<u32> {
        let (executor, _attention) = executor(shuffle);
        let log = Rc::new(RefCell::new(Vec::new()));
        for number in 0..8 {
            let log = Rc::clone(&log);
            executor.spawn(Box::pin(async move { log.borrow_mut().push(number) }));
        }
        assert_eq!(executor.run(100), 8);
        assert_eq!(executor.alive(), 0);
        log.take()
    }

    #[test]
    fn tasks_run_in_order_of_waking_or_in_the_order_of_the_seed() {
        assert_eq!(order(None), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order(Some(Rng::new(1))), order(Some(Rng::new(1))));
        assert_ne!(order(Some(Rng::new(1))), order(None));
    }

    #[test]
    fn a_waking_task_rings_once_until_the_bell_is_answered() {
        let (executor, attention) = executor(None);
        executor.spawn(Box::pin(async {}));
        executor.spawn(Box::pin(async {}));
        assert_eq!((attention.pop(), attention.pop()), (Some(4), None));
        executor.ready.bell.answer();
        executor.spawn(Box::pin(async {}));
        assert_eq!(attention.pop(), Some(4));
    }

    #[test]
    fn a_task_that_wakes_itself_for_ever_is_stopped_at_the_bound() {
        let (executor, _attention) = executor(None);
        executor.spawn(Box::pin(std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        assert_eq!(executor.run(50), 50);
        executor.clear();
        assert_eq!((executor.alive(), executor.run(50)), (0, 1));
    }
}
