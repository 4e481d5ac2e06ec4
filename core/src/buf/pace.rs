//! How slowly a frame may come.

use core::time::Duration;

use crate::time::Instant;

/// Bytes by which a frame that is not whole must grow within its bound: 1 KiB a second with the usual 10 s. Less than anybody
/// sends who means it, and enough that a frame of any size costs its sender something.
pub(crate) const LEAST: u32 = 10 << 10;

/// Watches one frame at a time.
///
/// ```text
///  Resting ──grow()──▶ Watching ──LEAST bytes more, another frame──▶ Watching, the bound anew
///     ▲──────rest()────────┘ └──the bound passes──▶ the owner ends the connection
/// ```
#[derive(Debug)]
pub(crate) struct Pace {
    /// [`Instant::FAR`] while no frame is under way.
    until: Instant,
    gained: u32,
    /// Its owner's number of the frame.
    frame: u32,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { until: Instant::FAR, gained: 0, frame: 0 }
    }

    /// No frame is under way, or nothing can be expected of its sender.
    pub(crate) const fn rest(&mut self) {
        self.until = Instant::FAR;
    }

    /// The frame of this number is under way and has grown by `bytes`. One that was not watched so far begins.
    pub(crate) fn grow(&mut self, frame: u32, bytes: usize, bound: Duration, now: Instant) {
        self.gained = self.gained.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.until == Instant::FAR || self.frame != frame || self.gained >= LEAST {
            *self = Self { until: now + bound, gained: 0, frame };
        }
    }

    /// When the frame has come too slowly; [`Instant::FAR`] if none is under way.
    pub(crate) const fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_frame_that_grows_by_a_kibibyte_a_second_goes_on_and_a_slower_one_does_not() {
        const BOUND: Duration = Duration::from_secs(10);
        let mut pace = Pace::new();
        assert_eq!(pace.until(), Instant::FAR);
        pace.grow(7, 1, BOUND, after(0));
        for second in 1..=20 {
            pace.grow(7, 1 << 10, BOUND, after(second));
        }
        assert_eq!(pace.until(), after(30));
        for second in 21..30 {
            pace.grow(7, 1000, BOUND, after(second));
        }
        assert_eq!(pace.until(), after(30));
        pace.grow(8, 1, BOUND, after(29));
        assert_eq!(pace.until(), after(39), "the next frame");
        pace.rest();
        assert_eq!(pace.until(), Instant::FAR);
    }
}
