//! What waits for one peer: bounded by count and bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use ringplane_core::wire::zmtp;
use tokio::sync::Notify;

/// A message of one or more frames, shared by all peers that it waits for.
pub type Message = Arc<[Bytes]>;

/// What became of a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It waits, or is on its way.
    Taken,
    /// Too much waits already.
    Full,
    /// The peer is not there any more.
    Gone,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Message>,
    bytes: usize,
    closed: bool,
    /// The peer's task has been told and has not looked yet.
    told: bool,
    /// Bytes that were taken are on their way.
    busy: bool,
}

/// The messages that wait for one peer.
pub(super) struct Lane {
    max: usize,
    max_bytes: usize,
    queue: Mutex<Queue>,
    /// Told when something waits.
    pub(super) bell: Notify,
    /// Told when nothing waits any more.
    pub(super) empty: Notify,
}

impl Lane {
    pub(super) fn new(max: usize, max_bytes: usize) -> Self {
        Self { max, max_bytes, queue: Mutex::default(), bell: Notify::new(), empty: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a message wait. One is always taken, however large.
    pub(super) fn push(&self, message: Message) -> Pushed {
        let mut queue = self.lock();
        if queue.closed {
            return Pushed::Gone;
        }
        let len = zmtp::message_len(&message);
        let fits = queue.waiting.len() < self.max && queue.bytes.saturating_add(len) <= self.max_bytes;
        if !fits && !queue.waiting.is_empty() {
            return Pushed::Full;
        }
        queue.bytes += len;
        queue.waiting.push_back(message);
        let tell = !std::mem::replace(&mut queue.told, true);
        drop(queue);
        if tell {
            self.bell.notify_one();
        }
        Pushed::Taken
    }

    /// Writes what waits behind `out` until that has about `most` bytes. Called again when `out` has been written.
    pub(super) fn take(&self, out: &mut BytesMut, most: usize) {
        let mut queue = self.lock();
        queue.told = false;
        while out.len() < most
            && let Some(message) = queue.waiting.pop_front()
        {
            queue.bytes -= zmtp::message_len(&message);
            zmtp::put_message(&message, out);
        }
        queue.busy = !out.is_empty();
        let empty = !queue.busy;
        drop(queue);
        if empty {
            self.empty.notify_waiters();
        }
    }

    /// Whether everything has been written, or will never be.
    pub(super) fn is_empty(&self) -> bool {
        let queue = self.lock();
        queue.closed || (queue.waiting.is_empty() && !queue.busy)
    }

    /// Nothing is taken any more, and what waits is dropped. Answers how many that were.
    pub(super) fn close(&self) -> usize {
        let mut queue = self.lock();
        queue.closed = true;
        queue.bytes = 0;
        let dropped = std::mem::take(&mut queue.waiting).len();
        drop(queue);
        self.empty.notify_waiters();
        dropped
    }
}
