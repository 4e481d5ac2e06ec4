//! One event and its envelope.

use bytes::Bytes;

use crate::discovery::event::PublisherId;
use crate::event::envelope::Envelope;
use crate::wire::context::TraceContext;
use crate::wire::parse::Error;

/// An event with the envelope that it travels in. A copy shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Whose it is.
    pub publisher: PublisherId,
    /// Its number among those of its publisher, from 0.
    pub sequence: u64,
    /// When it was published, in milliseconds since the epoch of Unix.
    pub published_at: u64,
    /// What it says: a part of `envelope`.
    pub payload: Bytes,
    /// The whole [`Envelope`], as bytes.
    pub envelope: Bytes,
}

impl Message {
    /// Opens an envelope. `None` if it is of another topic than `topic`.
    ///
    /// # Errors
    /// As [`Envelope::read`].
    pub fn read(envelope: Bytes, topic: &str) -> Result<Option<Self>, Error> {
        let opened = Envelope::read(&envelope)?;
        if opened.topic != topic {
            return Ok(None);
        }
        let Envelope { publisher, sequence, published_at, payload, .. } = opened;
        let payload = envelope.slice_ref(payload);
        Ok(Some(Self { publisher, sequence, published_at, payload, envelope }))
    }

    /// The trace that it was published in, by the rules of [`TraceContext::read`]; an empty one if in none. What a consumer does
    /// about the event continues that trace if it is given to its calls. Read from the envelope each time.
    pub fn trace(&self) -> TraceContext {
        let Ok(envelope) = Envelope::read(&self.envelope) else { return TraceContext::default() };
        TraceContext::read(envelope.traceparent, envelope.tracestate, envelope.x_request_id)
    }
}
