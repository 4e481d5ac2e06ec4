//! A layer that counts the bytes of every connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::local::host::LocalNode;
use ringplane_core::local::layer::{Inner, Layered};
use ringplane_core::protocol::{Action, CloseReason, Fault, Protocol};
use ringplane_core::time::{Deadline, Instant};

/// A node below a meter.
pub type MeteredNode = Layered<LocalNode, Meter<Inner<LocalNode>>>;

/// Puts a meter between a driver and `node`.
pub fn metered(node: Rc<LocalNode>) -> Rc<MeteredNode> {
    Layered::new(node, |inner| Meter { inner, tallies: BTreeMap::new() })
}

/// The bytes of one connection.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Tally {
    /// Handed out to be written.
    pub queued: u64,
    /// Written, as far as the driver has said.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// A machine whose connections are counted. It changes nothing else.
#[derive(Debug)]
pub struct Meter<P> {
    inner: P,
    tallies: BTreeMap<ConnId, Tally>,
}

impl<P> Meter<P> {
    /// Every connection there was, in order of names.
    pub fn tallies(&self) -> Vec<Tally> {
        self.tallies.values().copied().collect()
    }
}

impl<P: Protocol> Protocol for Meter<P> {
    type Event = P::Event;

    fn handle_open(&mut self, conn: ConnId, peer: Option<SocketAddr>, now: Instant) {
        self.tallies.insert(conn, Tally::default());
        self.inner.handle_open(conn, peer, now);
    }

    fn handle_listening(&mut self, outcome: Result<SocketAddr, CloseReason>, now: Instant) {
        self.inner.handle_listening(outcome, now);
    }

    fn handle_eof(&mut self, conn: ConnId, now: Instant) -> bool {
        self.inner.handle_eof(conn, now)
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.tallies.entry(conn).or_default().received += bytes.len() as u64;
        self.inner.handle_recv(conn, bytes, now)
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        self.tallies.entry(conn).or_default().sent += bytes as u64;
        self.inner.handle_sent(conn, bytes, now);
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        self.inner.handle_close(conn, why, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.inner.poll_ready()
    }

    fn writers(&self) -> usize {
        self.inner.writers()
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        let before = out.len();
        let more = self.inner.poll_transmit(conn, out, now);
        self.tallies.entry(conn).or_default().queued += (out.len() - before) as u64;
        more
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.inner.poll_action()
    }

    fn poll_event(&mut self) -> Option<P::Event> {
        self.inner.poll_event()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.inner.poll_timeout()
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        self.inner.bytes_wanted(conn)
    }
}
