//! What guards the state that threads share here. Tests put others in its place, which try every order of events.

use std::sync::{MutexGuard, PoisonError};

pub(crate) use std::sync::Mutex;
pub(crate) use std::sync::atomic::AtomicBool;

/// Locks. What is guarded is whole after every command, whoever panicked meanwhile.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
