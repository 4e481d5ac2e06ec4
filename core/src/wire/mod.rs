//! Bytes to meaning and back, without memory of a connection.
//!
//! Each format has a *view* that borrows the bytes it describes and checks every length before it is believed, and a
//! *representation* that emits. Parsing never panics, never allocates before a length has been checked against
//! [`Limits`], and says how many bytes are missing when the input is short ([`Parse::Incomplete`]).

pub mod checksum;
pub mod class;
pub mod codec;
#[cfg(feature = "alloc")]
pub mod context;
pub mod dynamo;
#[cfg(feature = "alloc")]
mod json;
pub mod line;
#[cfg(feature = "alloc")]
pub mod misfit;
pub mod msgpack;
pub mod mux;
pub mod parse;
pub mod pretty;
pub mod sniff;
pub mod trace_context;
#[cfg(feature = "alloc")]
pub mod zmtp;

pub use checksum::Crc32c;
pub use class::Class;
pub use codec::Codec;
#[cfg(feature = "alloc")]
pub use context::TraceContext;
pub use dynamo::ack::Ack;
#[cfg(feature = "alloc")]
pub use dynamo::annotated::Annotated;
pub use dynamo::envelope::Envelope;
pub use dynamo::failure_key::Key;
pub use dynamo::request::Request;
pub use dynamo::two_part::TwoPart;
#[cfg(feature = "alloc")]
pub use dynamo::typed_failure::Failure;
pub use dynamo::word::Word;
pub use parse::{Error, ErrorKind, Format, Limits, Parse};
pub use trace_context::{TraceParent, TraceState};
