//! How one of several candidates is picked. A new policy is one file with `impl Pick` and one row in [`any`]; one of parts that say
//! no, or better there, is a [`scored`].

pub mod any;
#[cfg(feature = "alloc")]
pub mod custom;
pub mod device_aware;
pub mod direct;
#[cfg(feature = "alloc")]
pub mod filters;
pub mod least_loaded;
pub mod peak_ewma;
pub mod pick;
pub mod power_of_two;
pub mod random;
mod rank;
pub mod ring_hash;
pub mod round_robin;
mod sample;
#[cfg(feature = "alloc")]
pub mod scored;
#[cfg(feature = "alloc")]
pub mod scorers;
#[cfg(feature = "alloc")]
pub mod sticky;
pub mod weighted;

pub use any::AnyPolicy;
#[cfg(feature = "alloc")]
pub use custom::Custom;
pub use device_aware::DeviceAware;
pub use direct::Direct;
pub use least_loaded::LeastLoaded;
pub use peak_ewma::PeakEwma;
pub use pick::{News, NoPick, Pick};
pub use power_of_two::PowerOfTwo;
pub use random::Random;
pub use ring_hash::RingHash;
pub use round_robin::RoundRobin;
#[cfg(feature = "alloc")]
pub use scored::Scored;
#[cfg(feature = "alloc")]
pub use sticky::Sticky;
pub use weighted::Weighted;
