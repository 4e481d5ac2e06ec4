//! What a subscriber asks a publisher's process for over mux, and how it is answered.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::inbox::{Delivery, Slow};
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use ringplane_core::local::Failure;
use ringplane_tokio::event::{Error, InProc, Kept, Listen, Subscription, Transport};
use tokio::sync::watch;

use crate::handler::request::{Request, Responder};

/// What a subscriber asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// What is published from now on: `SLOW SUBJECT`. What becomes of events that it does not take, and what it wants to hear.
    Live(Slow, Subject),
    /// What a publisher keeps of the numbers from the first to the last: `replay PUBLISHER FIRST LAST SUBJECT`.
    Again(PublisherId, u64, u64, Subject),
}

const NAMES: [(&str, Slow); 3] =
    [("drop-oldest", Slow::DropOldest), ("drop-newest", Slow::DropNewest), ("wait", Slow::Wait)];
const AGAIN: &str = "replay";

/// An item of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// An event in its envelope.
    Event(Bytes),
    /// The publisher's process is there, and hears us.
    SignOfLife,
    /// All events of this publisher up to this one have been published before: what of them is not here does not come.
    Head(PublisherId, u64),
}

/// Time without an event before a sign of life goes.
const SILENCE: Duration = Duration::from_secs(5);

/// Events that are sent at once.
const BATCH: usize = 256;

impl Ask {
    pub(super) fn written(&self) -> String {
        match self {
            Self::Live(slow, subject) => {
                let name = NAMES.into_iter().find(|(_, known)| known == slow).map_or("wait", |(name, _)| name);
                format!("{name} {subject}")
            }
            Self::Again(publisher, first, last, subject) => format!("{AGAIN} {publisher} {first} {last} {subject}"),
        }
    }

    fn read(text: &[u8]) -> Option<Self> {
        let (name, rest) = str::from_utf8(text).ok()?.split_once(' ')?;
        if name != AGAIN {
            let slow = NAMES.into_iter().find(|(known, _)| *known == name)?.1;
            return Some(Self::Live(slow, Subject::parse(rest)?));
        }
        let mut words = rest.splitn(4, ' ');
        let mut word = || words.next();
        let publisher = PublisherId(u64::from_str_radix(word()?, 16).ok()?);
        Some(Self::Again(publisher, word()?.parse().ok()?, word()?.parse().ok()?, Subject::parse(word()?)?))
    }
}

impl Item {
    /// Envelopes begin with the byte of a map or of an array.
    pub(super) fn read(item: Bytes) -> Self {
        match *item {
            [0] => Self::SignOfLife,
            [1, ref rest @ ..] => match rest.as_chunks() {
                ([publisher, last], []) => {
                    Self::Head(PublisherId(u64::from_be_bytes(*publisher)), u64::from_be_bytes(*last))
                }
                _ => Self::Event(item),
            },
            _ => Self::Event(item),
        }
    }

    fn written(self) -> Bytes {
        match self {
            Self::Event(envelope) => envelope,
            Self::SignOfLife => Bytes::from_static(&[0]),
            Self::Head(publisher, last) => [&[1][..], &publisher.0.to_be_bytes(), &last.to_be_bytes()].concat().into(),
        }
    }
}

/// What is published in this process, for those that call.
pub(super) struct Stage {
    place: InProc,
    /// How each subscriber listens.
    listen: Listen,
    publishers: Mutex<HashMap<PublisherId, Part>>,
    /// Whether the process is leaving.
    pub(super) leaving: watch::Sender<bool>,
}

/// One publisher.
#[derive(Default)]
struct Part {
    subject: String,
    /// The number of its newest event, once there is one.
    head: Option<u64>,
    kept: Option<Kept>,
}

impl Stage {
    pub(super) fn new(listen: Listen) -> Self {
        let (publishers, leaving) = (Mutex::default(), watch::Sender::new(false));
        Self { place: InProc::new(), listen, publishers, leaving }
    }

