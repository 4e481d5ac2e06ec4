//! Every task runs at once.

use crate::task::schedule::scheduler::{Room, TaskScheduler};
use crate::time::Instant;

/// No task waits.
///
/// ```
/// use ringplane_core::task::schedule::{Room, TaskScheduler, UnlimitedScheduler};
/// use ringplane_core::time::Instant;
///
/// assert_eq!(UnlimitedScheduler.room(Instant::ZERO), Room::Free);
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct UnlimitedScheduler;

impl TaskScheduler for UnlimitedScheduler {
    fn room(&self, _: Instant) -> Room {
        Room::Free
    }

    fn acquire(&mut self, _: Instant) {}

    fn release(&mut self) {}

    fn is_unlimited(&self) -> bool {
        true
    }
}
