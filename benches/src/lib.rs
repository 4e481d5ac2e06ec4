//! Measuring: scenarios, engines, and the program that compares them; every measured function as a row of one table, with
//! fixed inputs, two connections back to back without a network, and the comparison of instruction counts with a baseline.

pub mod book;
pub mod cases;
#[cfg(feature = "engines")]
pub mod cli;
pub mod content;
pub mod counts;
pub mod engine;
#[cfg(feature = "engines")]
pub mod engines;
#[cfg(feature = "engines")]
pub mod events;
#[cfg(feature = "engines")]
pub mod goals;
#[cfg(feature = "engines")]
pub mod html;
mod inputs;
pub mod line;
#[cfg(feature = "engines")]
mod listen;
pub mod load;
#[cfg(feature = "tokio")]
pub mod local;
#[cfg(feature = "engines")]
pub mod markdown;
pub mod measure;
pub mod numbered;
mod pair;
pub mod process;
#[cfg(feature = "engines")]
pub mod results;
#[cfg(feature = "engines")]
pub mod runner;
mod runtime;
pub mod scenario;
#[cfg(feature = "engines")]
pub mod scenarios;
#[cfg(feature = "engines")]
pub mod session;
#[cfg(feature = "engines")]
pub mod svg;
#[cfg(feature = "engines")]
pub mod table;
pub mod usage;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, no_crc, stream};
pub use pair::Pair;
