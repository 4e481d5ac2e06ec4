//! A call between the core that makes it and the threads that read it and send to it: all that they share, under one lock.
//!
//! ```text
//!   reader   poll_read  <- items, outcome <-  exchange
//!   senders  poll_send  -> requests, end  ->  exchange   the core, for all calls it has news of
//!   anyone   cancel, leave                ->  exchange
//! ```
//! The core takes the lock once for each look at a call, however many items come and go with it; a reader once for each
//! handful of items. Whoever brings news wakes the other side only if it sleeps: a reader by its waker, the core by the key
//! that is left at its port, once until it has looked.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ringplane_core::buf::slab::Key;
use ringplane_core::caller::error::{At, CallError};
use ringplane_core::caller::request::Request;
use ringplane_core::wire::mux::message::CancelMode;

use crate::runtime::hub::{Sleeper, Wakes};
use crate::runtime::known::Known;
use crate::runtime::lane::{Hand, Items, Lane, Queue};
use crate::runtime::port::Port;
use crate::runtime::room::Room;
use crate::runtime::sync::{Mutex, lock};

/// How a call ended.
pub(crate) type Outcome = Result<(), CallError>;

/// What a core needs to begin a call.
pub(crate) type Opening = (Arc<Known>, Request);

/// The call is over: it takes no item any more.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Over;

/// A call as both sides have it.
pub(crate) struct Crossing {
    port: Arc<Port<Key>>,
    /// It says where it is as soon as it has been sent there.
    placed: bool,
    state: Mutex<State>,
}

impl fmt::Debug for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossing").finish_non_exhaustive()
    }
}

struct State {
    opening: Option<Opening>,
    core: Core,
    /// The core has been told to look and has not looked yet.
    posted: bool,
    /// The core has something to read for which there was no room.
    stalled: bool,
    /// The strongest cancel asked for so far, and whether the core is yet to hear of it.
    cancel: Option<CancelMode>,
    unheard: bool,
    /// Nobody reads any more.
    gone: bool,
    /// Where the call is, from the first that came of it on.
    at: Option<At>,
    items: Lane<Outcome>,
    /// Tries that it took, once it is over.
    attempts: u32,
    reader: Option<Sleeper>,
    requests: Lane<()>,
    senders: Vec<Sleeper>,
}

/// What the core has to do with a call.
///
/// ```text
///   Ahead --exchange--> Begun --exchange with the outcome, lost--> Over
///     +-------------------------- refused, lost -------------------> Over
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Core {
    /// It is on its way there.
    Ahead,
    /// It looks at the call when it hears this.
    Begun(Key),
    /// It has nothing to do with it any more.
    Over,
}

/// What a core learns with a look at a call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct News {
    /// Nobody reads the call any more.
    pub(crate) gone: bool,
    /// The call is to be cancelled.
    pub(crate) cancel: Option<CancelMode>,
    /// No request item follows those in the hand.
    pub(crate) ended: bool,
    /// Room for items.
    pub(crate) room: Room,
}

impl Crossing {
    /// A call of which at most `depth` items are on the way in each direction, for the core behind `port`.
    pub(crate) fn new(port: Arc<Port<Key>>, depth: usize, opening: Opening, placed: bool) -> Self {
        let state = State {
            opening: Some(opening),
            core: Core::Ahead,
            posted: false,
            stalled: false,
            cancel: None,
            unheard: false,
            gone: false,
            at: None,
            items: Lane::new(depth),
            attempts: 0,
            reader: None,
            requests: Lane::new(depth),
            senders: Vec::new(),
        };
        Self { port, placed, state: Mutex::new(state) }
    }

    /// Puts the next items into the hand, which is empty, or hands over the outcome after the last.
    pub(crate) fn poll_read(&self, hand: &mut Hand, cx: &Context<'_>) -> Poll<Option<Outcome>> {
        let mut state = lock(&self.state);
        let freed = state.items.read(hand);
        let told = if freed && std::mem::take(&mut state.stalled) { state.post() } else { None };
        let answer = if !hand.is_empty() {
            Poll::Ready(None)
        } else if let Some(outcome) = state.items.take_end() {
            Poll::Ready(Some(outcome))
        } else {
            if state.reader.as_ref().is_none_or(|reader| !reader.is(cx)) {
                state.reader = Some(Sleeper::of(cx));
            }
            Poll::Pending
        };
        drop(state);
        self.tell(told);
        answer
    }

    /// Takes as many of these request items as there is room for, from the front; ready once none is left.
    pub(crate) fn poll_send(&self, items: &mut impl Items, cx: &Context<'_>) -> Poll<Result<(), Over>> {
        let mut state = lock(&self.state);
        if state.requests.is_closed() {
            return Poll::Ready(Err(Over));
        }
        let before = state.requests.room();
        let answer = if state.requests.push_all(items) {
            Poll::Ready(Ok(()))
        } else {
            if !state.senders.iter().any(|sender| sender.is(cx)) {
                state.senders.push(Sleeper::of(cx));
            }
            Poll::Pending
        };
        let told = if state.requests.room() == before { None } else { state.post() };
        drop(state);
        self.tell(told);
        answer
    }

