//! Limits and time bounds of a worker.

use core::time::Duration;

use crate::mux;
use crate::mux::config::ConfigError;

/// What bounds a worker on one core.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Config {
    /// Calls that may run at once. Default 16 384.
    pub max_running: usize,
    /// Calls that may wait for one of those to finish; further ones are refused at once. Default 1 024.
    pub max_queued: usize,
    /// When a refused caller is advised to come back. Default 100 ms.
    pub retry_after: Duration,
    /// The longest a drain may take, running calls and farewells included. Default 30 s.
    pub drain_timeout: Duration,
    /// What bounds each connection.
    pub mux: mux::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_running: 16_384,
            max_queued: 1024,
            retry_after: Duration::from_millis(100),
            drain_timeout: Duration::from_secs(30),
            mux: mux::Config::default(),
        }
    }
}

impl Config {
    /// Whether the values can work: bounds of nothing are no bounds.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        let zeroes = [("max_running", self.max_running == 0), ("drain_timeout", self.drain_timeout.is_zero())];
        match zeroes.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => self.mux.validate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_work_and_what_is_zero_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { drain_timeout: Duration::ZERO, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Zero("drain_timeout")));
        let mux = mux::Config { max_streams: 0, ..mux::Config::default() };
        let config = Config { mux, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::MaxStreams));
    }
}
