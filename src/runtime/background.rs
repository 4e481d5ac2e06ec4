//! One small tokio runtime per process, on a thread of its own: what handlers ask of tokio on drivers that are not tokio's,
//! and what may wait without holding up the executor of a caller.

use std::io;
use std::sync::{Mutex, PoisonError};

use ringplane_tokio::tcp;
use tokio::runtime::{Builder, Handle};

use crate::error::Error;

/// Started with the first group of threads and kept by the process: tasks and timers of any of them may be in it.
static RUNNING: Mutex<Option<Handle>> = Mutex::new(None);

/// The way in, started if it does not run yet.
pub(crate) fn background() -> Result<Handle, Error> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*running {
        return Ok(handle.clone());
    }
    let handle = start().map_err(|error| Error::Tokio(tcp::Error::Runtime(error)))?;
    Ok(running.insert(handle).clone())
}

fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("ringplane-tokio".to_owned()).spawn(run)?;
    Ok(handle)
}

/// Lets this thread, for as long as it lives, ask tokio for timers, sockets and tasks. They wake it as any other thread
/// would.
pub(crate) fn enter(tokio: &Handle) {
    // Let go of with the thread, whatever else it keeps: the guard would have to be the last to go.
    std::mem::forget(tokio.enter());
}
