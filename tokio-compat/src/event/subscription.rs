//! The two ends of what a subscriber has not taken yet: the transport feeds one, the subscriber holds the other.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::inbox::{Delivery, Inbox, Pushed, Stats};
use ringplane_core::event::message::Message;
use ringplane_core::event::observer::{Consumed, EventObserver};
use ringplane_core::event::subject::Subject;
use ringplane_core::event::tracker::{self, Gap};
use ringplane_core::wire::Error as WireError;
use tokio::sync::{Notify, oneshot};
use tokio::task::coop;
use tokio::time::{Instant, timeout_at};

use crate::discovery::backend::BoxFuture;
use crate::event::error::Error;
use crate::event::listen::Listen;

/// The two ends of a subscription to a topic.
pub fn subscription(topic: &str, listen: &Listen) -> (Feeder, Subscription) {
    let inbox = if listen.group.is_some() { Inbox::of_group(listen.inbox) } else { Inbox::new(listen.inbox) };
    let inbox = if listen.replay.is_some() { inbox.asking() } else { inbox };
    let state = State { inbox, reader: None, outside: 0, given_up: false, end: None, is_read: true };
    let shared = Arc::new(Shared { state: Mutex::new(state), room: Notify::new(), gone: Notify::new() });
    let feeder = Feeder { shared: Arc::clone(&shared), topic: topic.to_owned(), max_wait: listen.max_wait };
    (feeder, Subscription { shared, fetch: None, hook: None, busy: Busy::Not, told: None, keeps: None })
}

/// Asks for the events of a gap. They are sent to the other end, in the order of their numbers; if that is dropped, nothing has
/// been found.
pub type Fetch = Box<dyn Fn(Gap, oneshot::Sender<Vec<Message>>) + Send + Sync>;

/// What is done about a gap before it is told.
type Hook = Box<dyn FnMut(Gap) -> BoxFuture<'static, ()> + Send + Sync>;

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
    /// It was waited for in vain, and has taken nothing since.
    given_up: bool,
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
    max_wait: Option<Duration>,
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

    /// An event has come, and waits for room if it must, or until the subscriber is gone or has been waited for in vain.
    pub async fn push(&self, mut message: Message) {
        let mut until = None;
        while let Err(full) = self.try_push(message) {
            message = full;
            if self.shared.lock().given_up {
                return self.drop_newest(&message);
            }
            let waits = Waits::begin(&self.shared);
            let room = self.shared.room.notified();
            // Room that has come meanwhile was not told of.
            match self.try_push(message) {
                Ok(()) => return,
                Err(full) => message = full,
            }
            match self.max_wait {
                None => room.await,
                Some(most) => {
                    let until = *until.get_or_insert_with(|| Instant::now() + most);
                    if timeout_at(until, room).await.is_err() {
                        self.shared.lock().given_up = true;
                        tracing::debug!(topic = self.topic, waited = ?most, "a subscriber to events is not waited for");
                        return self.drop_newest(&message);
                    }
                }
            }
            drop(waits);
        }
    }

    fn drop_newest(&self, message: &Message) {
        self.tell(|inbox| inbox.drop_newest(message));
    }

    /// The end of a publisher says that all its events up to `last` have been published before.
    pub fn push_head(&self, publisher: PublisherId, last: u64) {
        self.tell(|inbox| inbox.push_head(publisher, last));
    }

    fn tell(&self, change: impl FnOnce(&mut Inbox)) {
        let mut state = self.shared.lock();
        change(&mut state.inbox);
        let reader = state.reader.take();
        drop(state);
        Shared::wake(reader);
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
        self.tell(|inbox| inbox.push_malformed(error));
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
    fetch: Option<Fetch>,
    hook: Option<Hook>,
    busy: Busy,
    /// What is told of the events that are taken.
    told: Option<Told>,
    /// What lets go of the transport's side when it is dropped.
    keeps: Option<Box<dyn Send + Sync>>,
}

/// An observer, and what is subscribed to.
type Told = (Arc<dyn EventObserver>, Subject);

