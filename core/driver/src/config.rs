//! The knobs that all drivers share, what a driver's thread is given beside them, and the error of a knob out of bounds.

use std::fmt;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::socket::{Keepalive, Options};

/// The longest time that any of these knobs takes.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The knobs that every driver has. They hold for each thread, and for each of its connections, alone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Common {
    /// Jobs from other threads that may wait; one more is refused with `Full`. 1 to 1,048,576. Default 4096.
    pub mailbox: usize,
    /// Connections at a time, accepted and dialed, dials under way included. Beyond it an accepted one is closed at once and
    /// counted, and a dial fails with `NoDescriptors`. 1 to 1,048,576. Default 16,384.
    pub max_connections: usize,
    /// Bytes pulled from the machine for one connection before they are written, which is its share of a turn. 1 byte to
    /// 1 GiB. Default 256 KiB.
    pub send_batch: usize,
    /// Bytes the kernel takes of one connection beyond what it can send at once (`TCP_NOTSENT_LOWAT`): what lies there is
    /// ahead of whatever the machine deems more urgent. 1 byte to 1 GiB. Default 128 KiB.
    pub notsent_lowat: u32,
    /// How long sent bytes may stay unacknowledged, a peer's window closed, or, on runtimes of others, a dial unanswered,
    /// before the connection ends with `TimedOut` (`TCP_USER_TIMEOUT`). Up to a day; 0: as long as the system's own default.
    /// Default 15 s.
    pub user_timeout: Duration,
    /// The same for connections on which responses and the items of requests come home. Their reader may pause, which closes
    /// its window; how long is the machine's to judge, so this is above its `send_timeout`. Default 75 s.
    pub home_user_timeout: Duration,
    /// Probes on quiet connections; `None`: none. Default as [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// How long a connection that is closed in order waits for the peer's FIN after its own, dropping what still arrives.
    /// Closing at once would answer late bytes with a reset, which can destroy the farewell on its way. The machine has its
    /// `handle_close` before this wait; a stop of the driver waits for it. Up to a day; 0: not at all. Default 1 s.
    pub linger: Duration,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            mailbox: 4096,
            max_connections: 16_384,
            send_batch: 256 * 1024,
            notsent_lowat: 128 * 1024,
            user_timeout: Duration::from_secs(15),
            home_user_timeout: Duration::from_secs(75),
            keepalive: Some(Keepalive::default()),
            linger: Duration::from_secs(1),
        }
    }
}

impl Common {
    /// Checks every knob against its bounds.
    ///
    /// # Errors
    /// [`OutOfBounds`] with the name of the first knob that is.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        within("common.mailbox", self.mailbox, 1..=1 << 20, "1 to 1,048,576")?;
        within("common.max_connections", self.max_connections, 1..=1 << 20, "1 to 1,048,576")?;
        within("common.send_batch", self.send_batch, 1..=1 << 30, "1 byte to 1 GiB")?;
        within("common.notsent_lowat", self.notsent_lowat, 1..=1 << 30, "1 byte to 1 GiB")?;
        for (knob, time) in [
            ("common.user_timeout", self.user_timeout),
            ("common.home_user_timeout", self.home_user_timeout),
            ("common.linger", self.linger),
        ] {
            within(knob, time, Duration::ZERO..=DAY, "up to a day")?;
        }
        // Whole seconds, and what Linux takes.
        let Some(Keepalive { idle, interval, retries }) = self.keepalive else { return Ok(()) };
        for (knob, time) in [("common.keepalive.idle", idle), ("common.keepalive.interval", interval)] {
            within(knob, time, Duration::from_secs(1)..=Duration::from_secs(32_767), "1 s to 32,767 s")?;
        }
        within("common.keepalive.retries", retries, 1..=127, "1 to 127")
    }

    /// What every connection gets.
    pub const fn options(&self) -> Options {
        let Self { user_timeout, home_user_timeout, keepalive, notsent_lowat, .. } = *self;
        Options { user_timeout, home_user_timeout, keepalive, notsent_lowat }
    }
}

/// What one driver's thread is given beside its knobs.
#[derive(Default, Debug)]
pub struct Given {
    /// Where to accept connections; `None`: dial only. With several drivers give each its own listener on the same address
    /// (`SO_REUSEPORT`). The driver sets its mode, blocking or not, and the options of its connections. Default `None`.
    pub listener: Option<TcpListener>,
    /// The processor to stay on, by the system's number; `None`: wherever the scheduler puts the thread. Default `None`.
    pub cpu: Option<usize>,
}

impl Given {
    /// A place to accept connections, on whatever processor.
    pub const fn listener(listener: TcpListener) -> Self {
        Self { listener: Some(listener), cpu: None }
    }
}

/// A knob is out of its bounds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct OutOfBounds {
    /// Its name, behind that of the part of the facade's configuration that it is in: `common.linger`.
    pub knob: &'static str,
    /// What is allowed.
    pub bounds: &'static str,
}

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.knob, self.bounds)
    }
}

impl std::error::Error for OutOfBounds {}

/// Checks one knob; `bounds` is what people read.
///
/// # Errors
/// [`OutOfBounds`] if `value` is not within `range`.
pub fn within<T: PartialOrd>(
    knob: &'static str,
    value: T,
    range: RangeInclusive<T>,
    bounds: &'static str,
) -> Result<(), OutOfBounds> {
    if range.contains(&value) { Ok(()) } else { Err(OutOfBounds { knob, bounds }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_own_bounds() {
        assert_eq!(Common::default().validate(), Ok(()));
        assert_eq!(Common { keepalive: None, ..Common::default() }.validate(), Ok(()));
    }

    #[test]
    fn each_knob_out_of_bounds_is_named() {
        let long = Duration::from_secs(1 << 20);
        let keepalive = |idle, interval, retries| {
            let [idle, interval] = [idle, interval].map(Duration::from_millis);
            Common { keepalive: Some(Keepalive { idle, interval, retries }), ..Common::default() }
        };
        for (name, common) in [
            ("mailbox", Common { mailbox: 0, ..Common::default() }),
            ("max_connections", Common { max_connections: (1 << 20) + 1, ..Common::default() }),
            ("send_batch", Common { send_batch: 0, ..Common::default() }),
            ("notsent_lowat", Common { notsent_lowat: 0, ..Common::default() }),
            ("user_timeout", Common { user_timeout: long, ..Common::default() }),
            ("home_user_timeout", Common { home_user_timeout: long, ..Common::default() }),
            ("linger", Common { linger: long, ..Common::default() }),
            ("keepalive.idle", keepalive(999, 1000, 1)),
            ("keepalive.interval", keepalive(1000, 0, 1)),
            ("keepalive.retries", keepalive(1000, 1000, 0)),
        ] {
            let error = common.validate().expect_err(name);
            assert_eq!(error.knob.strip_prefix("common."), Some(name));
            assert!(error.to_string().starts_with(&format!("common.{name} must be ")), "{error}");
        }
    }
}
