//! A request as its worker takes it, whichever way it came: out of a frame, out of a broker's message, out of HTTP.

use core::net::SocketAddr;

use bytes::Bytes;

/// One request. It is answered by an ack's text; whatever came of it goes over the call-home it asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// The routing key it is served under; need not be UTF-8.
    pub path: &'a [u8],
    /// JSON as `wire::headers` writes it, or nothing.
    pub headers: &'a [u8],
    /// One two-part frame.
    pub payload: Bytes,
    /// Who asks; `None` if what brought the request does not say. Then only addresses on the worker's allow list are
    /// dialed home.
    pub peer: Option<SocketAddr>,
}
