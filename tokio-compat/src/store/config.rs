//! How objects are written and read.

use std::time::Duration;

/// What bounds a bucket and its readers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The age after which a piece of an object is dropped; zero is for ever. A bucket is made with it. Default zero, as Dynamo.
    pub max_age: Duration,
    /// Bytes of one piece; not more than the server takes. Default 128 KiB, as Dynamo.
    pub piece: usize,
    /// Pieces on their way to the server that it has not kept yet, and pieces that are asked for at once. Default 16.
    pub ahead: usize,
    /// Bytes that an object may have to be taken into memory whole ([`Bucket::get`](super::Bucket::get)); larger ones are read
    /// piece by piece. Default 64 MiB.
    pub max_value: usize,
    /// How long one answer of the server is waited for. Default 5 s.
    pub answer: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_age: Duration::ZERO,
            piece: 128 << 10,
            ahead: 16,
            max_value: 64 << 20,
            answer: Duration::from_secs(5),
        }
    }
}
