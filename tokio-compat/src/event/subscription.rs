//! The two ends of what a subscriber has not taken yet: the transport feeds one, the subscriber holds the other.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::inbox::{Delivery, Inbox, Pushed, Stats};
use ringplane_core::event::message::Message;
use ringplane_core::event::tracker;
use ringplane_core::wire::Error as WireError;
use tokio::sync::Notify;
use tokio::task::coop;

use crate::event::error::Error;
use crate::event::listen::Listen;

/// The two ends of a subscription to a topic.
pub fn subscription(topic: &str, listen: &Listen) -> (Feeder, Subscription) {
    let inbox = if listen.group.is_some() { Inbox::of_group(listen.inbox) } else { Inbox::new(listen.inbox) };
    let state = State { inbox, reader: None, outside: 0, end: None, is_read: true };
    let shared = Arc::new(Shared { state: Mutex::new(state), room: Notify::new(), gone: Notify::new() });
    let feeder = Feeder { shared: Arc::clone(&shared), topic: topic.to_owned() };
    (feeder, Subscription { shared, keeps: None })
}

struct Shared {
    state: Mutex<State>,
    /// Told when what waits outside may try again.
    room: Notify,
    /// Told when the subscriber is gone.
    gone: Notify,
}

struct State {
    inbox: Inbox,
    reader: Option<Waker>,
    /// How many wait outside for room.
    outside: usize,
    /// The transport's end is gone, for this reason, which is told once.
    end: Option<Option<Error>>,
    /// The subscriber's end is there.
    is_read: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the subscriber look again. To be called with nothing locked.
    fn wake(reader: Option<Waker>) {
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The transport's end. When it is dropped, the subscriber takes what waits and then hears of the end.
pub struct Feeder {
    shared: Arc<Shared>,
    topic: String,
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Feeder {
    /// An event has come. One that has to wait for room comes back, with [`Slow::Wait`](ringplane_core::event::inbox::Slow)
    /// only; one for a subscriber that is gone is dropped.
    ///
    /// # Errors
    /// The event, if it has to wait: [`push`](Self::push) does.
    pub fn try_push(&self, message: Message) -> Result<(), Message> {
        let mut state = self.shared.lock();
        if !state.is_read {
            return Ok(());
        }
        let pushed = state.inbox.push(message);
        let reader = state.reader.take();
        drop(state);
        Shared::wake(reader);
        match pushed {
            Pushed::Taken => Ok(()),
            Pushed::Full(message) => Err(message),
        }
    }

    /// An event has come, and waits for room if it must, or until the subscriber is gone.
    pub async fn push(&self, mut message: Message) {
        while let Err(full) = self.try_push(message) {
            message = full;
            let waits = Waits::begin(&self.shared);
            let room = self.shared.room.notified();
            // Room that has come meanwhile was not told of.
            match self.try_push(message) {
                Ok(()) => return,
                Err(full) => message = full,
            }
            room.await;
            drop(waits);
        }
    }

    /// An envelope has come: read here, and dropped if it is of another topic. What is no envelope is told to the subscriber.
    pub async fn push_envelope(&self, envelope: Bytes) {
        match Message::read(envelope, &self.topic) {
            Ok(Some(message)) => self.push(message).await,
            Ok(None) => {}
            Err(error) => self.push_malformed(error),
        }
    }

    /// Something has come that is no event.
    pub fn push_malformed(&self, error: WireError) {
        let mut state = self.shared.lock();
        state.inbox.push_malformed(error);
        let reader = state.reader.take();
        drop(state);
        Shared::wake(reader);
    }

    /// Completes when nobody will take anything any more.
    pub async fn gone(&self) {
        loop {
            let gone = self.shared.gone.notified();
            if self.is_gone() {
                return;
            }
            gone.await;
        }
    }

    /// Whether nobody will take anything any more.
    pub fn is_gone(&self) -> bool {
        !self.shared.lock().is_read
    }

    /// Ends the subscription with this reason.
    pub fn fail(self, error: Error) {
        self.shared.lock().end = Some(Some(error));
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.end.get_or_insert(None);
        let reader = state.reader.take();
        drop(state);
        Shared::wake(reader);
    }
}

/// One that waits outside for room.
struct Waits<'a>(&'a Shared);

impl<'a> Waits<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.lock().outside += 1;
        Self(shared)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().outside -= 1;
    }
}

/// The events of one subject, from when the subscription was made: a stream of what is to be told, which ends when the transport
/// does. Dropping it ends the subscription.
#[must_use = "a subscription that is dropped is over"]
pub struct Subscription {
    shared: Arc<Shared>,
    /// What lets go of the transport's side when it is dropped.
    keeps: Option<Box<dyn Send + Sync>>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Subscription {
    /// Has something dropped along with it.
    pub fn keeping(mut self, keeps: impl Send + Sync + 'static) -> Self {
        self.keeps = Some(Box::new(keeps));
        self
    }

    /// What is to be told next; `None` after the end. Cancel safe: a future that is dropped has taken nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// Waits for something to be told and adds it and what else is there to `batch`, `max` at most, which counts as 1 if it is 0.
    /// Answers how many; 0 at the end.
    ///
    /// # Errors
    /// What the subscription ended with, if that is all there is.
    pub async fn next_batch(&mut self, batch: &mut Vec<Delivery>, max: usize) -> Result<usize, Error> {
        let Some(first) = self.next().await else { return Ok(0) };
        batch.push(first?);
        let mut count = 1;
        let mut state = self.shared.lock();
        while count < max
            && let Some(more) = state.inbox.pop()
        {
            batch.push(more);
            count += 1;
        }
        self.tell_room(state);
        Ok(count)
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.shared.lock().inbox.stats()
    }

    /// What was seen of a publisher since it is known; `None` if it is not.
    pub fn stats_of(&self, publisher: PublisherId) -> Option<tracker::Counters> {
        self.shared.lock().inbox.tracker().counters_of(publisher)
    }

    /// The publishers known.
    pub fn publishers(&self) -> Vec<PublisherId> {
        self.shared.lock().inbox.tracker().publishers().collect()
    }

    /// Events that wait, and bytes of their envelopes.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.inbox.len(), state.inbox.bytes())
    }

    /// The next delivery, or the waker is kept.
    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = self.shared.lock();
        if let Some(delivery) = state.inbox.pop() {
            self.tell_room(state);
            progress.made_progress();
            return Poll::Ready(Some(Ok(delivery)));
        }
        if let Some(end) = &mut state.end {
            progress.made_progress();
            return Poll::Ready(end.take().map(Err));
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn tell_room(&self, state: MutexGuard<'_, State>) {
        let waited_for = state.outside > 0;
        drop(state);
        if waited_for {
            self.shared.room.notify_waiters();
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.lock().is_read = false;
        self.shared.room.notify_waiters();
        self.shared.gone.notify_waiters();
    }
}