    /// Whether it says where it is before anything has come of it.
    pub(crate) const fn is_placed(&self) -> bool {
        self.placed
    }

    /// Where the call is, once something has come of it.
    pub(crate) fn at(&self) -> Option<At> {
        lock(&self.state).at
    }

    /// Has the core look at the call, and say where it is if that is asked for.
    pub(crate) fn look(&self) {
        let told = lock(&self.state).post();
        self.tell(told);
    }

    /// No request item follows.
    pub(crate) fn finish(&self) {
        let mut state = lock(&self.state);
        state.requests.end(());
        let told = state.post();
        drop(state);
        self.tell(told);
    }

    /// Has the call cancelled, unless that much has been asked for already.
    pub(crate) fn cancel(&self, mode: CancelMode) {
        let mut state = lock(&self.state);
        let asked = state.cancel.map_or(0, |mode| mode as u8);
        let told = if asked < mode as u8 {
            (state.cancel, state.unheard) = (Some(mode), true);
            state.post()
        } else {
            None
        };
        drop(state);
        self.tell(told);
    }

    /// Nobody reads the call any more: it ends.
    pub(crate) fn leave(&self) {
        let mut state = lock(&self.state);
        state.gone = true;
        let dropped = (state.items.close(), state.requests.close(), state.opening.take(), state.reader.take());
        let senders = std::mem::take(&mut state.senders);
        let told = state.post();
        drop(state);
        drop(dropped);
        self.tell(told);
        senders.into_iter().for_each(Sleeper::wake);
    }

    /// The tries that the call took; none before it is over, and of one that its core has lost.
    pub(crate) fn attempts(&self) -> u32 {
        lock(&self.state).attempts
    }

    /// What the call is to be begun with; `None` if it has been left before.
    pub(crate) fn take_opening(&self) -> Option<Opening> {
        lock(&self.state).opening.take()
    }

    /// A look of the core, which knows the call by `key`: brings items and perhaps the outcome, after which the core has
    /// nothing to do with it any more; takes requests into the hand. `needs` is the length of an item for which there was no
    /// room, as far as it is known: when there is some the core is told.
    pub(crate) fn exchange(&self, key: Key, brought: &mut Brought, hand: &mut Hand, wakes: &mut Wakes) -> News {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.posted = false;
        if !brought.is_empty() {
            wakes.add(state.reader.take());
        }
        state.at = brought.at.take().or(state.at);
        if !state.gone {
            brought.items.drain(..).for_each(|item| state.items.push(item));
        }
        if let Some(outcome) = brought.outcome.take() {
            state.items.end(outcome);
            state.attempts = brought.attempts;
            state.core = Core::Over;
            brought.dropped = state.requests.close();
            wakes.add(state.senders.drain(..));
        } else {
            state.core = Core::Begun(key);
        }
        if state.requests.read(hand) {
            wakes.add(state.senders.drain(..));
        }
        let room = state.items.room();
        state.stalled = brought.needs.is_some_and(|len| !room.fits(len));
        let cancel = if std::mem::take(&mut state.unheard) { state.cancel } else { None };
        News { gone: state.gone, cancel, ended: state.requests.take_end().is_some(), room }
    }

    /// The call takes no request item any more.
    pub(crate) fn refuse(&self, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        let dropped = state.requests.close();
        wakes.add(state.senders.drain(..));
        drop(state);
        drop(dropped);
    }

    /// The core has nothing to do with the call any more, and this is why unless it has ended before.
    pub(crate) fn lose(&self, error: CallError, wakes: &mut Wakes) {
        let mut state = lock(&self.state);
        if state.core != Core::Over {
            state.core = Core::Over;
            state.items.end(Err(error));
            wakes.add(state.reader.take());
        }
        let dropped = (state.requests.close(), state.opening.take());
        wakes.add(state.senders.drain(..));
        drop(state);
        drop(dropped);
    }

    fn tell(&self, key: Option<Key>) {
        // A core that takes nothing any more has ended its calls.
        key.into_iter().for_each(|key| _ = self.port.leave([key]));
    }
}

impl State {
    /// The key to be left at the port, if the core is to be told and has not been.
    fn post(&mut self) -> Option<Key> {
        match self.core {
            Core::Begun(key) if !std::mem::replace(&mut self.posted, true) => Some(key),
            _ => None,
        }
    }
}

/// What a core brings to a call.
#[derive(Default)]
pub(crate) struct Brought {
    /// Items, for all of which there is room.
    pub(crate) items: Vec<Bytes>,
    /// How the call ended, after them.
    pub(crate) outcome: Option<Outcome>,
    /// Where they come from, with the first of them.
    pub(crate) at: Option<At>,
    /// The tries that it took to that.
    pub(crate) attempts: u32,
    /// Something is there for which there was no room: its length, 0 if that is unknown.
    pub(crate) needs: Option<usize>,
    /// Requests that nobody takes any more.
    pub(crate) dropped: Queue,
}

impl Brought {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.outcome.is_none()
    }

    /// Drops what could not be brought.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.dropped = Queue::default();
    }
}
