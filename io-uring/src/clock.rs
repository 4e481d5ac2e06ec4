//! The driver's time: read from the system once per turn, and whenever somebody asks.

use std::cell::Cell;

use ringplane_core::time::Instant;

/// Monotonic time since the driver started. Whoever reads it moves everybody's `now`, so a machine never sees time run
/// backwards between a command of the application and the next word of the driver.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: std::time::Instant,
    now: Cell<Instant>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: std::time::Instant::now(), now: Cell::new(Instant::ZERO) }
    }

    /// The time as of the last [`Clock::read`].
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the system's clock.
    pub(crate) fn read(&self) -> Instant {
        let nanos = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = Instant::from_nanos(nanos);
        self.now.set(now);
        now
    }
}
