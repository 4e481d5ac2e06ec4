//! Values as payloads of events.

use bytes::Bytes;
use ringplane_core::event::message::Message;
use ringplane_core::wire::codec::Codec;
use ringplane_tokio::event::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::error::PayloadError;
use crate::payload::value::Payload;

/// The payload of an event as a value.
pub trait EventValue {
    /// Reads the payload, which is exactly one value in MessagePack; structs may be maps or arrays.
    ///
    /// # Errors
    /// See [`PayloadError`]: what it is instead, and where.
    fn value<T: DeserializeOwned>(&self) -> Result<T, PayloadError>;
}

impl EventValue for Message {
    fn value<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        Codec::Msgpack.read(&self.payload)
    }
}

/// A value as the payload of an event.
pub(super) fn written<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Error> {
    Codec::Msgpack.write(value).map_err(|error| Error::Value(Box::new(error)))
}
