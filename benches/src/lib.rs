//! Measuring: scenarios, engines, and the program that compares them; fixed inputs and two connections back to back for
//! the micro benchmarks.

#[cfg(feature = "engines")]
pub mod cli;
pub mod content;
pub mod engine;
#[cfg(feature = "engines")]
pub mod engines;
#[cfg(feature = "engines")]
pub mod goals;
#[cfg(feature = "engines")]
pub mod html;
mod inputs;
#[cfg(feature = "engines")]
mod listen;
pub mod load;
#[cfg(feature = "tokio")]
pub mod local;
#[cfg(feature = "engines")]
pub mod markdown;
pub mod measure;
mod pair;
pub mod process;
#[cfg(feature = "engines")]
pub mod results;
#[cfg(feature = "engines")]
pub mod runner;
pub mod scenario;
#[cfg(feature = "engines")]
pub mod scenarios;
#[cfg(feature = "engines")]
pub mod session;
#[cfg(feature = "engines")]
pub mod svg;
#[cfg(feature = "engines")]
pub mod table;

pub use inputs::{SIZES, body, candidates, crc, deframe, item, stream};
pub use pair::Pair;
