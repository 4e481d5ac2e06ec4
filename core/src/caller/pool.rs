//! What a caller keeps beside a connection, and how it loses one.

use core::net::SocketAddr;

use crate::buf::ages::Ticket;
use crate::caller::request::CallId;
use crate::caller::waiting::Waiting;
use crate::protocol::{CloseReason, Fault};
use crate::time::Instant;

/// What a caller keeps beside a connection.
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    /// It speaks mux, or will.
    pub(super) mux: bool,
    /// It was accepted, and brings a response home.
    pub(super) home: bool,
    /// Whose.
    pub(super) call: Option<CallId>,
    /// Its place among those that have not said so yet.
    pub(super) seat: Option<Ticket>,
    /// Calls on it, attached or open.
    pub(super) calls: usize,
    /// Calls that wait for a stream.
    pub(super) waiting: Waiting,
    /// Somebody up the stack is opening streams for them.
    pub(super) opening: bool,
    pub(super) dialed: Instant,
    pub(super) idle_since: Instant,
    /// Its calls have been failed; only the driver's last word is missing.
    pub(super) dead: bool,
}

impl Peer {
    pub(super) const fn new(addr: SocketAddr, mux: bool, now: Instant) -> Self {
        Self {
            addr,
            mux,
            home: false,
            call: None,
            seat: None,
            calls: 0,
            waiting: Waiting::new(),
            opening: false,
            dialed: now,
            idle_since: now,
            dead: false,
        }
    }
}

/// How a link was lost.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// The socket is gone.
    Closed(CloseReason),
    /// The protocol was broken, or the peer fell silent.
    Fault(Fault),
}
