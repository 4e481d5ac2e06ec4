//! Which driver, how many threads, and the knobs of the machines on them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ringplane_core::wire::checksum::Crc32c;
use ringplane_core::{caller, worker};

/// Who moves the bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum DriverChoice {
    /// io_uring if its self-test passes, tokio otherwise.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// tokio.
    Tokio,
}

impl DriverChoice {
    /// Every choice with its name.
    pub const ALL: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("io-uring", Self::IoUring), ("tokio", Self::Tokio)];
}

/// A text that names no driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownDriver(pub String);

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no driver is called `{}`; there are auto, io-uring and tokio", self.0)
    }
}

impl std::error::Error for UnknownDriver {}

impl FromStr for DriverChoice {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let known = Self::ALL.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, choice)| choice).ok_or_else(|| UnknownDriver(text.to_owned()))
    }
}

/// What a worker or a client runs on. The machines' own knobs are documented where they are.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Who moves the bytes. Default [`DriverChoice::Auto`].
    pub driver: DriverChoice,
    /// Threads, one event loop each. Default 1: one core moves more than a million small calls per second.
    pub cores: usize,
    /// Pin thread `i` to processor `i` modulo their number. Default `false`.
    pub pin: bool,
    /// How long an io_uring thread watches for completions before it sleeps; trades a core for wake-up latency. Default 0.
    pub spin: Duration,
    /// Connections per thread. Default 16 384.
    pub max_connections: usize,
    /// Items that may wait between a core and a reader or handler on another thread. Default 64.
    pub bridge: usize,
    /// Knobs of the serving side.
    pub worker: worker::config::Config,
    /// Knobs of the calling side.
    pub caller: caller::config::Config,
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            driver: DriverChoice::Auto,
            cores: 1,
            pin: false,
            spin: Duration::ZERO,
            max_connections: 16_384,
            bridge: 64,
            worker: worker::config::Config::default(),
            caller: caller::config::Config::default(),
        };
        let crc = Crc32c::new(crc32c::crc32c_append);
        config.worker.mux.crc = crc;
        config.caller.mux.crc = crc;
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_name_and_unknown_ones_are_told_the_names() {
        for (name, choice) in DriverChoice::ALL {
            assert_eq!(name.parse(), Ok(choice));
        }
        let error = "uring".parse::<DriverChoice>().unwrap_err();
        assert_eq!(error.to_string(), "no driver is called `uring`; there are auto, io-uring and tokio");
    }
}
