//! What a driver counts, and how other threads get to read it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! published {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[doc = $doc:literal])+ pub $field:ident,)* }) => {
        ringplane_core::stats::counters! {
            $(#[$meta])*
            pub struct $name { $($(#[doc = $doc])+ pub $field,)* }
        }

        /// The numbers as other threads see them: written once per turn by the driver's thread.
        #[derive(Default, Debug)]
        pub(crate) struct Published {
            $($field: AtomicU64,)*
        }

        impl Published {
            pub(crate) fn store(&self, stats: &$name) {
                $(self.$field.store(stats.$field, Ordering::Relaxed);)*
            }

            pub(crate) fn load(&self) -> $name {
                $name { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

published! {
    /// What a driver has counted since it started, and a few sizes of the moment. Numbers of several drivers add up. What a
    /// driver cannot count, such as entries of a ring where there is none, stays zero.
    pub struct Stats {
        /// Turns of the loop.
        pub turns,
        /// System calls that entered the ring.
        pub enters,
        /// Entries submitted to the ring.
        pub submissions,
        /// Completions reaped from the ring.
        pub completions,
        /// Turns that found the completion queue overflown. Not an error, the kernel keeps the rest; a sign of a queue too
        /// small.
        pub overflows,
        /// Receives that ended because all buffers of the ring were in use; they are armed again.
        pub no_buffers,
        /// Connections accepted.
        pub accepts,
        /// Connections closed at once because there were too many, accepted or dialed.
        pub refused,
        /// Times a listener paused because the process or the system had no descriptor or memory left.
        pub accept_pauses,
        /// Dials begun.
        pub dials,
        /// Dials that failed.
        pub dial_failures,
        /// Connections and dials that ended, whatever the reason.
        pub closes,
        /// Connections whose peer broke the protocol.
        pub faults,
        /// Reads that brought something.
        pub reads,
        /// Writes a socket took something of at once.
        pub writes,
        /// Writes a socket did not take whole.
        pub short_writes,
        /// Writes that went through the ring.
        pub ring_sends,
        /// Bytes received.
        pub bytes_in,
        /// Bytes written.
        pub bytes_out,
        /// Jobs of other threads run.
        pub jobs,
        /// Polls of local tasks.
        pub task_polls,
        /// Tasks and jobs that panicked. Each is logged.
        pub panics,
        /// Connections and dials now.
        pub connections,
        /// Operations now in the kernel.
        pub ops_in_flight,
        /// Receive buffers of the ring in use now.
        pub buffers_out,
        /// Local tasks now.
        pub tasks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers_come_back_and_add_up() {
        let mut stats = Stats { turns: 2, tasks: 7, ..Stats::default() };
        let published = Published::default();
        published.store(&stats);
        assert_eq!(published.load(), stats);
        stats.merge(&published.load());
        assert!(stats.named().filter(|(_, n)| *n > 0).eq([("turns", 4), ("tasks", 14)]));
    }
}
