//! A driver's time: read from the system once per turn, and whenever somebody asks.

use std::cell::Cell;

use ringplane_core::time::Instant;

/// Monotonic time since the driver started. A reading moves `now` for everybody, so a machine never sees time run
/// backwards between a command of the application and the next word of the driver.
#[derive(Debug)]
pub struct Clock {
    epoch: std::time::Instant,
    now: Cell<Instant>,
}

impl Clock {
    /// A clock that stands at [`Instant::ZERO`] until it is read.
    pub fn start() -> Self {
        Self { epoch: std::time::Instant::now(), now: Cell::new(Instant::ZERO) }
    }

    /// The time as of the last [`Clock::read`].
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the system's clock.
    #[inline]
    pub fn read(&self) -> Instant {
        let nanos = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = Instant::from_nanos(nanos);
        self.now.set(now);
        now
    }

    /// When the clock was started, as the standard library has it.
    pub const fn epoch(&self) -> std::time::Instant {
        self.epoch
    }
}
