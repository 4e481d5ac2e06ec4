//! Measuring: scenarios, engines, and the program that compares them; fixed inputs and two connections back to back for
//! the micro benchmarks.

pub mod cli;
pub mod content;
pub mod engine;
pub mod engines;
mod inputs;
pub mod load;
pub mod measure;
mod pair;
pub mod process;
pub mod scenario;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, stream};
pub use pair::Pair;
