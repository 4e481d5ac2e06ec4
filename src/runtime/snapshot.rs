//! What a group of threads holds at this moment and has counted so far.

use ringplane_core::caller::stats as caller;
use ringplane_core::node::Node;
use ringplane_core::worker::stats as worker;

/// Sizes of the moment and counters since the start, added up over the threads of a worker or a client.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// What the serving side holds.
    pub worker: worker::Footprint,
    /// What the serving side has counted.
    pub served: worker::Stats,
    /// What the calling side holds.
    pub caller: caller::Footprint,
    /// What the calling side has counted.
    pub called: caller::Stats,
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

    /// Adds another thread's numbers.
    pub fn merge(&mut self, other: &Self) {
        let (mine, its) = (&mut self.worker, &other.worker);
        mine.connections += its.connections;
        mine.jobs += its.jobs;
        mine.streams += its.streams;
        mine.held += its.held;
        mine.reserved += its.reserved;
        mine.outgoing += its.outgoing;
        mine.kept += its.kept;
        let (mine, its) = (&mut self.served, &other.served);
        mine.connections += its.connections;
        mine.admitted += its.admitted;
        mine.queued += its.queued;
        mine.overloaded += its.overloaded;
        mine.refused += its.refused;
        mine.cancelled += its.cancelled;
        mine.expired += its.expired;
        mine.stalled += its.stalled;
        mine.cut_off += its.cut_off;
        mine.faults += its.faults;
        mine.dials += its.dials;
        mine.dial_failures += its.dial_failures;
        let (mine, its) = (&mut self.caller, &other.caller);
        mine.connections += its.connections;
        mine.calls += its.calls;
        mine.streams += its.streams;
        mine.held += its.held;
        mine.reserved += its.reserved;
        mine.outgoing += its.outgoing;
        let (mine, its) = (&mut self.called, &other.called);
        mine.calls += its.calls;
        mine.succeeded += its.succeeded;
        mine.failed += its.failed;
        mine.retries += its.retries;
        mine.dials += its.dials;
        mine.faults += its.faults;
        mine.sent_home += its.sent_home;
        mine.strangers += its.strangers;
    }

    /// Whether nothing but idle connections is held.
    pub fn is_idle(&self) -> bool {
        let connections = worker::Footprint { connections: self.worker.connections, ..Default::default() };
        let dialed = caller::Footprint { connections: self.caller.connections, ..Default::default() };
        self.worker == connections && self.caller == dialed
    }
}
