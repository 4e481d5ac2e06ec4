//! What is known of one file: whose it is, what it says, and whether its owner lives.

use std::time::{Duration, Instant, SystemTime};

use ringplane_core::discovery::kind::Kind;

use crate::discovery::file::store::Stamp;

/// The coarsest clock of a file system that counts: a file that changes twice within that time may look the same.
const GRANULE: Duration = Duration::from_secs(2);

/// A file as of the last look.
///
/// The file's time is wall-clock time, which may be set. So it is believed only when it changes; from then on the
/// monotonic clock counts. After a step of the clock a record may be hidden until its next touch, but a file is only
/// deleted after it has been watched for a whole time to live without a touch.
///
/// What it says is read again whenever anything about it has changed, for a touch and another content look the same from
/// outside, and once more when its file system's clock must have gone on since: numbers of files are used again, and two
/// changes within a tick of the clock have one time.
#[derive(Debug)]
pub(super) struct Seen<R: Kind> {
    /// `None` for an unfinished file.
    pub(super) key: Option<R::Key>,
    pub(super) stamp: Stamp,
    /// The last record that could be read.
    pub(super) record: Option<R>,
    /// Whether that is what it says now.
    pub(super) usable: bool,
    pub(super) listed: bool,
    /// A file of this process, which lives as long as we say.
    pub(super) ours: bool,
    /// What it said when it was last read, and when that was.
    digest: Option<u64>,
    read: Option<Instant>,
    stamped: Instant,
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
            usable: false,
            listed: false,
            ours: false,
            digest: None,
            read: None,
            stamped: now.steady,
            lives_until: now.steady,
            unchanged_since: now.steady,
        };
        seen.restamp(now, ttl);
        seen
    }

    /// Takes a look into account.
    pub(super) fn look(&mut self, stamp: Stamp, now: Moment, ttl: Duration) {
        if self.stamp == stamp {
            return;
        }
        let touch = |stamp: &Stamp| (stamp.file, stamp.bytes, stamp.touched);
        let touched = touch(&self.stamp) != touch(&stamp);
        (self.stamp, self.stamped) = (stamp, now.steady);
        if touched {
            self.restamp(now, ttl);
        }
    }

    /// Whether it may say something else than when it was last read.
    pub(super) fn is_doubtful(&self) -> bool {
        self.read.is_none_or(|at| at < self.stamped + GRANULE)
    }

    /// Takes into account what it says. `true` if that is something else than before.
    pub(super) fn read(&mut self, digest: u64, now: Instant) -> bool {
        self.read = Some(now);
        self.digest.replace(digest) != Some(digest)
    }

    /// Takes into account that it cannot be read, however often.
    pub(super) fn pass(&mut self, now: Instant) {
        (self.read, self.digest) = (Some(now), None);
    }

    /// What was read may be of another file.
    pub(super) fn recheck(&mut self) {
        self.read = None;
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

    fn restamp(&mut self, now: Moment, ttl: Duration) {
        // A time in the future is one of a clock that was set back since: as good as now.
        let age = now.wall.duration_since(self.stamp.touched).unwrap_or_default();
        self.lives_until = now.steady + ttl.saturating_sub(age);
        self.unchanged_since = now.steady;
    }
}

#[cfg(test)]
mod tests {
    use ringplane_core::discovery::instance::Instance;

    use super::*;
    use crate::discovery::file::store::FileId;

    const TTL: Duration = Duration::from_secs(10);

    fn start() -> (Moment, Stamp) {
        let now = Moment::now();
        let file = FileId { device: 1, inode: 1 };
        (now, Stamp { file, bytes: 1, changed: (0, 0), touched: now.wall })
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

    #[test]
    fn a_file_is_read_again_when_anything_about_it_changes_and_once_more_when_the_clock_has_gone_on() {
        let (now, stamp) = start();
        let mut seen = Seen::<Instance>::new(None, stamp, now, TTL);
        assert!(seen.is_doubtful());
        assert!(seen.read(7, now.steady), "the first content is news");
        assert!(seen.is_doubtful(), "another file of this number may have come within a tick of the clock");
        let settled = later(now, 2, 2);
        assert!(!seen.read(7, settled.steady), "the same content is none");
        assert!(!seen.is_doubtful());
        // The same number, length and touch: only what nobody can set tells it from the one before.
        seen.look(Stamp { changed: (0, 1), ..stamp }, later(now, 3, 3), TTL);
        assert!(seen.is_doubtful());
        assert!(!seen.is_alive(later(now, 10, 10).steady), "it is no sign of life");
        assert!(seen.read(8, later(now, 3, 3).steady));
    }
}
