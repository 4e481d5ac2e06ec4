//! The publisher's half: numbers events and puts them in envelopes.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::discovery::event::PublisherId;
use crate::event::envelope::Envelope;
use crate::event::message::Message;
use crate::wire::context::TraceContext;
use crate::wire::parse::Error;

/// One publisher of one topic. Numbers start at 0; each event that is sealed takes one, whatever becomes of it.
#[derive(Debug)]
pub struct Publisher {
    id: PublisherId,
    topic: String,
    next: u64,
}

impl Publisher {
    /// A publisher that has published nothing. An id that was used before makes it a restarted one for its subscribers.
    pub fn new(id: PublisherId, topic: impl Into<String>) -> Self {
        Self { id, topic: topic.into(), next: 0 }
    }

    /// The next event. `published_at` is in milliseconds since the epoch of Unix.
    ///
    /// # Errors
    /// As [`Envelope::write`]; the number is not used up then.
    pub fn seal(&mut self, published_at: u64, payload: &[u8]) -> Result<Message, Error> {
        self.seal_with(published_at, payload, &TraceContext::default())
    }

    /// The same for an event of a trace, which travels with it.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_with(&mut self, published_at: u64, payload: &[u8], trace: &TraceContext) -> Result<Message, Error> {
        let (publisher, sequence) = (self.id, self.next);
        let envelope = Envelope {
            publisher,
            sequence,
            published_at,
            topic: &self.topic,
            payload,
            traceparent: trace.traceparent(),
            tracestate: trace.tracestate(),
            x_request_id: trace.x_request_id(),
        };
        let mut out = Vec::with_capacity(envelope.written_len()?);
        envelope.write(&mut out)?;
        self.next = self.next.wrapping_add(1);
        let envelope = Bytes::from(out);
        // The payload is what is written last.
        let payload = envelope.slice(envelope.len() - payload.len()..);
        Ok(Message { publisher, sequence, published_at, payload, envelope })
    }

    /// Its id.
    pub const fn id(&self) -> PublisherId {
        self.id
    }

    /// The number of the next event: how many there were.
    pub const fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_from_nothing_on_and_carry_their_payload() {
        let mut publisher = Publisher::new(PublisherId(9), "t");
        for sequence in 0..300 {
            let payload = [sequence as u8; 40];
            let message = publisher.seal(1_000 + sequence, &payload[..sequence as usize % 40]).unwrap();
            assert_eq!((message.sequence, message.published_at), (sequence, 1_000 + sequence));
            assert_eq!(message.payload, &payload[..sequence as usize % 40]);
            let opened = Envelope::read(&message.envelope).unwrap();
            assert_eq!((opened.sequence, opened.topic, opened.payload), (sequence, "t", &*message.payload));
        }
        assert_eq!(publisher.next(), 300);
    }

    #[test]
    fn a_message_is_read_as_it_was_sealed_and_one_of_another_topic_is_not_taken() {
        let message = Publisher::new(PublisherId(7), "t").seal(5, b"payload").unwrap();
        assert_eq!(Message::read(message.envelope.clone(), "t"), Ok(Some(message.clone())));
        assert_eq!(Message::read(message.envelope.clone(), "t2"), Ok(None));
        assert!(Message::read(message.envelope.slice(1..), "t").is_err());
    }

    #[test]
    fn the_trace_of_an_event_travels_with_it() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let trace = TraceContext::read(Some(parent), Some("rojo=1,, congo=t61 rcWkgMzE"), Some("order 66"));
        let mut publisher = Publisher::new(PublisherId(7), "t");
        let message = publisher.seal_with(5, b"payload", &trace).unwrap();
        assert_eq!((&message.payload[..], message.trace()), (&b"payload"[..], trace));
        assert_eq!(Message::read(message.envelope.clone(), "t"), Ok(Some(message)));
        assert!(publisher.seal(6, b"payload").unwrap().trace().is_empty());
    }
}
