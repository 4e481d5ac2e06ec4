//! What a driver counts, and how other threads get to read it.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a driver has counted since it started, and a few sizes of the moment. Numbers of several drivers add up.
        #[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Adds the numbers of another driver.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Every number with its name, in the order of the fields.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }

        /// The numbers as other threads see them: written once per turn by the driver's thread.
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

counters! {
    /// Turns of the loop.
    turns,
    /// System calls that entered the ring.
    enters,
    /// Entries submitted to the ring.
    submissions,
    /// Completions reaped.
    completions,
    /// Turns that found the completion queue overflown. Not an error, the kernel keeps the rest; a sign of a queue too
    /// small.
    overflows,
    /// Receives that ended because all buffers were in use; they are armed again.
    no_buffers,
    /// Connections accepted.
    accepts,
    /// Connections closed at once because there were too many, accepted or dialed.
    refused,
    /// Times the listener paused because the process or the system had no descriptor left.
    accept_pauses,
    /// Dials begun.
    dials,
    /// Dials that failed.
    dial_failures,
    /// Connections that ended, whatever the reason.
    closes,
    /// Writes done directly.
    direct_sends,
    /// Writes left to the ring because the socket's buffer was full.
    ring_sends,
    /// Bytes received.
    bytes_in,
    /// Bytes written.
    bytes_out,
    /// Jobs of other threads run.
    jobs,
    /// Polls of local tasks.
    task_polls,
    /// Tasks and jobs that panicked. Each is logged.
    panics,
    /// Connections now.
    connections,
    /// Operations now in the kernel.
    ops_in_flight,
    /// Local tasks now.
    tasks,
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
        assert_eq!(stats.named().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("turns", 4), ("tasks", 14)]);
    }
}
