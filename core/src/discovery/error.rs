//! What can be wrong with a record of any kind.

use alloc::string::String;
use core::fmt;

use crate::id::NameError;

/// A record that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON, or without a field that is needed, or of another type there.
    Json(String),
    /// A record of another kind than its bucket's: what it says it is.
    Kind(String),
    /// Reachable by something this version does not know.
    Transport,
    /// A NATS subject nobody can publish to.
    Subject(String),
    /// Neither `ip:port/path` nor `http://ip:port/path`.
    Address(String),
    /// A payload codec this version does not know.
    Codec(String),
    /// A name that cannot be written.
    Name(NameError),
    /// Events without a topic.
    Topic,
    /// A model card without `display_name`.
    Unnamed,
    /// A taint that only a model's topology gives it.
    Taint(String),
    /// Taints for an adapter, which has those of its base.
    Adapter,
    /// The record belongs under another key.
    Identity {
        /// That key.
        claims: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(what) => write!(f, "not a record: {what}"),
            Self::Kind(kind) => write!(f, "a record of kind `{kind}`, which is kept elsewhere"),
            Self::Transport => f.write_str("the instance is reachable neither by TCP nor by NATS nor by HTTP"),
            Self::Subject(text) => write!(f, "`{text}` is no NATS subject"),
            Self::Address(text) => write!(f, "`{text}` is neither ip:port/path nor http://ip:port/path"),
            Self::Codec(name) => write!(f, "unknown payload codec `{name}`"),
            Self::Name(error) => error.fmt(f),
            Self::Topic => f.write_str("events need a topic"),
            Self::Unnamed => f.write_str("a model card needs a display_name"),
            Self::Taint(taint) => write!(f, "the taint `{taint}` follows from the topology and cannot be set"),
            Self::Adapter => f.write_str("an adapter has the taints of its base model"),
            Self::Identity { claims } => write!(f, "the record belongs under the key `{claims}`"),
        }
    }
}

impl core::error::Error for Error {}
