//! A pair of mux connections beside a reference model of what their owners may see.
//!
//! | file | holds |
//! |---|---|
//! | `call` | one call: what was sent, what must arrive |
//! | `world` | the pair, the bytes between, and every law |

mod call;
mod world;

pub use world::{Setup, Trust, World};
