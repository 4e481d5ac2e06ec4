//! One core's share of a process: a caller and a worker behind one [`Protocol`].

use core::net::SocketAddr;

use crate::buf::send_queue::SendQueue;
use crate::caller;
use crate::caller::machine::Caller;
use crate::id::ConnId;
use crate::protocol::{Action, CloseReason, Fault, Protocol};
use crate::time::{Deadline, Instant};
use crate::worker;
use crate::worker::machine::Worker;

/// A caller and a worker. Connections tell them apart by their role.
#[derive(Debug)]
pub struct Node {
    /// Serves the connections that were accepted, and dials call-home connections.
    pub worker: Worker,
    /// Uses the connections that it dialed, and the call-home connections that were accepted.
    pub caller: Caller,
}

/// What either of them says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The worker.
    Worker(worker::job::Event),
    /// The caller.
    Caller(caller::request::Event),
}

impl Node {
    /// A node of fresh machines. `seed` drives the caller's jitter and random choice.
    pub fn new(worker: worker::config::Config, caller: caller::config::Config, seed: u64) -> Self {
        Self { worker: Worker::new(worker), caller: Caller::new(caller, seed) }
    }
}

impl Protocol for Node {
    type Event = Event;

    fn handle_open(&mut self, conn: ConnId, peer: Option<SocketAddr>, now: Instant) {
        if conn.is_callers() {
            self.caller.handle_open(conn, peer, now);
        } else {
            self.worker.handle_open(conn, peer, now);
        }
    }

    fn handle_listening(&mut self, outcome: Result<SocketAddr, CloseReason>, now: Instant) {
        self.caller.handle_listening(outcome, now);
    }

    fn handle_eof(&mut self, conn: ConnId, now: Instant) -> bool {
        if conn.is_callers() { self.caller.handle_eof(conn, now) } else { self.worker.handle_eof(conn, now) }
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        if conn.is_callers() {
            self.caller.handle_recv(conn, bytes, now)
        } else {
            self.worker.handle_recv(conn, bytes, now)
        }
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        if conn.is_callers() {
            self.caller.handle_sent(conn, bytes, now);
        } else {
            self.worker.handle_sent(conn, bytes, now);
        }
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        if conn.is_callers() {
            self.caller.handle_close(conn, why, now);
        } else {
            self.worker.handle_close(conn, why, now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.worker.handle_timeout(now);
        self.caller.handle_timeout(now);
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.worker.poll_ready().or_else(|| self.caller.poll_ready())
    }

    fn writers(&self) -> usize {
        self.worker.writers() + self.caller.writers()
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        if conn.is_callers() {
            self.caller.poll_transmit(conn, out, now)
        } else {
            self.worker.poll_transmit(conn, out, now)
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.worker.poll_action().or_else(|| self.caller.poll_action())
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.worker.poll_event().map(Event::Worker);
        event.or_else(|| self.caller.poll_event().map(Event::Caller))
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::soonest(self.worker.poll_timeout(), self.caller.poll_timeout())
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        if conn.is_callers() { self.caller.bytes_wanted(conn) } else { self.worker.bytes_wanted(conn) }
    }
}
