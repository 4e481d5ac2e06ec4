//! The table of engines.

use crate::engine::Engine;

/// Every engine, in the order in which they are shown and run.
pub static ALL: &[&dyn Engine] = &[];

/// The engine called `name`.
pub fn find(name: &str) -> Option<&'static dyn Engine> {
    ALL.iter().copied().find(|engine| engine.name() == name)
}