/// What has to be done before anything else is handed out.
enum Busy {
    Not,
    /// Events are asked for.
    Fetching(oneshot::Receiver<Vec<Message>>),
    /// A gap is made good elsewhere. Nobody else holds the lock: it lets other threads look at a subscription.
    Hooked(Mutex<BoxFuture<'static, ()>>, Gap),
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

    /// Has an observer told of each event that is taken, where it is taken.
    pub fn telling(mut self, observer: Arc<dyn EventObserver>, subject: Subject) -> Self {
        self.told = Some((observer, subject));
        self
    }

    /// Has this ask for events that did not arrive, for a subscription that [wants](Listen::replay) them.
    pub fn fetching(mut self, fetch: Fetch) -> Self {
        self.fetch = Some(fetch);
        self
    }

    /// Has `hook` called for each gap, with what could not be had again: it can take a snapshot of what the events were about, from
    /// which the later ones go on. Nothing is handed out before it is done; then the gap is told as ever.
    pub fn on_gap<F>(mut self, mut hook: impl FnMut(Gap) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.hook = Some(Box::new(move |gap| Box::pin(hook(gap))));
        self
    }

    /// What is to be told next; `None` after the end. Cancel safe: a future that is dropped has taken nothing.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        poll_fn(|cx| self.poll_told(cx)).await
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
        if self.hook.is_some() {
            // A gap is not passed over.
            return Ok(count);
        }
        let rest = batch.len();
        let mut state = self.shared.lock();
        while count < max
            && let Some(more) = state.inbox.pop()
        {
            batch.push(more);
            count += 1;
        }
        self.tell_room(state);
        if self.told.is_some() {
            batch.iter().skip(rest).for_each(|delivery| self.tell(delivery));
        }
        Ok(count)
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.shared.lock().inbox.stats()
    }

    /// What gives its [`stats`](Self::stats) for as long as it is there.
    pub fn stats_while_alive(&self) -> impl Fn() -> Option<Stats> + Send + Sync + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            let shared = shared.upgrade()?;
            let state = shared.lock();
            state.is_read.then(|| state.inbox.stats())
        }
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

    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let polled = self.poll_delivery(cx);
        if let Poll::Ready(Some(Ok(delivery))) = &polled {
            self.tell(delivery);
        }
        polled
    }

    /// Tells the observer of what is handed out. To be called with nothing locked.
    fn tell(&self, delivery: &Delivery) {
        if let (Some((observer, subject)), Delivery::Event(message)) = (&self.told, delivery) {
            observer.consumed(&Consumed { subject, message });
        }
    }

    /// The next delivery, or the waker is kept.
    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = loop {
            match &mut self.busy {
                Busy::Not => {}
                Busy::Fetching(found) => {
                    let found = ready!(Pin::new(found).poll(cx)).unwrap_or_default();
                    self.busy = Busy::Not;
                    self.shared.lock().inbox.handle_found(found);
                }
                Busy::Hooked(done, gap) => {
                    ready!(done.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx));
                    let gap = *gap;
                    self.busy = Busy::Not;
                    progress.made_progress();
                    return Poll::Ready(Some(Ok(Delivery::Gap(gap))));
                }
            }
            let mut state = self.shared.lock();
            match (state.inbox.pop(), &mut self.hook) {
                (Some(Delivery::Gap(gap)), Some(hook)) => {
                    drop(state);
                    self.busy = Busy::Hooked(Mutex::new(hook(gap)), gap);
                }
                (Some(delivery), _) => {
                    self.tell_room(state);
                    progress.made_progress();
                    return Poll::Ready(Some(Ok(delivery)));
                }
                (None, _) => match state.inbox.wants() {
                    Some(gap) => {
                        drop(state);
                        let (tell, found) = oneshot::channel();
                        if let Some(fetch) = &self.fetch {
                            fetch(gap, tell);
                        }
                        self.busy = Busy::Fetching(found);
                    }
                    None => break state,
                },
            }
        };
        if let Some(end) = &mut state.end {
            progress.made_progress();
            return Poll::Ready(end.take().map(Err));
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn tell_room(&self, mut state: MutexGuard<'_, State>) {
        state.given_up = false;
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
        self.get_mut().poll_told(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.lock().is_read = false;
        self.shared.room.notify_waiters();
        self.shared.gone.notify_waiters();
    }
}
