//! What a worker keeps beside a connection.

use core::net::SocketAddr;

use crate::worker::admission::Places;
use crate::worker::dynamo::dial::Home;
use crate::worker::dynamo::partial::Partial;

/// What a worker keeps beside a connection.
#[derive(Debug)]
pub(super) struct Visitor {
    /// Accepted while draining: nothing runs on it, so nobody waits for its end.
    pub(super) late: bool,
    /// Who is at the other end of an accepted connection, if the driver said so.
    pub(super) peer: Option<SocketAddr>,
    /// What a connection dialed home is for.
    pub(super) home: Option<Home>,
    /// The places that calls from here hold.
    pub(super) places: Places,
    /// What has come of a request frame that is not whole.
    pub(super) partial: Option<Partial>,
    /// Bytes of requests under way that came here.
    pub(super) kept: usize,
}
