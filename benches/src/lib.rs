//! What the benchmarks measure with: every measured function as a row of one table, fixed inputs, and two connections back to
//! back without a network.

pub mod cases;
mod inputs;
mod pair;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, no_crc, stream};
pub use pair::Pair;
