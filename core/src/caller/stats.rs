//! What a caller counts, and what it holds.

use crate::stats::counters;

counters! {
    /// Counters of one caller; merged by addition.
    pub struct Stats {
        /// Calls made.
        pub calls,
        /// Calls that ended well.
        pub succeeded,
        /// Calls that ended badly.
        pub failed,
        /// Tries after the first.
        pub retries,
        /// Tries that failed and were not made again, or calls not made again, as the budget of retries was spent.
        pub unaffordable,
        /// Calls that go on with one that broke, at another worker as a rule.
        pub continued,
        /// Calls made beside one that is slow to begin.
        pub hedged,
        /// Calls that waited for a free place, because every instance was full.
        pub waited,
        /// Calls refused because every instance was full and as many waited as may, or because they had waited for long enough.
        pub crowded_out,
        /// Calls that waited and gave way to one of higher priority or of a tenant with less waiting; counted as refused too.
        pub displaced,
        /// Calls turned away here because too many calls of their endpoint were refused; not among those made.
        pub throttled,
        /// Dials.
        pub dials,
        /// Reports of load that workers sent.
        pub reports,
        /// Connections ended by a fault.
        pub faults,
        /// Tries sent in Dynamo's protocol.
        pub sent_home,
        /// Connections that named a subject nobody asked for, or made room for others before they named any.
        pub strangers,
    }
}

counters! {
    /// What a caller holds at this moment.
    pub struct Footprint {
        /// Connections, including dials under way.
        pub connections,
        /// Calls not released.
        pub calls,
        /// Streams on all connections.
        pub streams,
        /// Unread bytes charged to the connections' windows.
        pub held,
        /// Bytes of the reserve pools in use.
        pub reserved,
        /// Bytes of items that wait to be written.
        pub outgoing,
        /// Calls that wait for a free place, as every instance is full.
        pub waiting,
    }
}
