//! A whole network in one thread and in virtual time: the third driver of the machines.
//!
//! A [`Sim`] holds hosts; each host is one machine, its local tasks and its connections. Bytes travel through
//! [`Link`]s that behave as TCP does on a bad day, as told by [`Faults`]. Nothing waits: the clock jumps to the next
//! thing that can happen. A run is a function of its seed, and a failing run prints it.

pub mod clock;
mod drive;
pub mod executor;
pub mod faults;
mod host;
pub mod link;
pub mod net;
pub mod rng;
pub mod seeds;
pub mod trace;
mod wire;

pub use faults::Faults;
pub use link::{Link, Side};
pub use net::{HostId, Sim};
pub use rng::Rng;
pub use seeds::seeds;
