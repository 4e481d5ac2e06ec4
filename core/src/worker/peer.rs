//! What a worker keeps beside a connection.

use core::net::SocketAddr;

use crate::buf::slab::Key;
use crate::links::Links;
use crate::time::Instant;
use crate::worker::admission::Places;
use crate::worker::dynamo::dial::Dialed;
use crate::worker::dynamo::partial::Partial;
use crate::worker::job::JobId;
use crate::worker::line::Line;
use crate::worker::memory::Share;

/// What a worker keeps beside a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// It came when the worker was leaving already: nobody waits for its end.
    pub(super) late: bool,
    pub(super) side: Side,
}

/// Which side has dialed.
#[derive(Debug)]
pub(super) enum Side {
    /// A caller, who sends requests.
    Accepted(Accepted),
    /// This worker: a call-home, for one stream of a call.
    Dialed(Dialed),
}

/// A connection on which requests come.
#[derive(Debug)]
pub(super) struct Accepted {
    /// The address at the other end, if the driver said so.
    pub(super) addr: Option<SocketAddr>,
    /// The places that calls from here hold.
    pub(super) places: Places,
    /// The memory that they hold.
    pub(super) share: Share,
    /// What has come of a request frame that is not whole.
    pub(super) partial: Option<Partial>,
    /// When this end has reported its load last.
    pub(super) reported: Option<Instant>,
}

impl Accepted {
    /// A connection from `addr` on which nothing has come.
    pub(super) fn new(addr: Option<SocketAddr>) -> Self {
        Self { addr, places: Places::default(), share: Share::default(), partial: None, reported: None }
    }
}

impl Links<Peer, Line> {
    /// What is kept of a connection that was accepted.
    pub(super) fn accepted(&self, key: Key) -> Option<&Accepted> {
        match &self.get(key)?.owner.side {
            Side::Accepted(accepted) => Some(accepted),
            Side::Dialed(_) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn accepted_mut(&mut self, key: Key) -> Option<&mut Accepted> {
        match &mut self.get_mut(key)?.owner.side {
            Side::Accepted(accepted) => Some(accepted),
            Side::Dialed(_) => None,
        }
    }

    /// What is kept of a connection that was dialed.
    pub(super) fn dialed(&self, key: Key) -> Option<&Dialed> {
        match &self.get(key)?.owner.side {
            Side::Dialed(dialed) => Some(dialed),
            Side::Accepted(_) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn dialed_mut(&mut self, key: Key) -> Option<&mut Dialed> {
        match &mut self.get_mut(key)?.owner.side {
            Side::Dialed(dialed) => Some(dialed),
            Side::Accepted(_) => None,
        }
    }

    /// The call that a dialed connection is there for, as long as it has to do with it.
    pub(super) fn job(&self, key: Key) -> Option<JobId> {
        self.dialed(key)?.job
    }
}
