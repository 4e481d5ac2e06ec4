//! What a driver has done so far, readable from any thread.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
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
    /// Times the driver looked at its machine.
    turns,
    /// Connections accepted.
    accepts,
    /// Connections closed at once because there were too many, accepted or dialed.
    refused,
    /// Times the listener paused because the process or the system had no descriptor or memory left.
    accept_pauses,
    /// Dials begun.
    dials,
    /// Dials that failed.
    dial_failures,
    /// Connections and dials that ended, whatever the reason.
    closes,
    /// Connections that broke the protocol.
    faults,
    /// Reads that returned something.
    reads,
    /// Writes the socket took something of.
    writes,
    /// Writes the socket did not take whole.
    short_writes,
    /// Bytes received.
    bytes_in,
    /// Bytes written.
    bytes_out,
    /// Jobs of other threads run.
    jobs,
    /// Tasks and jobs that panicked. Jobs are logged.
    panics,
    /// Connections and dials now.
    connections,
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
        assert!(stats.named().filter(|(_, n)| *n > 0).eq([("turns", 4), ("tasks", 14)]));
    }
}
