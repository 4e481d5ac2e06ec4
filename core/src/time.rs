//! Points in time, deadlines, and the list of everything that can happen by itself.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A point in time: nanoseconds since an epoch the driver chose. Machines compare instants, they never read a clock.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The driver's epoch.
    pub const ZERO: Self = Self(0);
    /// Later than every instant a driver can report.
    pub const FAR: Self = Self(u64::MAX);

    /// `nanos` nanoseconds after the driver's epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the driver's epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::FAR`].
    fn add(self, rhs: Duration) -> Self {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// When a machine wants to be woken, and why.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// Call `handle_timeout` at this instant or as soon after as possible.
    pub at: Instant,
    /// What will happen then.
    pub why: Reason,
}

impl Deadline {
    /// The earlier of two optional deadlines.
    pub fn soonest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// Everything that can happen by itself, in one list.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// A dial has not succeeded in time.
    Connect,
    /// A connection has been made but the peer has not introduced itself in time.
    Hello,
    /// A request has been written but the worker has not accepted, queued or rejected it in time.
    Accept,
    /// A call has seen no item and no sign of progress for its idle bound, at the caller or at the worker.
    ItemGap,
    /// A call's own deadline has passed, at the caller or at the worker.
    CallDeadline,
    /// A call, or an item of a publisher, waits to be tried again.
    Retry,
    /// A call waits for an instance to appear.
    NoInstance,
    /// A quiet connection is due for a ping.
    Ping,
    /// A ping has not been answered in time.
    Pong,
    /// Bytes handed to the driver have not moved in time.
    SendStall,
    /// A connection without calls has been idle for its bound.
    Idle,
    /// A draining connection or worker has reached its bound.
    Drain,
    /// A call whose every instance is marked down tries one again.
    DownMark,
    /// A lease or a report that calls wait for at full instances is over: there may be a place.
    Place,
    /// A frame has come too slowly.
    RequestFrame,
    /// A worker that could not dial home tries again.
    Redial,
    /// A worker has taken a call and not brought its response home in time.
    Response,
    /// A caller has not closed its call-home connection in time after the end.
    CallHomeFin,
    /// A call has waited at the worker, or for a free place anywhere, for as long as one may.
    QueueWait,
    /// A registry has not answered in time, is due to be asked again, or has had its grace.
    Registry,
    /// A publisher of events has not sent what was missed in time, or is due to be asked whether anything was.
    Replay,
    /// An endpoint has answered nobody for a while and is due for a canary, or one has not been answered in time.
    Canary,
}

impl Reason {
    /// Every reason once.
    pub const ALL: [Self; 22] = [
        Self::Connect,
        Self::Hello,
        Self::Accept,
        Self::ItemGap,
        Self::CallDeadline,
        Self::Retry,
        Self::NoInstance,
        Self::Ping,
        Self::Pong,
        Self::SendStall,
        Self::Idle,
        Self::Drain,
        Self::DownMark,
        Self::Place,
        Self::RequestFrame,
        Self::Redial,
        Self::Response,
        Self::CallHomeFin,
        Self::QueueWait,
        Self::Registry,
        Self::Replay,
        Self::Canary,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soonest_prefers_the_earlier_and_survives_absence() {
        let early = Deadline { at: Instant::from_nanos(1), why: Reason::Ping };
        let late = Deadline { at: Instant::from_nanos(2), why: Reason::Pong };
        assert_eq!(Deadline::soonest(Some(late), Some(early)), Some(early));
        assert_eq!(Deadline::soonest(None, Some(late)), Some(late));
        assert_eq!(Deadline::soonest(None, None), None);
    }

    #[test]
    fn adding_a_duration_saturates_instead_of_wrapping() {
        assert_eq!(Instant::from_nanos(5) + Duration::MAX, Instant::FAR);
    }
}
