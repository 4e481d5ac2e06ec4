//! A request between the core that received it and a handler on a runtime: all that they share, under one lock.
//!
//! ```text
//!   core     give   -> items, end  ->  poll_read       the handler
//!            tell   -> cause       ->  poll_cause
//!            next  <-  answers     <-  poll_send       every clone of the way back
//!            next  <-  outcome     <-  conclude        the handler's task
//!            close -> both sides learn that the call is over
//! ```

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::Bytes;
use ringplane_core::local::{Failure, SendItemError};
use ringplane_core::worker::job::Cause;

use crate::runtime::cores::errands;
use crate::runtime::hub::{Sleeper, Wakes};
use crate::runtime::lane::{Hand, Items, Lane};
use crate::runtime::sync::{AtomicBool, Mutex, lock};

/// What a handler answers with, in the end.
pub(super) type Outcome = Result<(), Failure>;

/// A request as both sides have it.
pub(super) struct Crossing {
    /// The call is over for the core. Beside the state, for those who look often.
    over: AtomicBool,
    state: Mutex<State>,
}

impl fmt::Debug for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossing").finish_non_exhaustive()
    }
}

struct State {
    items: Lane<Outcome>,
    reader: Option<Sleeper>,
    answers: Lane<()>,
    senders: Vec<Sleeper>,
    /// Ways back to the caller: answers end with the last.
    outs: usize,
    outcome: Option<thread::Result<Outcome>>,
    cause: Option<Cause>,
    watchers: Vec<Sleeper>,
    /// The handler's task, to be woken when it is not wanted any more.
    task: Option<Waker>,
    /// The core's task, while it waits for something of the handler's.
    core: Option<Waker>,
}

impl Crossing {
    /// A request with at most `depth` items on the way in each direction, and one way back.
    pub(super) fn new(depth: usize) -> Self {
        let state = State {
            items: Lane::new(depth),
            reader: None,
            answers: Lane::new(depth),
            senders: Vec::new(),
            outs: 1,
            outcome: None,
            cause: None,
            watchers: Vec::new(),
            task: None,
            core: None,
        };
        Self { over: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// Passes an item on, waiting for room; `false`: nobody reads any more.
    pub(super) async fn give(&self, item: Bytes) -> bool {
        let mut item = Some(item);
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.items.is_closed() {
                return Poll::Ready(false);
            }
            if !state.items.push_all(&mut item) {
                state.core = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let reader = state.reader.take();
            drop(state);
            wake(reader);
            Poll::Ready(true)
        })
        .await
    }

    /// No item follows, and this is why.
    pub(super) fn end(&self, end: Outcome) {
        let mut state = lock(&self.state);
        state.items.end(end);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// The call is cancelled.
    pub(super) fn tell(&self, cause: Cause) {
        let mut state = lock(&self.state);
        state.cause = Some(cause);
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        wake(watchers);
    }

    /// Puts the next answers into the hand, which is empty; the outcome once no answer follows.
    pub(super) async fn next(&self, hand: &mut Hand) -> Option<thread::Result<Outcome>> {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            let freed = state.answers.read(hand);
            let senders = if freed { std::mem::take(&mut state.senders) } else { Vec::new() };
            let answer = if !hand.is_empty() {
                Poll::Ready(None)
            } else if state.outs == 0
                && let Some(outcome) = state.outcome.take()
            {
                Poll::Ready(Some(outcome))
            } else {
                state.core = Some(cx.waker().clone());
                Poll::Pending
            };
            drop(state);
            wake(senders);
            answer
        })
        .await
    }

    /// The call is over for the core.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Release);
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        state.items.end(Err(SendItemError::Gone.into()));
        let dropped = (state.answers.close(), state.core.take());
        wakes.add(state.reader.take());
        wakes.add(state.senders.drain(..));
        wakes.add(state.watchers.drain(..));
        let task = state.task.take();
        drop(state);
        drop(dropped);
        errands(|all| {
            all.append(&mut wakes);
            all.add(task.map(Sleeper::alone));
        });
    }

    /// Puts the next items into the hand, which is empty, or hands over how they ended.
    pub(super) fn poll_read(&self, hand: &mut Hand, cx: &Context<'_>) -> Poll<Option<Outcome>> {
        let mut state = lock(&self.state);
        let core = if state.items.read(hand) { state.core.take() } else { None };
        let answer = if !hand.is_empty() {
            Poll::Ready(None)
        } else if let Some(end) = state.items.take_end() {
            Poll::Ready(Some(end))
        } else {
            if state.reader.as_ref().is_none_or(|reader| !reader.is(cx)) {
                state.reader = Some(Sleeper::of(cx));
            }
            Poll::Pending
        };
        drop(state);
        core.into_iter().for_each(Waker::wake);
        answer
    }

    /// Nobody reads the items any more.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        let dropped = state.items.close();
        let core = state.core.take();
        drop(state);
        drop(dropped);
        core.into_iter().for_each(Waker::wake);
    }

    /// Takes as many of these answers as there is room for, from the front; ready once none is left.
    pub(super) fn poll_send(&self, items: &mut impl Items, cx: &Context<'_>) -> Poll<Result<(), SendItemError>> {
        let mut state = lock(&self.state);
        if state.answers.is_closed() {
            return Poll::Ready(Err(SendItemError::Gone));
        }
        let answer = if state.answers.push_all(items) {
            Poll::Ready(Ok(()))
        } else {
            if !state.senders.iter().any(|sender| sender.is(cx)) {
                state.senders.push(Sleeper::of(cx));
            }
            Poll::Pending
        };
        let core = state.core.take();
        drop(state);
        core.into_iter().for_each(Waker::wake);
        answer
    }

    /// Why the call is cancelled, once it is or is over.
    pub(super) fn poll_cause(&self, cx: &Context<'_>) -> Poll<Cause> {
        let mut state = lock(&self.state);
        match state.cause {
            Some(cause) => Poll::Ready(cause),
            None if self.is_over() => Poll::Ready(Cause::Kill),
            None => {
                if !state.watchers.iter().any(|watcher| watcher.is(cx)) {
                    state.watchers.push(Sleeper::of(cx));
                }
                Poll::Pending
            }
        }
    }

    /// Why the call is cancelled, if it is or is over.
    pub(super) fn cause(&self) -> Option<Cause> {
        lock(&self.state).cause.or_else(|| self.is_over().then_some(Cause::Kill))
    }

    /// Whether the call is over for the core.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The handler's task, to be woken when the call is over.
    pub(super) fn begin(&self, task: &Context<'_>) {
        lock(&self.state).task = Some(task.waker().clone());
    }

    /// The handler's task is done. Of several outcomes the first counts.
    pub(super) fn conclude(&self, outcome: thread::Result<Outcome>) {
        let mut state = lock(&self.state);
        state.outcome.get_or_insert(outcome);
        let (core, task) = (state.core.take(), state.task.take());
        drop(state);
        drop(task);
        core.into_iter().for_each(Waker::wake);
    }

    /// One more way back.
    pub(super) fn add_out(&self) {
        lock(&self.state).outs += 1;
    }

    /// One way back less.
    pub(super) fn drop_out(&self) {
        let mut state = lock(&self.state);
        state.outs -= 1;
        let core = if state.outs == 0 { state.core.take() } else { None };
        drop(state);
        core.into_iter().for_each(Waker::wake);
    }
}

fn wake(sleepers: impl IntoIterator<Item = Sleeper>) {
    let mut sleepers = sleepers.into_iter().peekable();
    if sleepers.peek().is_some() {
        errands(|wakes| wakes.add(sleepers));
    }
}
