//! A bell that wakes one driver and is silent while the driver is awake.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What ends the wait of one driver: a write to an eventfd, the waker of a task.
pub trait Wake: Send + Sync + 'static {
    /// Ends the wait the driver is in. Called from any thread, after the driver has said that it waits.
    fn wake(&self);
}

impl<W: Wake + ?Sized> Wake for Arc<W> {
    #[inline]
    fn wake(&self) {
        (**self).wake();
    }
}

/// Wakes one driver.
///
/// ```text
///   ringer  publish, then `signalled`, then look at `asleep`  -> wake only if set
///   driver  `asleep`, then look at `signalled`                -> wait only if not set
/// ```
/// Both sides write before they read, in one total order, so at least one of them sees the other.
pub struct Bell<W> {
    signalled: AtomicBool,
    asleep: AtomicBool,
    wake: W,
}

impl<W> fmt::Debug for Bell<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signalled, asleep, .. } = self;
        f.debug_struct("Bell").field("signalled", signalled).field("asleep", asleep).finish_non_exhaustive()
    }
}

impl<W: Wake> Bell<W> {
    /// A bell of a driver that is awake and that `wake` ends the wait of.
    pub const fn new(wake: W) -> Self {
        Self { signalled: AtomicBool::new(false), asleep: AtomicBool::new(false), wake }
    }

    /// Makes the driver look around. Costs a wake only if it waits.
    #[inline]
    pub fn ring(&self) {
        self.signalled.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }

    /// Whether somebody rang since [`Bell::hush`].
    #[inline]
    pub fn is_signalled(&self) -> bool {
        self.signalled.load(Ordering::SeqCst)
    }

    /// The driver is about to look around; whether somebody rang since it did so last.
    #[inline]
    pub fn hush(&self) -> bool {
        self.signalled.swap(false, Ordering::SeqCst)
    }

    /// The driver wants to wait; `false`: somebody rang, it must not.
    #[inline]
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if self.is_signalled() {
            self.wake_up();
            return false;
        }
        true
    }

    /// The driver is awake.
    #[inline]
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// What ends the driver's wait.
    pub const fn waker(&self) -> &W {
        &self.wake
    }
}

/// A bell is itself a thing to wake by, for threads that need not know what stands behind it.
impl<W: Wake> Wake for Bell<W> {
    fn wake(&self) {
        self.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use super::*;

    struct Channel(SyncSender<()>);

    impl Wake for Channel {
        fn wake(&self) {
            let _ = self.0.try_send(());
        }
    }

    fn bell() -> (Bell<Channel>, Receiver<()>) {
        let (sender, woken) = sync_channel(8);
        (Bell::new(Channel(sender)), woken)
    }

    #[test]
    fn a_bell_wakes_only_a_driver_that_waits() {
        let (bell, woken) = bell();
        bell.ring();
        assert!(woken.try_recv().is_err());
        assert!(!bell.fall_asleep(), "somebody rang before");
        assert!(bell.hush());
        assert!(bell.fall_asleep());
        bell.ring();
        bell.ring();
        assert_eq!(woken.try_iter().count(), 1, "one wake for any number of rings");
    }

    #[test]
    fn no_ring_is_lost_between_looking_around_and_falling_asleep() {
        let (bell, woken) = bell();
        let bell = Arc::new(bell);
        let ringer = bell.clone();
        let rounds = 20_000;
        let counter = Arc::new(AtomicU32::new(0));
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
                woken.recv_timeout(Duration::from_secs(10)).expect("no ring is lost");
                bell.wake_up();
            }
        }
        thread.join().unwrap();
    }
}
