//! What a worker counts, and what it holds.

use crate::stats::counters;

counters! {
    /// Counters of one worker; merged by addition.
    pub struct Stats {
        /// Connections accepted.
        pub connections,
        /// Calls admitted, at once or from the queue.
        pub admitted,
        /// Calls that had been tried before, here or elsewhere, as ringplane callers say.
        pub repeated,
        /// Calls that waited in the queue.
        pub queued,
        /// Calls refused for want of room.
        pub overloaded,
        /// Calls that waited and gave way to one of higher priority or of a tenant with less waiting; counted as refused for want
        /// of room too.
        pub displaced,
        /// Calls refused for another reason.
        pub refused,
        /// Calls cancelled by their caller.
        pub cancelled,
        /// Calls whose deadline passed.
        pub expired,
        /// Calls over mux whose caller sent nothing that their handler waited for, or took nothing of their answer, for too long.
        pub stalled,
        /// Calls that a drain ended because they took longer than it may.
        pub cut_off,
        /// Reports of load sent to callers.
        pub reports,
        /// Connections ended by a fault.
        pub faults,
        /// Dials home, repeated ones included.
        pub dials,
        /// Dials home that were given up.
        pub dial_failures,
    }
}

counters! {
    /// What a machine holds at this moment.
    pub struct Footprint {
        /// Connections, dialed ones included.
        pub connections,
        /// Calls.
        pub jobs,
        /// Calls that have a place and whose handlers run.
        pub running,
        /// Calls that wait in the queue for a place.
        pub waiting,
        /// Streams on all connections.
        pub streams,
        /// Unread bytes charged to the connections' windows, those of fetched items, and those of request frames that are not
        /// whole.
        pub held,
        /// Bytes of the reserve pools in use.
        pub reserved,
        /// Bytes of items that wait to be written.
        pub outgoing,
        /// Bytes of requests under way that no credit covers.
        pub kept,
    }
}
