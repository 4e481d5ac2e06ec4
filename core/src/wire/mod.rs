//! Bytes to meaning and back, without memory of a connection.
//!
//! Each format has a *view* that borrows the bytes it describes and checks every length before it is believed, and a
//! *representation* that emits. Parsing never panics, never allocates before a length has been checked against
//! [`Limits`], and says how many bytes are missing when the input is short ([`Parse::Incomplete`]).

pub mod ack;
#[cfg(feature = "alloc")]
pub mod annotated;
pub mod checksum;
pub mod class;
pub mod codec;
#[cfg(feature = "alloc")]
pub mod control;
pub mod envelope;
pub mod failure;
pub mod failure_key;
#[cfg(feature = "alloc")]
pub mod headers;
#[cfg(feature = "alloc")]
mod json;
pub mod line;
#[cfg(feature = "alloc")]
pub mod misfit;
pub mod msgpack;
pub mod mux;
pub mod parse;
pub mod pretty;
pub mod request;
pub mod sniff;
pub mod trace_context;
pub mod two_part;
#[cfg(feature = "alloc")]
pub mod typed_failure;
pub mod word;

pub use ack::Ack;
#[cfg(feature = "alloc")]
pub use annotated::Annotated;
pub use checksum::Crc32c;
pub use class::Class;
pub use codec::Codec;
pub use envelope::Envelope;
pub use failure_key::Key;
pub use parse::{Error, ErrorKind, Format, Limits, Parse};
pub use request::Request;
pub use trace_context::{TraceParent, TraceState};
pub use two_part::TwoPart;
#[cfg(feature = "alloc")]
pub use typed_failure::Failure;
pub use word::Word;
