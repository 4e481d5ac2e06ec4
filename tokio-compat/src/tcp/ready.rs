//! Which connections have something to do: a list their wakers add to and the driver takes whole.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Waker};

use ringplane_driver::bell::Wake;

/// The slots whose sockets became ready since the driver last looked, and how to wake the driver. The lock is
/// hardly ever taken by another thread than the driver's: by one that wakes a driver that waits.
#[derive(Default, Debug)]
pub(crate) struct ReadyList {
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    slots: Vec<u32>,
    driver: Option<Waker>,
}

impl ReadyList {
    /// Makes `driver` the one to wake. Called at the start of each turn.
    pub(crate) fn set_driver(&self, driver: &Waker) {
        match &mut self.lock().driver {
            Some(known) => known.clone_from(driver),
            none => *none = Some(driver.clone()),
        }
    }

    /// Runs the driver soon.
    pub(crate) fn wake_driver(&self) {
        if let Some(driver) = &self.lock().driver {
            driver.wake_by_ref();
        }
    }

    /// Swaps the list with `empty`.
    pub(crate) fn take(&self, empty: &mut Vec<u32>) {
        mem::swap(&mut self.lock().slots, empty);
    }

    fn push(&self, slot: u32) {
        let mut inner = self.lock();
        inner.slots.push(slot);
        // With more than one on the list the driver has been told and has not come yet.
        if inner.slots.len() == 1
            && let Some(driver) = &inner.driver
        {
            driver.wake_by_ref();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for ReadyList {
    fn wake(&self) {
        self.wake_driver();
    }
}

/// The waker of one slot. It outlives the connections that pass through the slot; a late wake only costs a look.
#[derive(Debug)]
pub(crate) struct SlotWaker {
    slot: u32,
    queued: AtomicBool,
    list: Arc<ReadyList>,
}

impl SlotWaker {
    pub(crate) fn new(slot: u32, list: Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { slot, queued: AtomicBool::new(false), list })
    }

    /// Says that the driver is about to look at the slot: wakes from now on count again.
    pub(crate) fn begin(&self) {
        self.queued.store(false, Ordering::Relaxed);
    }

    /// Says that the driver itself will look again. `false` if the slot is on a list already.
    pub(crate) fn requeue(&self) -> bool {
        !self.queued.swap(true, Ordering::Relaxed)
    }
}

impl task::Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.requeue() {
            self.list.push(self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake as _;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl task::Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_slot_is_listed_once_and_the_driver_woken_once_per_list() {
        let list = Arc::new(ReadyList::default());
        let counter = Arc::new(Counter::default());
        list.set_driver(&Waker::from(Arc::clone(&counter)));
        let slots = [SlotWaker::new(4, Arc::clone(&list)), SlotWaker::new(7, Arc::clone(&list))];
        for _ in 0..3 {
            slots.iter().for_each(task::Wake::wake_by_ref);
        }
        let mut taken = Vec::new();
        list.take(&mut taken);
        assert_eq!(taken, [4, 7]);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_wake_during_the_look_lists_the_slot_again() {
        let list = Arc::new(ReadyList::default());
        let slot = SlotWaker::new(1, Arc::clone(&list));
        slot.wake_by_ref();
        let mut taken = Vec::new();
        list.take(&mut taken);
        slot.begin();
        slot.wake_by_ref();
        taken.clear();
        list.take(&mut taken);
        assert_eq!(taken, [1]);
    }
}
