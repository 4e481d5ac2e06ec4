//! Objects on a NATS server: bytes of any length under a name, in buckets, as Dynamo and the clients of NATS keep them. Files are
//! streamed in both directions; what comes back is what the digest says, and a file is there only if it is whole.

pub mod bincode;
mod bucket;
mod config;
mod error;
mod file;
mod meta;
mod pieces;
mod told;
mod upload;

pub use bucket::{Bucket, delete_bucket};
pub use config::Config;
pub use error::Error;
pub use meta::Info;
