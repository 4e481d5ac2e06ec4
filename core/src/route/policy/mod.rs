//! How one of several candidates is picked. A new policy is one file with `impl Pick` and one row in [`any`].

pub mod any;
#[cfg(feature = "alloc")]
pub mod custom;
pub mod direct;
pub mod pick;
pub mod random;
pub mod round_robin;

pub use any::AnyPolicy;
#[cfg(feature = "alloc")]
pub use custom::Custom;
pub use direct::Direct;
pub use pick::{NoPick, Pick};
pub use random::Random;
pub use round_robin::RoundRobin;
