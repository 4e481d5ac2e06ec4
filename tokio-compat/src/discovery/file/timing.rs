//! How often a live record says so, and when it counts as dead.

use std::time::Duration;

/// How often a live record's owner says so, and how long it may be silent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Time between two touches of a file. Default: 3 s; Dynamo's is 3.3 s.
    pub touch: Duration,
    /// Time without a touch after which a record is dead. Default: 10 s, which is Dynamo's, and which its processes
    /// apply to our files whatever is set here.
    pub ttl: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { touch: Duration::from_secs(3), ttl: Duration::from_secs(10) }
    }
}
