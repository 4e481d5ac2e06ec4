//! Events that are asked for again by NATS: a subscriber asks their publisher, and hears them one by one.

use std::sync::PoisonError;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use ringplane_core::discovery::event::PublisherId;
use ringplane_core::event::message::Message;
use ringplane_core::event::subject::Subject;
use ringplane_core::event::tracker::Gap;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::event::transport::Kept;
use crate::nats::connect::next;

/// Where a publisher is asked.
pub(super) fn subject(subject: &Subject, publisher: PublisherId) -> String {
    format!("ringplane.replay.{publisher}.{subject}")
}

/// Answers those that ask with what is kept, and an empty message behind it.
pub(super) async fn answer(client: Client, mut questions: Subscriber, kept: Kept) {
    while let Some(question) = next(&mut questions).await {
        let (Some(reply), Some((first, last))) = (question.reply, read(&question.payload)) else { continue };
        let found: Vec<Bytes> = {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.range(first, last).map(|message| message.envelope.clone()).collect()
        };
        for envelope in found.into_iter().chain([Bytes::new()]) {
            if let Err(error) = client.publish(reply.clone(), envelope).await {
                tracing::debug!(%error, "an event that was asked for cannot be sent");
            }
        }
    }
}

/// The numbers that are asked for: `FIRST LAST`.
fn read(question: &[u8]) -> Option<(u64, u64)> {
    let (first, last) = str::from_utf8(question).ok()?.split_once(' ')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// A subscriber that asks.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) subject: Subject,
    pub(super) patience: Duration,
}

impl Asker {
    /// Asks for the events of a gap, and hands on what came in time, of `max_bytes` at the most.
    pub(super) async fn ask(self, gap: Gap, max_bytes: usize, tell: oneshot::Sender<Vec<Message>>) {
        let mut found = Vec::new();
        let asking = async {
            let inbox = self.client.new_inbox();
            let mut answers = self.client.subscribe(inbox.clone()).await.ok()?;
            let (to, question) = (subject(&self.subject, gap.publisher), format!("{} {}", gap.first, gap.last));
            self.client.publish_with_reply(to, inbox, question.into()).await.ok()?;
            let mut bytes = 0;
            // An empty one is the end, or says that nobody is there to be asked.
            while let Some(answer) = next(&mut answers).await.filter(|answer| !answer.payload.is_empty()) {
                bytes += answer.payload.len();
                if bytes > max_bytes {
                    return None;
                }
                found.extend(Message::read(answer.payload, self.subject.topic()).ok().flatten());
            }
            Some(())
        };
        if timeout(self.patience, asking).await.is_err() {
            tracing::debug!(publisher = %gap.publisher, "a publisher that is asked for events does not answer in time");
        }
        // The subscriber may be gone.
        let _ = tell.send(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_two_numbers() {
        assert_eq!(read(b"3 18446744073709551615"), Some((3, u64::MAX)));
        for question in ["", "3", "3 ", "-1 3", "3 4 5", "a b"] {
            assert_eq!(read(question.as_bytes()), None, "{question}");
        }
    }
}
