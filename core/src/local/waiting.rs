//! Tasks that wait on calls and jobs, and callbacks that wait for an end.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use crate::buf::slab::Key;
use crate::wire::mux::message::Status;
use crate::worker::job::Cause;

/// The tasks that wait on a call.
#[derive(Default)]
pub(super) struct CallSlot {
    pub(super) readers: Waiting,
    pub(super) writers: Waiting,
    pub(super) status: Option<Status>,
    /// What the task that looks after many calls knows it by.
    pub(super) tag: Option<Key>,
}

/// The tasks that wait on a job.
#[derive(Default)]
pub(super) struct JobSlot {
    pub(super) readers: Waiting,
    pub(super) writers: Waiting,
    pub(super) watchers: Waiting,
    /// The task that runs the handler; it ends when the cause is final.
    pub(super) runner: Waiting,
    pub(super) cause: Option<Cause>,
}

/// Tasks that wait for one thing, each once. Several may, as a responder can be cloned and shared, but it is nearly always
/// one, which takes no memory of its own.
#[derive(Default)]
pub(super) struct Waiting {
    first: Option<Waker>,
    #[expect(clippy::box_collection, reason = "there are several of these per call, and hardly ever two tasks")]
    others: Option<Box<Vec<Waker>>>,
}

impl Waiting {
    pub(super) fn keep(&mut self, cx: &Context<'_>) {
        let waker = cx.waker();
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) if self.others.iter().flat_map(|others| others.iter()).any(|other| other.will_wake(waker)) => {}
            Some(_) => self.others.get_or_insert_default().push(waker.clone()),
        }
    }

    pub(super) fn take(&mut self) -> Self {
        core::mem::take(self)
    }

    /// To be called with nothing borrowed: a waker may run anything.
    pub(super) fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        if let Some(others) = self.others {
            others.into_iter().for_each(Waker::wake);
        }
    }
}

/// What happened to the calls that one task looks after together: their tags, some perhaps twice.
#[derive(Default)]
pub(super) struct Gathered {
    tags: RefCell<Vec<Key>>,
    task: Cell<Option<Waker>>,
}

impl Gathered {
    /// To be called with nothing borrowed: a waker may run anything.
    pub(super) fn tell(&self, tag: Key) {
        self.tags.borrow_mut().push(tag);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub(super) fn poll(&self, tags: &mut Vec<Key>, cx: &Context<'_>) -> Poll<()> {
        if self.tags.borrow().is_empty() {
            self.task.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        tags.append(&mut self.tags.borrow_mut());
        Poll::Ready(())
    }
}

/// What is kept beside the values of a machine's slab, by their keys; a stale key finds nothing.
#[derive(Default)]
pub(super) struct Slots<T>(Vec<(Option<Key>, T)>);

impl<T: Default> Slots<T> {
    /// A fresh entry for `key`.
    pub(super) fn claim(&mut self, key: Key) {
        let index = key.index as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || (None, T::default()));
        }
        if let Some(slot) = self.0.get_mut(index) {
            *slot = (Some(key), T::default());
        }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut T> {
        let (owner, value) = self.0.get_mut(key.index as usize)?;
        (*owner == Some(key)).then_some(value)
    }

    pub(super) fn free(&mut self, key: Key) -> Option<T> {
        let value = core::mem::take(self.get(key)?);
        if let Some(slot) = self.0.get_mut(key.index as usize) {
            slot.0 = None;
        }
        Some(value)
    }
}

/// Something that happens once, and who is to be told.
#[derive(Default)]
pub(super) struct Latch {
    over: Cell<bool>,
    listeners: RefCell<Vec<Box<dyn FnOnce()>>>,
}

impl Latch {
    pub(super) fn listen(&self, done: impl FnOnce() + 'static) {
        if self.over.get() {
            done();
        } else {
            self.listeners.borrow_mut().push(Box::new(done));
        }
    }

    pub(super) fn open(&self) {
        self.over.set(true);
        let listeners = self.listeners.take();
        listeners.into_iter().for_each(|done| done());
    }
}

/// Polls until ready. A writer that stands in line for room, and is dropped while it waits, leaves the line by `leave`.
pub(super) async fn in_line<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>, leave: impl Fn()) -> T {
    let mut place = InLine { leave, waits: false };
    poll_fn(|cx| {
        let polled = poll(cx);
        place.waits = polled.is_pending();
        polled
    })
    .await
}

struct InLine<F: Fn()> {
    leave: F,
    waits: bool,
}

impl<F: Fn()> Drop for InLine<F> {
    fn drop(&mut self) {
        if self.waits {
            (self.leave)();
        }
    }
}
