//! Events within the process: what embedded programs need, and no broker.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use ringplane_core::discovery::channel::EventTransport;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;

use crate::discovery::backend::BoxFuture;
use crate::event::error::Error;
use crate::event::kind::Kind;
use crate::event::listen::Listen;
use crate::event::subscription::{Feeder, Subscription, subscription};
use crate::event::transport::{Kept, Transport};

/// Events within the process. Clones, and what has the same name, share them. An event is handed over before
/// [`publish`](Transport::publish) returns, to each subscriber without a copy; one that asked to be waited for is.
#[derive(Clone)]
pub struct InProc {
    pub(super) topics: Arc<RwLock<HashMap<String, Arc<Topic>>>>,
}

impl fmt::Debug for InProc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProc").finish_non_exhaustive()
    }
}

/// Those that listen to a subject. It is replaced when they change, so that nothing is locked while events are handed over.
#[derive(Clone, Default)]
pub(super) struct Topic {
    alone: Vec<Arc<Feeder>>,
    groups: Vec<Group>,
}

#[derive(Clone)]
struct Group {
    name: String,
    members: Vec<Arc<Feeder>>,
    /// Events so far: whose turn it is.
    turn: Arc<AtomicUsize>,
}

type Named = Mutex<HashMap<String, Weak<RwLock<HashMap<String, Arc<Topic>>>>>>;

impl InProc {
    /// A place of its own.
    #[expect(clippy::new_without_default, reason = "two of them are not alike")]
    pub fn new() -> Self {
        Self { topics: Arc::default() }
    }

    /// The place of this name in the process, which is there as long as somebody holds it.
    pub fn named(name: &str) -> Self {
        static NAMED: OnceLock<Named> = OnceLock::new();
        let mut named = NAMED.get_or_init(Named::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topics) = named.get(name).and_then(Weak::upgrade) {
            return Self { topics };
        }
        named.retain(|_, topics| topics.strong_count() > 0);
        let place = Self::new();
        named.insert(name.to_owned(), Arc::downgrade(&place.topics));
        place
    }

    /// Hands the event to each that listens and answers those that it has to wait for.
    pub fn hand_over(&self, subject: &str, message: &Message) -> Vec<(Arc<Feeder>, Message)> {
        let Some(topic) = self.topic(subject) else { return Vec::new() };
        let members = topic.groups.iter().filter_map(Group::next);
        let mut full = Vec::new();
        for feeder in topic.alone.iter().chain(members) {
            if let Err(message) = feeder.try_push(message.clone()) {
                full.push((Arc::clone(feeder), message));
            }
        }
        full
    }

    fn topic(&self, subject: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(subject).cloned()
    }

    fn leave(&self, subject: &str, feeder: &Arc<Feeder>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get_mut(subject).map(Arc::make_mut) else { return };
        topic.alone.retain(|other| !Arc::ptr_eq(other, feeder));
        topic.groups.iter_mut().for_each(|group| group.members.retain(|other| !Arc::ptr_eq(other, feeder)));
        topic.groups.retain(|group| !group.members.is_empty());
        if topic.alone.is_empty() && topic.groups.is_empty() {
            topics.remove(subject);
        }
    }
}

impl Group {
    fn next(&self) -> Option<&Arc<Feeder>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.members.get(turn.checked_rem(self.members.len())?)
    }
}

/// A subscriber's place among those that listen.
struct Seat {
    place: InProc,
    subject: String,
    feeder: Arc<Feeder>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.place.leave(&self.subject, &self.feeder);
    }
}

impl Transport for InProc {
    fn kind(&self) -> Kind {
        Kind::InProc
    }

    fn open<'a>(&'a self, _: &'a Subject, _: PublisherId) -> BoxFuture<'a, Result<Option<EventTransport>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Nothing gets lost on the way, so nobody asks.
    fn keep<'a>(&'a self, _: &'a Subject, _: PublisherId, _: Kept) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self, _: &Subject, _: PublisherId) {}

    fn publish<'a>(&'a self, subject: &'a Subject, message: Message) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            for (feeder, message) in self.hand_over(subject.as_str(), &message) {
                feeder.push(message).await;
            }
            Ok(())
        })
    }

    fn listeners(&self, subject: &Subject) -> Option<usize> {
        let topic = self.topic(subject.as_str());
        Some(
            topic.map_or(0, |topic| {
                topic.alone.len() + topic.groups.iter().map(|group| group.members.len()).sum::<usize>()
            }),
        )
    }

    fn subscribe<'a>(&'a self, subject: &'a Subject, listen: Listen) -> BoxFuture<'a, Result<Subscription, Error>> {
        let (feeder, subscription) = subscription(subject.topic(), &listen);
        let feeder = Arc::new(feeder);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = Arc::make_mut(topics.entry(subject.as_str().to_owned()).or_default());
        let seats = match listen.group {
            None => &mut topic.alone,
            Some(name) => {
                let at = topic.groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
                    topic.groups.push(Group { name, members: Vec::new(), turn: Arc::default() });
                    topic.groups.len() - 1
                });
                &mut topic.groups[at].members
            }
        };
        seats.push(Arc::clone(&feeder));
        drop(topics);
        let seat = Seat { place: self.clone(), subject: subject.as_str().to_owned(), feeder };
        Box::pin(std::future::ready(Ok(subscription.keeping(seat))))
    }
}
