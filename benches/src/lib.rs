//! Measuring: scenarios, engines, and the program that compares them; fixed inputs and two connections back to back for
//! the micro benchmarks.

pub mod cli;
pub mod content;
pub mod engine;
pub mod engines;
pub mod goals;
pub mod html;
mod inputs;
mod listen;
pub mod load;
pub mod markdown;
pub mod measure;
mod pair;
pub mod process;
pub mod results;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod session;
pub mod svg;
pub mod table;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, stream};
pub use pair::Pair;
