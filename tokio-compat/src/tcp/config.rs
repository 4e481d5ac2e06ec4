//! The knobs of the tokio driver and the reasons why it does not start.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::time::Duration;

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
    /// Bytes of the receive buffer all connections share. Default: 64 KiB.
    pub recv_buffer: usize,
    /// Open connections and dials together. At the bound, accepting pauses (the kernel's backlog fills) and a dial ends
    /// with `NoDescriptors`. Default: 16 384.
    pub max_connections: usize,
    /// How long written bytes may stay unacknowledged before the kernel ends the connection (`TCP_USER_TIMEOUT`).
    /// Default: 15 s.
    pub user_timeout: Duration,
    /// How long a connection is silent before the kernel probes the peer; `None` turns probing off. Default: 15 s.
    pub keepalive: Option<Duration>,
    /// Time between two probes. Default: 5 s.
    pub keepalive_interval: Duration,
    /// Unanswered probes that end the connection. Default: 3.
    pub keepalive_probes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listener: None,
            cpu: None,
            mailbox: 4096,
            send_batch: 256 * 1024,
            recv_buffer: 64 * 1024,
            max_connections: 16_384,
            user_timeout: Duration::from_secs(15),
            keepalive: Some(Duration::from_secs(15)),
            keepalive_interval: Duration::from_secs(5),
            keepalive_probes: 3,
        }
    }
}

impl Config {
    /// Says which knob cannot work, if any.
    ///
    /// # Errors
    /// [`Error::Zero`] for a bound of nothing.
    pub fn validate(&self) -> Result<(), Error> {
        let bounds = [
            ("mailbox", self.mailbox),
            ("send_batch", self.send_batch),
            ("recv_buffer", self.recv_buffer),
            ("max_connections", self.max_connections),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((knob, _)) => Err(Error::Zero { knob }),
            None => Ok(()),
        }
    }
}

/// Why a driver did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A bound that lets nothing through.
    Zero {
        /// The knob of [`Config`].
        knob: &'static str,
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { knob } => write!(f, "`{knob}` must be at least 1"),
            Self::Thread(source) => write!(f, "cannot start the driver's thread: {source}"),
            Self::Affinity { cpu, source } => write!(f, "cannot stay on processor {cpu}: {source}"),
            Self::Runtime(source) => write!(f, "cannot start tokio: {source}"),
            Self::Listener(source) => write!(f, "cannot use the listener: {source}"),
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
            Self::Zero { .. } | Self::Panicked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_nothing_is_refused_by_name() {
        let config = Config { mailbox: 0, ..Config::default() };
        assert!(matches!(config.validate(), Err(Error::Zero { knob: "mailbox" })));
        assert!(Config::default().validate().is_ok());
    }
}
