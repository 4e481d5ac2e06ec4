//! What a caller counts, and what it holds.

/// Counters of one caller; merged by addition.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Calls made.
    pub calls: u64,
    /// Calls that ended well.
    pub succeeded: u64,
    /// Calls that ended badly.
    pub failed: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Dials.
    pub dials: u64,
    /// Connections ended by a fault.
    pub faults: u64,
    /// Tries sent in Dynamo's way.
    pub sent_home: u64,
    /// Connections that named a subject nobody asked for, or made room for others before they named any.
    pub strangers: u64,
}

/// What a caller holds at this moment.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Connections, including dials under way.
    pub connections: usize,
    /// Calls not released.
    pub calls: usize,
    /// Streams on all connections.
    pub streams: usize,
    /// Unread bytes charged to the connections' windows.
    pub held: u64,
    /// Bytes of the reserve pools in use.
    pub reserved: u64,
    /// Bytes of items that wait to be written.
    pub outgoing: u64,
}
