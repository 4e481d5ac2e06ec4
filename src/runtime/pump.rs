//! The core's side of all calls that other threads read: one task for all of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ringplane_core::buf::outbox::SendError;
use ringplane_core::buf::slab::{Key, Slab};
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{Recv, Request};
use ringplane_core::local::{LocalCall, LocalNode, LocalSender};

use crate::runtime::crossing::{Brought, Crossing};
use crate::runtime::hub::Wakes;
use crate::runtime::known::Known;
use crate::runtime::lane::Hand;
use crate::runtime::port::Port;
use crate::runtime::room::Room;

/// Items and looks in one poll, after which others of the core have their turn.
const OPERATIONS: usize = 256;

/// The calls of one core that other threads read.
pub(crate) struct Pump {
    port: Arc<Port<Key>>,
    depth: usize,
    /// Calls that are to be begun.
    fresh: RefCell<Vec<Arc<Crossing>>>,
    task: Cell<Option<Waker>>,
    calls: RefCell<Calls>,
    /// What is to be run elsewhere, left by the core's other tasks and by whatever is dropped while the calls are borrowed.
    errands: RefCell<Wakes>,
    closed: Cell<bool>,
}

#[derive(Default)]
struct Calls {
    all: Slab<Ends>,
    /// Empty, but for its memory.
    fresh: Vec<Arc<Crossing>>,
    /// Those that are to be looked at, each once.
    due: VecDeque<Key>,
    heard: Vec<Key>,
    brought: Brought,
    wakes: Wakes,
}

/// The core's ends of one call.
struct Ends {
    crossing: Arc<Crossing>,
    call: LocalCall,
    /// Of a streaming request that has not ended.
    sender: Option<LocalSender>,
    requests: Hand,
    /// The request ends after what is in the hand.
    ended: bool,
    /// The machine has no room for requests.
    blocked: bool,
    /// Room for items when it was looked at last.
    room: Room,
    /// An item that was read and does not fit.
    held: Option<Bytes>,
    /// Whether it has been told where the call is.
    placed: bool,
    due: bool,
}

impl Pump {
    /// The pump of a core that is told by way of `port`; `depth` items of each call may be ahead.
    pub(crate) fn new(port: Arc<Port<Key>>, depth: usize) -> Self {
        Self {
            port,
            depth,
            fresh: RefCell::default(),
            task: Cell::new(None),
            calls: RefCell::default(),
            errands: RefCell::default(),
            closed: Cell::new(false),
        }
    }

    /// Begins the calls that have been handed in. Whatever is asked of the core afterwards finds them begun.
    pub(crate) fn begin(&self, call: impl Fn(&Known, Request) -> Result<LocalCall, CallError>) {
        let mut calls = self.calls.borrow_mut();
        let mut fresh = std::mem::take(&mut calls.fresh);
        std::mem::swap(&mut fresh, &mut *self.fresh.borrow_mut());
        for crossing in fresh.drain(..) {
            let Some((known, request)) = crossing.take_opening() else { continue };
            let streaming = request.body.is_none();
            match call(&known, request) {
                Ok(call) => calls.begin(crossing, call, streaming, Room::of(self.depth)),
                Err(error) => crossing.lose(error, &mut calls.wakes),
            }
        }
        calls.fresh = fresh;
    }

    /// Looks at the calls there is news of, those that have just [begun](Self::begin) too; never done.
    pub(crate) fn poll(&self, node: &LocalNode, cx: &Context<'_>) -> Poll<()> {
        let mut calls = self.calls.borrow_mut();
        let mut left = OPERATIONS;
        loop {
            let heard = &mut calls.heard;
            let (told, gathered) = (self.port.poll_take(heard, cx), node.poll_gathered(heard, cx));
            if told.is_pending() && gathered.is_pending() && calls.due.is_empty() {
                break;
            }
            calls.hear();
            if !calls.look(&mut left) {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let mut wakes = std::mem::take(&mut calls.wakes);
        drop(calls);
        wakes.append(&mut self.errands.borrow_mut());
        wakes.give();
        // What has just run may have begun calls that failed at once.
        let mut calls = self.calls.borrow_mut();
        wakes.append(&mut calls.wakes);
        calls.wakes = wakes;
        Poll::Pending
    }

    /// A call to be begun.
    pub(crate) fn open(&self, crossing: Arc<Crossing>) {
        if self.closed.get() {
            return lose(&crossing);
        }
        self.fresh.borrow_mut().push(crossing);
        self.wake();
    }

    /// Has errands run with those of others before the core sleeps again.
    pub(crate) fn errands(&self, add: impl FnOnce(&mut Wakes)) {
        add(&mut self.errands.borrow_mut());
        self.wake();
    }

    /// The pump's task sleeps with the next poll.
    pub(crate) fn rest(&self, cx: &Context<'_>) {
        self.task.set(Some(cx.waker().clone()));
    }

    /// Whether its core runs no tasks any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// The core ends: no call will hear of it again.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.port.close();
        let (fresh, calls) = (self.fresh.take(), self.calls.take());
        let mut wakes = calls.wakes;
        wakes.append(&mut self.errands.borrow_mut());
        for crossing in calls.all.iter().map(|(_, ends)| &ends.crossing).chain(&fresh) {
            crossing.lose(CallError::Closed, &mut wakes);
        }
        wakes.give();
    }
}

/// Ends a call whose core has ended.
pub(crate) fn lose(crossing: &Crossing) {
    let mut wakes = Wakes::default();
    crossing.lose(CallError::Closed, &mut wakes);
    wakes.give();
}

impl Calls {
    fn begin(&mut self, crossing: Arc<Crossing>, call: LocalCall, streaming: bool, room: Room) {
        let sender = streaming.then(|| call.sender());
        let (requests, held) = (Hand::default(), None);
        let (ended, blocked, placed) = (false, false, false);
        let ends = Ends { crossing, call, sender, requests, ended, blocked, room, held, placed, due: true };
        let key = self.all.insert(ends);
        if let Some(ends) = self.all.get(key) {
            ends.call.gather(key);
        }
        self.due.push_back(key);
    }

