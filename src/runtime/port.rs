//! Where threads leave things for one task, which is woken once however many there are.

use std::task::{Context, Poll, Waker};

use crate::runtime::sync::{Mutex, lock};

/// Things for one task. Bounded by those who leave them: each leaves nothing new before the last has been taken.
pub(crate) struct Port<T>(Mutex<Inner<T>>);

struct Inner<T> {
    left: Vec<T>,
    /// The task, while it sleeps and has not been woken.
    task: Option<Waker>,
    closed: bool,
}

impl<T> Default for Port<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner { left: Vec::new(), task: None, closed: false }))
    }
}

impl<T> Port<T> {
    /// Leaves something, and wakes the task if it sleeps.
    ///
    /// # Errors
    /// It all comes back: nobody takes anything any more.
    pub(crate) fn leave<I: IntoIterator<Item = T>>(&self, things: I) -> Result<(), I> {
        let mut inner = lock(&self.0);
        if inner.closed {
            return Err(things);
        }
        inner.left.extend(things);
        let task = inner.task.take();
        drop(inner);
        task.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Takes everything there is into `taken`. If there is nothing, the task is woken once there is.
    pub(crate) fn poll_take(&self, taken: &mut Vec<T>, cx: &Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.0);
        if inner.left.is_empty() {
            inner.task = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if taken.is_empty() {
            std::mem::swap(&mut inner.left, taken);
        } else {
            taken.append(&mut inner.left);
        }
        Poll::Ready(())
    }

    /// Nobody takes anything any more; what is left is handed over.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut inner = lock(&self.0);
        inner.closed = true;
        inner.task = None;
        std::mem::take(&mut inner.left)
    }
}
