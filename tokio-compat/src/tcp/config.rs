//! The knobs of the tokio driver and the reasons why it does not start.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use ringplane_driver::handle::LaunchError;
use ringplane_driver::socket::{Keepalive, Options};

/// What one driver thread is given.
#[derive(Debug)]
pub struct Config {
    /// Where to accept connections; none for a driver that only dials. Default: none.
    pub listener: Option<TcpListener>,
    /// The processor to stay on. Default: any.
    pub cpu: Option<usize>,
    /// Jobs that may wait for the thread; one more is refused with `Full`. Default: 4096.
    pub mailbox: usize,
    /// Bytes pulled from the machine for one connection before they are written. Default: 256 KiB.
    pub send_batch: usize,
    /// Bytes the kernel takes of one connection beyond what it can send at once (`TCP_NOTSENT_LOWAT`): what lies there is
    /// ahead of whatever the machine deems more urgent. Default: 128 KiB.
    pub notsent_lowat: u32,
    /// Bytes of the receive buffer all connections share. Default: 64 KiB.
    pub recv_buffer: usize,
    /// Open connections and dials together. Beyond it an accepted one is closed at once and counted, a dial ends with
    /// `NoDescriptors`. Default: 16 384.
    pub max_connections: usize,
    /// How long written bytes may stay unacknowledged before the kernel ends the connection (`TCP_USER_TIMEOUT`).
    /// Default: 15 s.
    pub user_timeout: Duration,
    /// The same for connections on which responses and the items of requests come home. Their reader may pause, which closes
    /// its window; how long is the machine's to judge, so this is above its `send_timeout`. Default: 75 s.
    pub home_user_timeout: Duration,
    /// Probes on quiet connections; `None`: none. Default as [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// How long a connection closed with `Flush` waits for the peer's FIN after its own, dropping what still arrives.
    /// Closing at once would answer late bytes with a reset, which can destroy the farewell on its way. The machine has
    /// its `handle_close` before this wait; a stop of the driver waits for it. Default: 1 s.
    pub linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listener: None,
            cpu: None,
            mailbox: 4096,
            send_batch: 256 * 1024,
            notsent_lowat: 128 * 1024,
            recv_buffer: 64 * 1024,
            max_connections: 16_384,
            user_timeout: Duration::from_secs(15),
            home_user_timeout: Duration::from_secs(75),
            keepalive: Some(Keepalive::default()),
            linger: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// Checks every knob against its bounds.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the first knob that is out of bounds.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |knob, bounds| Err(Error::Config { knob, bounds });
        if !(1..=1 << 20).contains(&self.mailbox) {
            return bad("mailbox", "1 to 1,048,576");
        }
        if !(1..=1 << 30).contains(&self.send_batch) {
            return bad("send_batch", "1 byte to 1 GiB");
        }
        if !(1..=1 << 30).contains(&self.notsent_lowat) {
            return bad("notsent_lowat", "1 byte to 1 GiB");
        }
        if !(1..=1 << 24).contains(&self.recv_buffer) {
            return bad("recv_buffer", "1 byte to 16 MiB");
        }
        if !(1..=1 << 20).contains(&self.max_connections) {
            return bad("max_connections", "1 to 1,048,576");
        }
        if self.user_timeout.max(self.home_user_timeout) > Duration::from_secs(24 * 3600) {
            return bad("user_timeout, home_user_timeout", "up to a day");
        }
        Ok(())
    }

    /// What every connection gets.
    pub(crate) const fn options(&self) -> Options {
        let Self { user_timeout, home_user_timeout, keepalive, notsent_lowat, .. } = *self;
        Options { user_timeout, home_user_timeout, keepalive, notsent_lowat }
    }
}

/// Why a driver did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A knob is out of its bounds.
    Config {
        /// Its name.
        knob: &'static str,
        /// What is allowed.
        bounds: &'static str,
    },
    /// The thread could not be started.
    Thread(io::Error),
    /// The thread could not be put on its processor.
    Affinity {
        /// The processor asked for.
        cpu: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// tokio could not be started.
    Runtime(io::Error),
    /// The listener could not be used.
    Listener(io::Error),
    /// The host's constructor panicked.
    Panicked,
}

impl From<LaunchError<Self>> for Error {
    fn from(error: LaunchError<Self>) -> Self {
        match error {
            LaunchError::Thread(source) => Self::Thread(source),
            LaunchError::Refused(error) => error,
            LaunchError::Panicked => Self::Panicked,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { knob, bounds } => write!(f, "{knob} is out of bounds: {bounds}"),
            Self::Thread(_) => f.write_str("cannot start the driver's thread"),
            Self::Affinity { cpu, .. } => write!(f, "cannot stay on processor {cpu}"),
            Self::Runtime(_) => f.write_str("cannot start tokio"),
            Self::Listener(_) => f.write_str("cannot use the listener"),
            Self::Panicked => f.write_str("the host's constructor panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Thread(source) | Self::Affinity { source, .. } | Self::Runtime(source) | Self::Listener(source) => {
                Some(source)
            }
            Self::Config { .. } | Self::Panicked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_out_of_bounds_is_named_and_the_defaults_are_within() {
        let config = Config { mailbox: 0, ..Config::default() };
        assert!(matches!(config.check(), Err(Error::Config { knob: "mailbox", .. })));
        assert!(Config::default().check().is_ok());
    }
}
