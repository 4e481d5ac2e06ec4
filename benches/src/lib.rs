//! What the benchmarks measure with: every measured function as a row of one table, fixed inputs, two connections back to
//! back without a network, and the comparison of instruction counts with their baseline.

pub mod cases;
pub mod counts;
mod inputs;
mod pair;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, no_crc, stream};
pub use pair::Pair;
