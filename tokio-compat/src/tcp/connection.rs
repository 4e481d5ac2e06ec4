//! One connection: its socket, its phase, and the bytes its socket would not take yet.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::{ConnId, ConnRole};
use ringplane_core::protocol::CloseReason;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tcp::gauge::Alive;

/// Slices per vectored write. The kernel takes up to 1024; past a few dozen the copy dominates.
const SLICES: usize = 64;

/// A dial under way.
pub(crate) type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// A connection or a dial.
///
/// ```text
///   Dialing --connected--> Open --Close{Flush}--> Open, flushing --queue empty, FIN--> gone
///      \____ any Close _______\______ error, EOF, Close{Abort} __________________/
/// ```
pub(crate) struct Connection {
    pub(crate) name: ConnId,
    pub(crate) phase: Phase,
    /// The machine closed it: write what is queued, drop what arrives, then FIN.
    pub(crate) flushing: bool,
    /// Bytes pulled and not yet taken by the socket; none in between.
    pub(crate) queue: Option<SendQueue>,
    /// The machine may have more to write: it has not said `false` since it was last asked.
    pub(crate) asked: bool,
    /// It has had its share of this turn; its next visit goes on.
    pub(crate) sated: bool,
    /// The socket takes no bytes until its waker says so.
    pub(crate) blocked: bool,
    /// Nothing more to read: the machine reported a fault and its `Close` is on the way, or the peer sent FIN.
    pub(crate) deaf: bool,
    /// The machine wants nothing more read for now.
    pub(crate) paused: bool,
    alive: Alive,
}

pub(crate) enum Phase {
    Dialing(Dial),
    Open(TcpStream),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(name: ConnId, phase: Phase, alive: Alive) -> Self {
        Self {
            name,
            phase,
            flushing: false,
            queue: None,
            asked: false,
            sated: false,
            blocked: false,
            deaf: false,
            paused: false,
            alive,
        }
    }

    /// Whether it may be left in order: the peer dialed it, and nothing is half written.
    pub(crate) fn may_linger(&self) -> bool {
        let is_open = matches!(self.phase, Phase::Open(_));
        is_open && self.name.role() == ConnRole::Accepted && self.queue.is_none() && !self.blocked
    }

    /// Reads once into `buffer`; the count is 0 at the end of the stream.
    pub(crate) fn read(&mut self, waker: &Waker, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Phase::Open(stream) = &mut self.phase else { return Poll::Pending };
        // Unlike `try_read`, `poll_read` knows from a short read that the socket is empty and saves the next call.
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(stream).poll_read(&mut Context::from_waker(waker), &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Writes once from `queue`; the socket tells `waker` when it takes more.
    pub(crate) fn write(&mut self, waker: &Waker, queue: &SendQueue) -> Poll<io::Result<usize>> {
        let Phase::Open(stream) = &mut self.phase else { return Poll::Pending };
        let stream = Pin::new(stream);
        let mut context = Context::from_waker(waker);
        let mut slices = [&[][..]; SLICES];
        let used = queue.slices(&mut slices);
        if let [only] = &slices[..used] {
            return stream.poll_write(&mut context, only);
        }
        let mut vector = [IoSlice::new(&[]); SLICES];
        for (entry, slice) in vector.iter_mut().zip(&slices[..used]) {
            *entry = IoSlice::new(slice);
        }
        stream.poll_write_vectored(&mut context, &vector[..used])
    }

    /// Makes the close a reset instead of a FIN. A FIN would tell the peer that it has got everything, and that it may go on
    /// writing.
    pub(crate) fn reset(&self) {
        if let Phase::Open(stream) = &self.phase {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Hands the socket over, if there is one.
    pub(crate) fn into_stream(self) -> Option<(TcpStream, Alive)> {
        let Phase::Open(stream) = self.phase else { return None };
        Some((stream, self.alive))
    }
}

/// Why the operating system ended a connection or refused a dial.
pub(crate) fn close_reason(error: &io::Error) -> CloseReason {
    match error.raw_os_error() {
        Some(errno) => CloseReason::from_errno(errno),
        // Without an errno it is tokio's own, which only speaks when its runtime is going away.
        None => CloseReason::Local,
    }
}
