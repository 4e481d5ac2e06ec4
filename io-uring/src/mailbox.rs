//! How other threads reach a driver: a bounded queue of jobs and a doorbell that is silent while the driver is awake.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use ringplane_core::local::Env;
use rustix::event::{EventfdFlags, eventfd};

use crate::error::SubmitError;

/// Wakes one driver.
///
/// ```text
///   ringer  publish, then `signalled`, then look at `asleep`  -> write the eventfd only if set
///   driver  `asleep`, then look at `signalled`                -> sleep only if not set
/// ```
/// Both sides write before they read, in one total order, so at least one of them sees the other.
#[derive(Debug)]
pub(crate) struct Bell {
    signalled: AtomicBool,
    asleep: AtomicBool,
    fd: OwnedFd,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { signalled: AtomicBool::new(false), asleep: AtomicBool::new(false), fd })
    }

    /// Makes the driver look around. Costs a system call only if it sleeps.
    pub(crate) fn ring(&self) {
        self.signalled.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            // The driver polls for edges and never reads. The only failure is a counter at its maximum, in centuries.
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Whether somebody rang since [`Bell::hush`].
    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::SeqCst)
    }

    /// The driver is about to look around.
    pub(crate) fn hush(&self) -> bool {
        self.signalled.swap(false, Ordering::SeqCst)
    }

    /// The driver wants to sleep; `false`: somebody rang, it must not.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.is_signalled() {
            self.wake_up();
            return false;
        }
        true
    }

    /// The driver is awake.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What other threads submit.
pub(crate) type Job<H> = Box<dyn FnOnce(&Rc<H>, &Env) + Send>;

/// The sending half of a driver's mailbox.
pub(crate) struct Outbox<H> {
    sender: SyncSender<Job<H>>,
    bell: Arc<Bell>,
}

impl<H> Clone for Outbox<H> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<H> fmt::Debug for Outbox<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl<H> Outbox<H> {
    pub(crate) fn submit(&self, job: Job<H>) -> Result<(), SubmitError> {
        self.sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Full,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })?;
        self.bell.ring();
        Ok(())
    }
}

/// A mailbox for `size` jobs: the sending half, the receiving half.
pub(crate) fn mailbox<H>(size: usize, bell: Arc<Bell>) -> (Outbox<H>, Receiver<Job<H>>) {
    let (sender, receiver) = sync_channel(size);
    (Outbox { sender, bell }, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(bell: &Bell) -> bool {
        rustix::io::read(&bell.fd, &mut [0; 8]).is_ok()
    }

    #[test]
    fn a_bell_makes_a_system_call_only_for_a_sleeping_driver() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(!rings(&bell));
        assert!(!bell.fall_asleep(), "somebody rang before");
        assert!(bell.hush());
        assert!(bell.fall_asleep());
        bell.ring();
        bell.ring();
        assert!(rings(&bell) && !rings(&bell), "one call for any number of rings");
    }

    #[test]
    fn no_ring_is_lost_between_looking_around_and_falling_asleep() {
        let bell = Arc::new(Bell::new().unwrap());
        let ringer = bell.clone();
        let rounds = 20_000;
        let counter = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let published = counter.clone();
        let thread = std::thread::spawn(move || {
            for _ in 0..rounds {
                published.fetch_add(1, Ordering::Relaxed);
                ringer.ring();
            }
        });
        let mut seen = 0;
        while seen < rounds {
            if bell.hush() {
                seen = counter.load(Ordering::Relaxed);
            } else if bell.fall_asleep() {
                let mut polled = [rustix::event::PollFd::new(&bell.fd, rustix::event::PollFlags::IN)];
                let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
                assert_eq!(rustix::event::poll(&mut polled, Some(&limit)), Ok(1), "a lost ring");
                assert!(rings(&bell));
                bell.wake_up();
            }
        }
        thread.join().unwrap();
    }
}
