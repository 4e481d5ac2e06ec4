//! The accepting end: one multishot accept, paused while there are no descriptors.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;

use ringplane_core::buf::slab::Key;
use ringplane_core::time::Instant;
use ringplane_driver::accept::{Pause, waiting};
use socket2::{SockRef, Socket};

use crate::kernel::op::Op;
use crate::kernel::ring::Ring;

/// A listening socket of one driver.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Rc<TcpListener>,
    /// For workers that bring responses home.
    home: bool,
    armed: Option<Key>,
    pause: Pause,
    closed: bool,
}

impl Listener {
    pub(crate) fn new(socket: TcpListener, home: bool) -> Self {
        Self { socket: Rc::new(socket), home, armed: None, pause: Pause::default(), closed: false }
    }

    /// Arms the accept unless it is armed or paused beyond `now`.
    pub(crate) fn arm(&mut self, ring: &mut Ring, now: Instant) {
        if self.closed || self.armed.is_some() || self.pause.lasts(now) {
            return;
        }
        self.armed = Some(ring.push(Op::Accept { listener: self.socket.clone(), home: self.home }));
    }

    /// The accept has ended, with `error` or in order. Returns whether it pauses.
    pub(crate) fn disarmed(&mut self, error: Option<i32>, now: Instant) -> bool {
        self.armed = None;
        let failed = error.filter(|_| !self.closed).map(io::Error::from_raw_os_error);
        failed.is_some_and(|error| self.pause.failed(&error, now).is_some())
    }

    /// The connections that nobody has accepted yet, as many as there are. Closing the listener resets them.
    pub(crate) fn waiting(&self) -> Vec<Socket> {
        waiting(SockRef::from(&*self.socket))
    }

    /// Nobody is let in any more, those that wait included.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.pause = Pause::default();
        // The accept ends with it. Fails on nothing that listens.
        let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
    }

    /// A connection came in: the next pause is a short one again.
    pub(crate) fn accepted(&mut self) {
        self.pause.accepted();
    }

    /// Whether an operation still holds the socket.
    pub(crate) fn is_held(&self) -> bool {
        Rc::strong_count(&self.socket) > 1
    }

    pub(crate) const fn resume_at(&self) -> Option<Instant> {
        self.pause.until()
    }
}
