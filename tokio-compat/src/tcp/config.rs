//! The knobs of the tokio driver and the reasons why it does not start.

use std::fmt;
use std::io;

use ringplane_driver::config::{OutOfBounds, within};
use ringplane_driver::handle::LaunchError;

/// The knob that this driver alone has; what it shares with other drivers is in
/// [`Common`](ringplane_driver::config::Common).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of the receive buffer that all connections of the thread share. 1 byte to 16 MiB. Default 64 KiB.
    pub recv_buffer: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { recv_buffer: 64 * 1024 }
    }
}

impl Config {
    /// Checks every knob against its bounds.
    ///
    /// # Errors
    /// [`OutOfBounds`] with the name of the first knob that is.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        within("tokio.recv_buffer", self.recv_buffer, 1..=1 << 24, "1 byte to 16 MiB")
    }
}

/// Why a driver did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A knob is out of its bounds.
    Config(OutOfBounds),
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

impl From<OutOfBounds> for Error {
    fn from(error: OutOfBounds) -> Self {
        Self::Config(error)
    }
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
            Self::Config(_) => f.write_str("a knob of the driver is out of its bounds"),
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
            Self::Config(error) => Some(error),
            Self::Panicked => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_out_of_bounds_is_named_and_the_defaults_are_within() {
        let config = Config { recv_buffer: 0 };
        assert_eq!(config.validate().map_err(|error| error.knob), Err("tokio.recv_buffer"));
        assert_eq!(Config::default().validate(), Ok(()));
    }
}
