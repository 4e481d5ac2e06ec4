//! The engines. Adding one is a file beside this one and a row in `all`.

pub mod all;
pub mod floor;
pub mod ringplane;

pub use all::{ALL, find};
