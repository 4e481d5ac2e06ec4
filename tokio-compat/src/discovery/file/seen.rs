//! What is known of one file: whose it is, what it says, and whether its owner lives.

use std::time::{Duration, Instant, SystemTime};

use ringplane_core::discovery::kind::Kind;

use crate::discovery::file::store::Stamp;

/// A file as of the last look.
///
/// The file's time is wall-clock time, which may be set. So it is believed only when it changes; from then on the
/// monotonic clock counts. After a step of the clock a record may be hidden until its next touch, but a file is only
/// deleted after it has been watched for a whole time to live without a touch.
#[derive(Debug)]
pub(super) struct Seen<R: Kind> {
    /// `None` for an unfinished file.
    pub(super) key: Option<R::Key>,
    pub(super) stamp: Stamp,
    /// The last record that could be read.
    pub(super) record: Option<R>,
    pub(super) listed: bool,
    /// A file of this process, which lives as long as we say.
    pub(super) ours: bool,
    lives_until: Instant,
    unchanged_since: Instant,
}

/// Both clocks at one moment.
#[derive(Copy, Clone, Debug)]
pub(super) struct Moment {
    pub(super) steady: Instant,
    pub(super) wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }
}

impl<R: Kind> Seen<R> {
    pub(super) fn new(key: Option<R::Key>, stamp: Stamp, now: Moment, ttl: Duration) -> Self {
        let mut seen = Self {
            key,
            stamp,
            record: None,
            listed: false,
            ours: false,
            lives_until: now.steady,
            unchanged_since: now.steady,
        };
        seen.restamp(stamp, now, ttl);
        seen
    }

    /// Takes a look into account. `true` if the content is another.
    pub(super) fn look(&mut self, stamp: Stamp, now: Moment, ttl: Duration) -> bool {
        let replaced = self.stamp.content != stamp.content;
        if self.stamp != stamp {
            self.restamp(stamp, now, ttl);
        }
        replaced
    }

    /// Whether the owner has touched the file in time.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now < self.lives_until
    }

    /// When a listed file of another process dies without another touch.
    pub(super) fn expires(&self) -> Option<Instant> {
        (self.listed && !self.ours).then_some(self.lives_until)
    }

    /// Whether nobody has touched the file for so long that it may be deleted.
    pub(super) fn is_abandoned(&self, now: Instant, ttl: Duration) -> bool {
        !self.is_alive(now) && now.duration_since(self.unchanged_since) >= ttl
    }

    fn restamp(&mut self, stamp: Stamp, now: Moment, ttl: Duration) {
        // A time in the future is one of a clock that was set back since: as good as now.
        let age = now.wall.duration_since(stamp.touched).unwrap_or_default();
        self.stamp = stamp;
        self.lives_until = now.steady + ttl.saturating_sub(age);
        self.unchanged_since = now.steady;
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::discovery::instance::Instance;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn start() -> (Moment, Stamp) {
        let now = Moment::now();
        (now, Stamp { content: (1, 1), touched: now.wall })
    }

    fn later(now: Moment, steady: u64, wall: i64) -> Moment {
        let seconds = Duration::from_secs(wall.unsigned_abs());
        let wall = if wall < 0 { now.wall - seconds } else { now.wall + seconds };
        Moment { steady: now.steady + Duration::from_secs(steady), wall }
    }

    #[test]
    fn a_file_dies_ten_seconds_after_its_last_touch_however_late_that_was_noticed() {
        let (now, stamp) = start();
        let mut seen = Seen::<Instance>::new(None, stamp, now, TTL);
        let touched = Stamp { touched: now.wall + Duration::from_secs(6), ..stamp };
        seen.look(touched, later(now, 9, 9), TTL);
        assert!(seen.is_alive(later(now, 15, 15).steady));
        assert!(!seen.is_alive(later(now, 16, 16).steady));
    }

    #[test]
    fn a_leftover_is_dead_at_first_sight_and_deleted_only_after_being_watched() {
        let (now, stamp) = start();
        let old = Stamp { touched: now.wall - Duration::from_secs(60), ..stamp };
        let seen = Seen::<Instance>::new(None, old, now, TTL);
        assert!(!seen.is_alive(now.steady) && !seen.is_abandoned(now.steady, TTL));
        assert!(seen.is_abandoned(later(now, 10, 10).steady, TTL));
    }

    #[test]
    fn a_clock_that_is_set_kills_nobody_who_goes_on_touching() {
        for step in [-3600, 3600] {
            let (now, stamp) = start();
            let mut seen = Seen::<Instance>::new(None, stamp, now, TTL);
            for second in (1..60).step_by(3) {
                let touch = later(now, second, step + second as i64);
                seen.look(Stamp { touched: touch.wall, ..stamp }, touch, TTL);
                assert!(seen.is_alive(touch.steady + Duration::from_secs(3)));
            }
        }
    }
}
