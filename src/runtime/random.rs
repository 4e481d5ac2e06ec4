//! Random numbers of the operating system.

use std::hash::{BuildHasher, RandomState};

/// A random number from the operating system's seed for hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::time::Instant::now())
}
