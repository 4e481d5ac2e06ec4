//! Measuring: scenarios, engines, and the program that compares them; every measured function as a row of one table, with
//! fixed inputs, two connections back to back without a network, and the comparison of instruction counts with a baseline.

pub mod cases;
pub mod cli;
pub mod content;
pub mod counts;
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

pub use inputs::{SIZES, body, candidates, crc, deframe, item, no_crc, stream};
pub use pair::Pair;
