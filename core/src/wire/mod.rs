//! Bytes to meaning and back, without memory of a connection.
//!
//! Each format has a *view* that borrows the bytes it describes and checks every length before it is believed, and a
//! *representation* that emits. Parsing never panics, never allocates before a length has been checked against
//! [`Limits`], and says how many bytes are missing when the input is short ([`Parse::Incomplete`]).

pub mod checksum;
pub mod failure;
pub mod mux;
pub mod parse;

pub use checksum::Crc32c;
pub use parse::{Error, ErrorKind, Format, Limits, Parse};
