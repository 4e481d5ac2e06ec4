//! What both event loops drive: a side of the conversation, without IO.

use std::net::SocketAddr;
use std::time::Instant;

use crate::engine::Result;
use crate::engines::floor::frame::Out;

/// A server or a load. Connections are numbered by the loop, which calls [`fill`](Self::fill) for those it finds in
/// [`Todo::dirty`].
pub(crate) trait Machine {
    /// A connection is up; `dialed` is what was asked for in [`Todo::dial`].
    fn opened(&mut self, conn: usize, dialed: Option<Dial>, now: Instant);

    /// Bytes came.
    ///
    /// # Errors
    /// If they are wrong; the run is over then.
    fn received(&mut self, conn: usize, bytes: &[u8], now: Instant) -> Result<()>;

    /// The peer has closed it.
    ///
    /// # Errors
    /// If that is wrong; the run is over then.
    fn closed(&mut self, conn: usize) -> Result<()>;

    /// Appends what the connection has to send until `out` is full.
    fn fill(&mut self, conn: usize, out: &mut Out);

    /// Time has come to `now`. Says when to be called next at the latest.
    fn tick(&mut self, now: Instant) -> Option<Instant>;

    /// What the loop is to do.
    fn todo(&mut self) -> &mut Todo;
}

/// What a loop is to do for its machine.
#[derive(Default, Debug)]
pub(crate) struct Todo {
    /// Connections that have something to send; may name one twice.
    pub(crate) dirty: Vec<usize>,
    /// Connections to make.
    pub(crate) dial: Vec<Dial>,
    /// Connections to close.
    pub(crate) close: Vec<usize>,
    /// Stop.
    pub(crate) over: bool,
}

/// A connection to make.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Dial {
    /// Whom to call.
    pub(crate) address: SocketAddr,
    /// What the machine knows it by.
    pub(crate) token: usize,
}
