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
        /// Calls that go on with one that broke, at another worker as a rule.
        pub continued,
        /// Calls made beside one that is slow to begin.
        pub hedged,
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
    }
}
