//! What a driver has done so far, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of a driver's counters. All but `connections` only grow.
        #[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters as other threads see them, as of the end of the last turn.
        #[derive(Default, Debug)]
        pub(crate) struct Published {
            $($name: AtomicU64,)*
        }

        impl Published {
            pub(crate) fn store(&self, stats: &Stats) {
                $(self.$name.store(stats.$name, Ordering::Relaxed);)*
            }

            pub(crate) fn load(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

stats! {
    /// Open connections and dials under way.
    connections,
    /// Connections the listener accepted.
    accepted,
    /// Times accepting failed for want of descriptors or memory, and was put off.
    accept_errors,
    /// Dials begun.
    dialed,
    /// Dials that ended without a connection.
    dial_errors,
    /// Connections ended by a violation of the protocol.
    faults,
    /// Bytes received.
    received,
    /// Bytes handed to the operating system.
    sent,
    /// Reads that were tried.
    reads,
    /// Writes that were tried.
    writes,
    /// Writes the socket did not take whole.
    short_writes,
    /// Jobs run.
    jobs,
    /// Tasks of the thread that ended by a panic.
    panicked_tasks,
    /// Times the driver looked at its machine.
    turns,
}