    fn publishers(&self) -> MutexGuard<'_, HashMap<PublisherId, Part>> {
        self.publishers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, subject: &Subject, publisher: PublisherId) {
        self.publishers().insert(publisher, Part { subject: subject.to_string(), ..Part::default() });
    }

    pub(super) fn keep(&self, publisher: PublisherId, kept: Kept) {
        if let Some(part) = self.publishers().get_mut(&publisher) {
            part.kept = Some(kept);
        }
    }

    pub(super) fn close(&self, publisher: PublisherId) {
        self.publishers().remove(&publisher);
    }

    pub(super) async fn publish(&self, subject: &Subject, message: Message) {
        let full = {
            // What a new subscriber is told of the numbers and what it hears fit together: it begins between two events.
            let mut publishers = self.publishers();
            let full = self.place.hand_over(subject.as_str(), &message);
            if let Some(part) = publishers.get_mut(&message.publisher) {
                part.head = Some(message.sequence);
            }
            full
        };
        for (feeder, message) in full {
            feeder.push(message).await;
        }
    }

    pub(super) fn listeners(&self, subject: &Subject) -> Option<usize> {
        self.place.listeners(subject)
    }

    /// What is published from now on, and where the numbers of those that publish stand.
    async fn subscribe(&self, slow: Slow, subject: &Subject) -> Result<(Subscription, Vec<Item>), Error> {
        let mut listen = self.listen.clone();
        listen.inbox.slow = slow;
        let (subscribed, heads) = {
            let publishers = self.publishers();
            // It stands when it is made: what is left to do is to take it.
            let subscribed = self.place.subscribe(subject, listen);
            let heard = publishers.iter().filter(|(_, part)| part.subject == subject.as_str());
            let heads = heard.filter_map(|(publisher, part)| Some(Item::Head(*publisher, part.head?)));
            (subscribed, heads.collect())
        };
        Ok((subscribed.await?, heads))
    }

    /// What a publisher keeps of these numbers.
    fn again(&self, publisher: PublisherId, first: u64, last: u64, subject: &Subject) -> Vec<Bytes> {
        let publishers = self.publishers();
        let part = publishers.get(&publisher).filter(|part| part.subject == subject.as_str());
        let Some(kept) = part.and_then(|part| part.kept.as_ref()) else { return Vec::new() };
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.range(first, last).map(|message| message.envelope.clone()).collect()
    }
}

/// Answers a subscriber with what is published in this process, until it goes, or the process leaves and there is nothing more.
pub(super) async fn answer(stage: Arc<Stage>, mut request: Request, out: Responder) -> Result<(), Failure> {
    match Ask::read(&request.body().await?) {
        Some(Ask::Live(slow, subject)) => listen(&stage, slow, &subject, &out).await,
        Some(Ask::Again(publisher, first, last, subject)) => {
            let mut found = stage.again(publisher, first, last, &subject);
            Ok(out.send_many(&mut found).await?)
        }
        None => Err(Failure::invalid(
            "a subscription to events is `SLOW SUBJECT`: drop-oldest, drop-newest or wait, and a subject; or \
             `replay PUBLISHER FIRST LAST SUBJECT`",
        )),
    }
}

async fn listen(stage: &Stage, slow: Slow, subject: &Subject, out: &Responder) -> Result<(), Failure> {
    let mut leaving = stage.leaving.subscribe();
    let (mut subscription, heads) = stage.subscribe(slow, subject).await.map_err(Failure::internal)?;
    let mut items: Vec<Bytes> = [Item::SignOfLife].into_iter().chain(heads).map(Item::written).collect();
    out.send_many(&mut items).await?;
    let mut batch = Vec::new();
    loop {
        let is_leaving = *leaving.borrow_and_update();
        let more = tokio::select! {
            biased;
            more = subscription.next_batch(&mut batch, BATCH) => more.map_err(Failure::internal)?,
            _ = std::future::ready(()), if is_leaving => return Ok(()),
            Ok(()) = leaving.changed() => continue,
            _ = pin!(out.cancelled()) => return Ok(()),
            () = out.sleep(SILENCE) => {
                out.send(Item::SignOfLife.written()).await?;
                continue;
            }
        };
        if more == 0 {
            return Ok(());
        }
        items.extend(batch.drain(..).filter_map(|delivery| match delivery {
            Delivery::Event(message) => Some(message.envelope),
            // What was dropped here shows by the numbers at the other end, if these are told.
            Delivery::Gap(gap) => Some(Item::Head(gap.publisher, gap.last).written()),
            _ => None,
        }));
        out.send_many(&mut items).await?;
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::discovery::event::Scope;
    use ringplane_core::event::publisher::Publisher;

    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_it_was_written_and_anything_else_is_not() {
        let subject = Subject::new(Scope::Namespace("n".to_owned()), "a topic").unwrap();
        let live = NAMES.map(|(_, slow)| Ask::Live(slow, subject.clone()));
        for ask in live.into_iter().chain([Ask::Again(PublisherId(0x1f), 3, u64::MAX, subject.clone())]) {
            assert_eq!(Ask::read(ask.written().as_bytes()), Some(ask));
        }
        for text in ["", "wait", "wait ", "never namespace.n.t", "wait namespace", "wait  namespace.n.t"] {
            assert_eq!(Ask::read(text.as_bytes()), None, "{text}");
        }
        for text in
            ["replay namespace.n.t", "replay 1f 3 namespace.n.t", "replay x 3 4 namespace.n.t", "replay 1 3 -4 n"]
        {
            assert_eq!(Ask::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn items_are_read_as_they_were_written_and_no_event_is_taken_for_another_thing() {
        let event = Publisher::new(PublisherId(0), "").seal(0, b"").unwrap().envelope;
        for item in [Item::SignOfLife, Item::Head(PublisherId(7), u64::MAX), Item::Event(event)] {
            assert_eq!(Item::read(item.clone().written()), item);
        }
        for bytes in [&[1][..], &[1; 16], &[1; 18], &[0, 0], &[]] {
            assert_eq!(Item::read(Bytes::copy_from_slice(bytes)), Item::Event(Bytes::copy_from_slice(bytes)));
        }
    }
}
