//! Accepting connections, and patience when descriptors run out.

use std::task::{Context, Poll};

use ringplane_core::time::Instant;
use ringplane_driver::accept::{Pause, waiting};
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};

/// A listener that waits when the operating system is out of something, longer each time.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: TcpListener,
    pause: Pause,
}

/// What came of a try to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// A connection that was gone before it was taken, or a network error that concerns it alone. Try again.
    Lost,
    /// Out of descriptors or memory: nothing until [`Acceptor::not_before`].
    Exhausted,
    /// None for now; the waker will tell.
    None,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, pause: Pause::default() }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Accepted {
        if self.pause.lasts(now) {
            return Accepted::None;
        }
        match self.listener.poll_accept(cx) {
            Poll::Pending => Accepted::None,
            Poll::Ready(Ok((stream, _))) => {
                self.pause.accepted();
                Accepted::Stream(stream)
            }
            Poll::Ready(Err(error)) => match self.pause.failed(&error, now) {
                Some(_) => Accepted::Exhausted,
                None => Accepted::Lost,
            },
        }
    }

    /// The connections that nobody has accepted yet, as many as there are. Closing the listener resets them.
    pub(crate) fn waiting(&self) -> Vec<TcpStream> {
        let own = |socket: Socket| {
            socket.set_nonblocking(true).ok()?;
            TcpStream::from_std(socket.into()).ok()
        };
        waiting(SockRef::from(&self.listener)).into_iter().filter_map(own).collect()
    }

    /// When to try again after exhaustion.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.pause.until()
    }
}
