//! So many tasks at a time.

use crate::task::schedule::scheduler::{Room, TaskScheduler};
use crate::time::Instant;

/// Lets `permits` tasks run at a time.
///
/// ```
/// use ringplane_core::task::schedule::{Room, SemaphoreScheduler, TaskScheduler};
/// use ringplane_core::time::Instant;
///
/// let mut two = SemaphoreScheduler::new(2);
/// two.acquire(Instant::ZERO);
/// two.acquire(Instant::ZERO);
/// assert_eq!(two.room(Instant::ZERO), Room::Full);
/// two.release();
/// assert_eq!(two.available_permits(), 1);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SemaphoreScheduler {
    permits: usize,
    taken: usize,
}

impl SemaphoreScheduler {
    /// At most `permits` tasks at a time; 0 counts as 1, for a task that waits for ever cannot be told from one that hangs.
    pub const fn new(permits: usize) -> Self {
        Self { permits: if permits == 0 { 1 } else { permits }, taken: 0 }
    }

    /// Permits that no task holds.
    pub const fn available_permits(&self) -> usize {
        self.permits.saturating_sub(self.taken)
    }
}

impl TaskScheduler for SemaphoreScheduler {
    fn room(&self, _: Instant) -> Room {
        if self.available_permits() > 0 { Room::Free } else { Room::Full }
    }

    fn acquire(&mut self, _: Instant) {
        self.taken = self.taken.saturating_add(1);
    }

    fn release(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    fn is_timed(&self) -> bool {
        false
    }
}
