//! What a group of threads holds at this moment and has counted so far.

use ringplane_core::node::Node;
use ringplane_core::stats::groups;
use ringplane_core::{caller, worker};

groups! {
    /// Sizes of the moment and counters since the start, added up over the threads of a worker or a client.
    pub struct Snapshot {
        /// What the serving side holds.
        pub worker: worker::stats::Footprint,
        /// What the serving side has counted.
        pub served: worker::stats::Stats,
        /// What the calling side holds.
        pub caller: caller::stats::Footprint,
        /// What the calling side has counted.
        pub called: caller::stats::Stats,
    }
}

impl Snapshot {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            worker: node.worker.footprint(),
            served: *node.worker.stats(),
            caller: node.caller.footprint(),
            called: *node.caller.stats(),
        }
    }

    /// Whether nothing but idle connections is held.
    pub fn is_idle(&self) -> bool {
        let accepted = worker::stats::Footprint { connections: self.worker.connections, ..Default::default() };
        let dialed = caller::stats::Footprint { connections: self.caller.connections, ..Default::default() };
        self.worker == accepted && self.caller == dialed
    }
}