    /// Sees to it that the calls that were heard of are looked at.
    fn hear(&mut self) {
        for key in self.heard.drain(..) {
            if let Some(ends) = self.all.get_mut(key)
                && !std::mem::replace(&mut ends.due, true)
            {
                self.due.push_back(key);
            }
        }
    }

    /// Looks at calls, for so many operations; `false`: they are used up.
    fn look(&mut self, left: &mut usize) -> bool {
        while *left > 0 {
            let Some(key) = self.due.pop_front() else { return true };
            *left = left.saturating_sub(self.look_at(key));
        }
        false
    }

    /// Moves what can be moved of one call; how much that was.
    fn look_at(&mut self, key: Key) -> usize {
        let Self { all, due, brought, wakes, .. } = self;
        let Some(ends) = all.get_mut(key) else { return 1 };
        ends.due = false;
        let mut moved = 0;
        loop {
            ends.send(wakes);
            ends.receive(brought);
            if !ends.placed && (!brought.is_empty() || ends.crossing.is_placed()) {
                ends.placed = !brought.is_empty();
                brought.at = ends.call.instance();
            }
            moved += brought.items.len() + 1;
            let over = brought.outcome.is_some();
            let news = ends.crossing.exchange(key, brought, &mut ends.requests, wakes);
            brought.clear();
            if over || news.gone {
                drop(all.remove(key));
                return moved;
            }
            ends.room = news.room;
            ends.ended |= news.ended;
            if let Some(mode) = news.cancel {
                ends.call.cancel(mode);
            }
            let fits = brought.needs.take().is_some_and(|len| news.room.fits(len));
            if !fits && !ends.has_requests() && news.cancel.is_none() {
                return moved;
            }
            if moved >= OPERATIONS {
                ends.due = true;
                due.push_back(key);
                return moved;
            }
        }
    }
}

impl Ends {
    /// Whether there is a request item, or the end of the request, to be handed to the machine, which takes it.
    fn has_requests(&self) -> bool {
        self.sender.is_some() && !self.blocked && (!self.requests.is_empty() || self.ended)
    }

    /// Hands request items to the machine while it takes them, then their end.
    fn send(&mut self, wakes: &mut Wakes) {
        self.blocked = false;
        let Some(sender) = &self.sender else { return };
        while let Some(item) = self.requests.pop() {
            match sender.try_send(item) {
                Ok(()) => {}
                Err(SendError::Blocked(item)) => {
                    self.requests.put_back(item);
                    self.blocked = true;
                    return;
                }
                // The outcome says why.
                Err(SendError::Closed | SendError::TooLarge { .. }) => {
                    self.sender = None;
                    self.crossing.refuse(wakes);
                    return;
                }
            }
        }
        if self.ended {
            self.blocked = !sender.try_finish();
            if !self.blocked {
                self.sender = None;
            }
        }
    }

    /// Takes items of the machine's while there is room for them, then the outcome.
    fn receive(&mut self, brought: &mut Brought) {
        let mut room = self.room;
        brought.needs = None;
        loop {
            let len = self.held.as_ref().map_or(0, Bytes::len);
            if !room.fits(len) {
                brought.needs = Some(len);
                return;
            }
            let item = match self.held.take() {
                Some(item) => item,
                None => match self.call.try_next() {
                    Recv::Item(item) => item,
                    Recv::Pending => return,
                    Recv::End(outcome) => {
                        brought.outcome = Some(outcome);
                        brought.attempts = self.call.attempts();
                        return;
                    }
                },
            };
            if room.fits(item.len()) {
                room.take(item.len());
                brought.items.push(item);
            } else {
                self.held = Some(item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use ringplane_core::route::policy::any::AnyPolicy;

    use super::*;
    use crate::runtime::hub::Sleeper;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn errands_may_be_left_while_calls_are_begun_and_are_run_when_the_core_ends() {
        let pump = Pump::new(Arc::default(), 1);
        let woken = Arc::<Woken>::default();
        let known = Arc::new(Known { number: 0, name: String::new(), policy: AnyPolicy::default() });
        pump.open(Arc::new(Crossing::new(Arc::default(), 1, (known, Request::default()), false)));
        pump.begin(|_, _| {
            pump.errands(|wakes| wakes.add([Sleeper::alone(woken.clone().into())]));
            Err(CallError::Overloaded)
        });
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "nothing is run while something is borrowed");
        pump.close();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    }
}
