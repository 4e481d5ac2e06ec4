//! What a subscriber asks a publisher's process for over mux, and how it is answered.

use std::pin::pin;
use std::time::Duration;

use ringplane_core::event::inbox::{self, Delivery, Slow};
use ringplane_core::event::subject::Subject;
use ringplane_core::local::Failure;
use ringplane_tokio::event::{InProc, Listen, Transport};
use tokio::sync::watch;

use crate::handler::request::{Request, Responder};

/// What a subscriber asks for: `SLOW SUBJECT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    /// What becomes of events that it does not take.
    pub(super) slow: Slow,
    /// What it wants to hear.
    pub(super) subject: Subject,
}

const NAMES: [(&str, Slow); 3] =
    [("drop-oldest", Slow::DropOldest), ("drop-newest", Slow::DropNewest), ("wait", Slow::Wait)];

/// An item that is no event: the publisher's process is there, and hears us.
const SIGN_OF_LIFE: &[u8] = &[0];

/// Time without an event before such an item goes.
const SILENCE: Duration = Duration::from_secs(5);

/// Events that are sent at once.
const BATCH: usize = 256;

impl Ask {
    pub(super) fn written(&self) -> String {
        let name = NAMES.into_iter().find(|(_, slow)| *slow == self.slow).map_or("wait", |(name, _)| name);
        format!("{name} {}", self.subject)
    }

    fn read(text: &[u8]) -> Option<Self> {
        let (name, subject) = str::from_utf8(text).ok()?.split_once(' ')?;
        let slow = NAMES.into_iter().find(|(known, _)| *known == name)?.1;
        Some(Self { slow, subject: Subject::parse(subject)? })
    }

    /// Whether an item of the answer is no event. Envelopes begin with the byte of a map or of an array.
    pub(super) fn is_sign_of_life(item: &[u8]) -> bool {
        item == SIGN_OF_LIFE
    }
}

/// Answers a subscriber with what is published in this process, until it goes, or `leaving` is true and there is nothing more.
pub(super) async fn listen(
    place: InProc,
    mut leaving: watch::Receiver<bool>,
    mut request: Request,
    out: Responder,
) -> Result<(), Failure> {
    let Some(ask) = Ask::read(&request.body().await?) else {
        let why = "a subscription to events is `SLOW SUBJECT`: drop-oldest, drop-newest or wait, and a subject";
        return Err(Failure::invalid(why));
    };
    let bounds = inbox::Config { slow: ask.slow, ..inbox::Config::default() };
    let subscribed = place.subscribe(&ask.subject, Listen { inbox: bounds, group: None }).await;
    let mut subscription = subscribed.map_err(Failure::internal)?;
    out.send(SIGN_OF_LIFE).await?;
    let (mut batch, mut items) = (Vec::new(), Vec::new());
    loop {
        let is_leaving = *leaving.borrow_and_update();
        let more = tokio::select! {
            biased;
            more = subscription.next_batch(&mut batch, BATCH) => more.map_err(Failure::internal)?,
            _ = std::future::ready(()), if is_leaving => return Ok(()),
            Ok(()) = leaving.changed() => continue,
            _ = pin!(out.cancelled()) => return Ok(()),
            () = out.sleep(SILENCE) => {
                out.send(SIGN_OF_LIFE).await?;
                continue;
            }
        };
        if more == 0 {
            return Ok(());
        }
        // What was dropped here shows by its number at the other end.
        items.extend(batch.drain(..).filter_map(|delivery| match delivery {
            Delivery::Event(message) => Some(message.envelope),
            _ => None,
        }));
        out.send_many(&mut items).await?;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ringplane_core::discovery::event::PublisherId;
    use ringplane_core::discovery::event::Scope;
    use ringplane_core::event::publisher::Publisher;

    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_it_was_written_and_anything_else_is_not() {
        let subject = Subject::new(Scope::Namespace("n".to_owned()), "a topic").unwrap();
        for (_, slow) in NAMES {
            let ask = Ask { slow, subject: subject.clone() };
            assert_eq!(Ask::read(ask.written().as_bytes()), Some(ask));
        }
        for text in ["", "wait", "wait ", "never namespace.n.t", "wait namespace", "wait  namespace.n.t"] {
            assert_eq!(Ask::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn no_event_is_taken_for_a_sign_of_life() {
        let event = Publisher::new(PublisherId(0), "").seal(0, b"").unwrap().envelope;
        assert!(Ask::is_sign_of_life(&Bytes::from_static(SIGN_OF_LIFE)) && !Ask::is_sign_of_life(&event));
    }
}
