//! Tokio's time as core has it.

use ringplane_core::time::Instant;

/// Time since it was made.
#[derive(Copy, Clone, Debug)]
pub(super) struct Clock(tokio::time::Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(super) fn now(self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }

    /// The same instant as tokio has it; `None` if that is too far away for it.
    pub(super) fn at(self, instant: Instant) -> Option<tokio::time::Instant> {
        self.0.checked_add(instant.since(Instant::ZERO))
    }
}
