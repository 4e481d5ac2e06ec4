//! What the benchmarks measure with: fixed inputs, and two connections back to back without a network.

mod inputs;
mod pair;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, stream};
pub use pair::Pair;
