//! Loom's locks and atomics in place of the standard library's.

use loom::sync::MutexGuard;

pub(crate) use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::AtomicBool;

/// Locks; nobody panics meanwhile.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
