//! The table of engines.

use crate::engine::Engine;
use crate::engines::floor::Floor;
use crate::engines::ringplane::{IoUring, Ringplane, Tokio};

/// Every engine, in the order in which they are shown and run.
pub static ALL: &[&dyn Engine] = &[&Floor::Epoll, &Floor::Uring, &Ringplane(IoUring), &Ringplane(Tokio)];

/// The engine called `name`.
pub fn find(name: &str) -> Option<&'static dyn Engine> {
    ALL.iter().copied().find(|engine| engine.name() == name)
}
