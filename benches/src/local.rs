//! The load generator's runtime for engines on tokio: one thread, which also runs the engine's own tasks.

use std::future::Future;
use std::mem;
use std::time::Instant;

use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep_until;

use crate::engine::Result;
use crate::load::Runtime;

/// Starts tasks on the thread of [`run`].
#[derive(Copy, Clone, Debug)]
pub struct Local;

impl Runtime for Local {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        drop(spawn_local(task));
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        sleep_until(at.into())
    }
}

/// Runs `main` to its end on this thread, in a runtime in which [`Local`] and `tokio::spawn` start tasks. What still runs
/// then is left as it is: the process is about to end.
///
/// # Errors
/// If the runtime cannot be made.
pub fn run<T>(main: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, main);
    mem::forget((tasks, runtime));
    outcome
}
