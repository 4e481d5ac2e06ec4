//! Why a payload and a value are not the same thing.

use std::error::Error;
use std::fmt;

use ringplane_core::chain::Chain;
use ringplane_core::local::Failure;
use ringplane_core::wire::class::Class;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::failure_key::Key;
use ringplane_core::wire::parse;

/// A payload that cannot be read as what is asked for, or a value that cannot be written. For a caller it is a [`Failure`]
/// of the class `InvalidRequest` with the place in its text; a value that cannot be written is the handler's own fault.
///
/// ```
/// use ringplane::{Chain, Codec, Payload};
///
/// let error = Codec::Json.read::<Vec<u32>>(b"[1, -2]").unwrap_err();
/// let text = Chain(&error).to_string();
/// assert!(text.ends_with("expected u32 at line 1 column 6"), "{text}");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum PayloadError {
    /// Nothing is no value.
    Empty,
    /// JSON that is malformed or of another shape; the cause names line and column.
    Json(serde_json::Error),
    /// MessagePack that is malformed or of another shape.
    Msgpack {
        /// Bytes read until it was found.
        at: u64,
        /// What is wrong there.
        error: rmp_serde::decode::Error,
    },
    /// Something follows the value.
    Trailing {
        /// Where it begins, in bytes.
        at: u64,
    },
    /// An item that should be Dynamo's Annotated, and is not.
    Annotated(parse::Error),
    /// The call names a codec that is not known here.
    Codec(String),
    /// The value cannot be written in this codec.
    Unwritable(Codec, Box<dyn Error + Send + Sync>),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the payload is empty"),
            Self::Json(_) => f.write_str("the payload is not the JSON that is asked for"),
            Self::Msgpack { at, .. } => write!(f, "the payload is not the MessagePack that is asked for, at byte {at}"),
            Self::Trailing { at } => write!(f, "the payload goes on after its value, at byte {at}"),
            Self::Annotated(_) => f.write_str("the item is not annotated"),
            Self::Codec(name) => write!(f, "the call names the codec {name:?}; there are msgpack and json"),
            Self::Unwritable(codec, _) => write!(f, "the value cannot be written as {}", codec.name()),
        }
    }
}

impl Error for PayloadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::Msgpack { error, .. } => Some(error),
            Self::Annotated(error) => Some(error),
            Self::Unwritable(_, error) => Some(&**error),
            Self::Empty | Self::Trailing { .. } | Self::Codec(_) => None,
        }
    }
}

/// Who sent it is to blame for what cannot be read; who answers, for what cannot be written.
impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        match &error {
            PayloadError::Unwritable(..) => Self::internal(Chain(&error)),
            PayloadError::Codec(_) => Self::new(Class::UnsupportedMedia, Key::UnsupportedMedia.name(), Chain(&error)),
            _ => Self::invalid(Chain(&error)),
        }
    }
}
