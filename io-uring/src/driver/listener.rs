//! The accepting end: one multishot accept, paused while there are no descriptors.

use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use ringplane_core::buf::slab::Key;
use ringplane_core::time::Instant;
use socket2::{SockRef, Socket};

use crate::kernel::op::Op;
use crate::kernel::ring::Ring;

/// First and longest pause after the system ran out of something; doubled in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Waiting connections that are left in order when a listener closes. The kernel's own bound is of this size.
const BACKLOG: usize = 4096;

/// A listening socket of one driver.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Rc<TcpListener>,
    /// For workers that bring responses home.
    home: bool,
    armed: Option<Key>,
    pause: Duration,
    resume_at: Option<Instant>,
    closed: bool,
}

impl Listener {
    pub(crate) fn new(socket: TcpListener, home: bool) -> Self {
        Self { socket: Rc::new(socket), home, armed: None, pause: Duration::ZERO, resume_at: None, closed: false }
    }

    /// Arms the accept unless it is armed or paused beyond `now`.
    pub(crate) fn arm(&mut self, ring: &mut Ring, now: Instant) {
        if self.closed || self.armed.is_some() || self.resume_at.is_some_and(|at| at > now) {
            return;
        }
        self.resume_at = None;
        self.armed = Some(ring.push(Op::Accept { listener: self.socket.clone(), home: self.home }));
    }

    /// The accept has ended, with `error` or in order. Returns whether it pauses.
    pub(crate) fn disarmed(&mut self, error: Option<i32>, now: Instant) -> bool {
        self.armed = None;
        let passing = [libc::ECONNABORTED, libc::EINTR, libc::EAGAIN, libc::EPROTO];
        let Some(errno) = error.filter(|errno| !self.closed && !passing.contains(errno)) else { return false };
        if self.pause.is_zero() {
            tracing::warn!(errno, "the listener pauses: out of descriptors or memory");
        }
        self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        self.resume_at = Some(now + self.pause);
        true
    }

    /// The connections that nobody has accepted yet, as many as there are. Closing the listener resets them.
    pub(crate) fn waiting(&self) -> Vec<Socket> {
        if self.socket.set_nonblocking(true).is_err() {
            return Vec::new();
        }
        let accept = || self.socket.accept().ok().map(|(stream, _)| stream.into());
        std::iter::from_fn(accept).take(BACKLOG).collect()
    }

    /// Nobody is let in any more, those that wait included.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.resume_at = None;
        // The accept ends with it. Fails on nothing that listens.
        let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
    }

    /// A connection came in: the next pause is a short one again.
    pub(crate) fn accepted(&mut self) {
        self.pause = Duration::ZERO;
    }

    /// Whether an operation still holds the socket.
    pub(crate) fn is_held(&self) -> bool {
        Rc::strong_count(&self.socket) > 1
    }

    pub(crate) const fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_start_over_after_a_success() {
        let mut listener = Listener::new(TcpListener::bind("127.0.0.1:0").unwrap(), false);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(listener.disarmed(Some(libc::EMFILE), Instant::ZERO));
            pauses.push(listener.resume_at().unwrap().as_nanos() / 1_000_000);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        listener.accepted();
        assert!(listener.disarmed(Some(libc::ENFILE), Instant::ZERO));
        assert_eq!(listener.resume_at(), Some(Instant::from_nanos(5_000_000)));
    }

    #[test]
    fn a_client_that_gave_up_pauses_nothing() {
        let mut listener = Listener::new(TcpListener::bind("127.0.0.1:0").unwrap(), false);
        assert!(!listener.disarmed(Some(libc::ECONNABORTED), Instant::ZERO));
        assert!(!listener.disarmed(None, Instant::ZERO));
        assert_eq!(listener.resume_at(), None);
    }
}
