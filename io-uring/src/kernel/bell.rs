//! How a ring hears that another thread rang: an eventfd it polls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ringplane_driver::bell::Wake;
use rustix::event::{EventfdFlags, eventfd};

/// The bell of a driver on a ring.
pub(crate) type Bell = ringplane_driver::bell::Bell<Doorbell>;

/// Readable once it has been rung.
#[derive(Debug)]
pub(crate) struct Doorbell(OwnedFd);

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Takes a ring back; `false`: there is none. A driver that polls for edges need not.
    #[cfg(any(test, feature = "monoio", feature = "tokio-uring"))]
    pub(crate) fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl Wake for Doorbell {
    fn wake(&self) {
        // The only failure is a counter at its maximum, in centuries.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_there_once_and_only_if_the_driver_waits() {
        let bell = Bell::new(Doorbell::new().unwrap());
        bell.ring();
        assert!(!bell.waker().take());
        assert!(bell.hush() && bell.fall_asleep());
        bell.ring();
        bell.ring();
        assert!(bell.waker().take() && !bell.waker().take());
    }
}
