//! What a backend has counted, whichever of its threads did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringplane_core::discovery::{lease, watch};
use ringplane_core::stats::groups;

groups! {
    /// What all handles of a backend have counted since it was opened. A directory has neither leases nor streams, so that
    /// what counts those stays zero; a backend within one process counts nothing.
    pub struct Counters {
        /// The records of this process. A renewal of a directory is a sign of life of one record, a loss a record that
        /// somebody removed.
        pub registered: lease::Stats,
        /// What is known of everybody's records. A snapshot of a directory is a reading of all of it.
        pub discovered: watch::Stats,
    }
}

/// The counters that the threads of a backend share. They count seldom: per record and interval, not per call.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally(Arc<Mutex<Counters>>);

impl Tally {
    /// To count with.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they are.
    pub(crate) fn read(&self) -> Counters {
        *self.lock()
    }
}
