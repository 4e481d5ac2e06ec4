//! Accepting connections, and patience when descriptors run out.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use ringplane_core::time::Instant;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

/// First wait after a failure that only time can heal.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
/// Longest such wait.
const BACKOFF_LAST: Duration = Duration::from_secs(1);

/// Waiting connections that are left in order when a listener closes. The kernel's own bound is of this size.
const BACKLOG: usize = 4096;

/// A listener that waits when the operating system is out of something, twice as long each time, 5 ms to 1 s.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: TcpListener,
    backoff: Duration,
    not_before: Option<Instant>,
}

/// What came of a try to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// A connection that was gone before it was taken, or a network error that concerns it alone. Try again.
    Lost,
    /// Out of descriptors or memory: nothing until [`Acceptor::not_before`].
    Exhausted(io::Error),
    /// None for now; the waker will tell.
    None,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, backoff: BACKOFF_FIRST, not_before: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Accepted {
        if self.not_before.is_some_and(|at| now < at) {
            return Accepted::None;
        }
        self.not_before = None;
        match self.listener.poll_accept(cx) {
            Poll::Pending => Accepted::None,
            Poll::Ready(Ok((stream, _))) => {
                self.backoff = BACKOFF_FIRST;
                Accepted::Stream(stream)
            }
            Poll::Ready(Err(error)) if is_exhaustion(&error) => {
                self.not_before = Some(now + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_LAST);
                Accepted::Exhausted(error)
            }
            Poll::Ready(Err(_)) => Accepted::Lost,
        }
    }

    /// The connections that nobody has accepted yet, as many as there are. Closing the listener resets them.
    pub(crate) fn waiting(&self) -> Vec<TcpStream> {
        let socket = SockRef::from(&self.listener);
        let accept = || {
            let (stream, _) = socket.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            TcpStream::from_std(stream.into()).ok()
        };
        std::iter::from_fn(accept).take(BACKLOG).collect()
    }

    /// When to try again after exhaustion.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the backlog, so that trying at once would spin.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}
