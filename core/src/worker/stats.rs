//! What a worker counts, and what it holds.

/// Counters of one worker; merged by addition.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Calls admitted, at once or from the queue.
    pub admitted: u64,
    /// Calls that waited in the queue.
    pub queued: u64,
    /// Calls refused for want of room.
    pub overloaded: u64,
    /// Calls refused for another reason.
    pub refused: u64,
    /// Calls cancelled by their caller.
    pub cancelled: u64,
    /// Calls whose deadline passed.
    pub expired: u64,
    /// Calls over mux whose caller sent nothing that their handler waited for, or took nothing of their answer, for too long.
    pub stalled: u64,
    /// Calls that a drain ended because they took longer than it may.
    pub cut_off: u64,
    /// Connections ended by a fault.
    pub faults: u64,
    /// Dials home, repeated ones included.
    pub dials: u64,
    /// Dials home that were given up.
    pub dial_failures: u64,
}

/// What a machine holds at this moment.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Connections, dialed ones included.
    pub connections: usize,
    /// Calls.
    pub jobs: usize,
    /// Streams on all connections.
    pub streams: usize,
    /// Unread bytes charged to the connections' windows, those of fetched items, and those of request frames that are not
    /// whole.
    pub held: u64,
    /// Bytes of the reserve pools in use.
    pub reserved: u64,
    /// Bytes of items that wait to be written.
    pub outgoing: u64,
    /// Bytes of requests under way that no credit covers.
    pub kept: u64,
}
