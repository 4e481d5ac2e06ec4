//! Limits, windows and time bounds of a mux connection.

use core::fmt;
use core::time::Duration;

use crate::wire::checksum::Crc32c;
use crate::wire::mux::frame::{ITEM_COST, MAX_FRAGMENT};

/// What bounds a mux connection. Sizes in bytes.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Config {
    /// Credit of one stream in one direction: the most a reader that stops reading makes this side hold for its stream.
    /// Default 2 MiB.
    pub stream_window: u32,
    /// Credit of the whole connection: the most all unread items together may hold. Default 64 MiB.
    pub connection_window: u32,
    /// The largest item accepted; at most 4 GiB - 1, which is what a reservation can say. Default 64 MiB.
    pub max_item: u64,
    /// Memory for items that cost more than half the stream window, reserved before they are sent. One
    /// stream keeps at most an eighth of it unread, or one item if that is more. Default 256 MiB.
    pub reserve_pool: u64,
    /// Streams the peer may have open at once. Default 16 384.
    pub max_streams: u32,
    /// Bytes a stream queues for sending before `send` asks to wait. Default 256 KiB; one larger item is always taken
    /// when the queue is empty.
    pub send_buffer: usize,
    /// Bytes all streams of the connection queue together before `send` asks to wait. Default 32 MiB; an item larger than
    /// half of it is taken once half is free.
    pub connection_buffer: usize,
    /// From the connection being up to the peer's hello. Default 5 s.
    pub hello_timeout: Duration,
    /// Silence after which a ping goes out. Default 5 s.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection. Default 5 s.
    pub ping_timeout: Duration,
    /// The longest that bytes handed to the driver may fail to move. Default 10 s.
    pub send_timeout: Duration,
    /// The longest a frame may be under way without its end or 10 KiB more of it. Default 10 s.
    pub frame_timeout: Duration,
    /// The longest the reader of a stream that the peer opened may wait for an item, while nothing moves in either direction
    /// and pings are answered; one second more for each KiB of an item under way. Default 600 s.
    pub item_timeout: Duration,
    /// The longest an item on a stream that the peer opened may wait for the peer's credit. Default 600 s.
    pub credit_timeout: Duration,
    /// An accepted connection without streams is closed after this long. Default 600 s, twice what callers keep theirs.
    pub idle_timeout: Duration,
    /// The longest to wait for a farewell to be written. Default 1 s.
    pub flush_timeout: Duration,
    /// The CRC-32C at hand.
    pub crc: Crc32c,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream_window: 2 << 20,
            connection_window: 64 << 20,
            max_item: 64 << 20,
            reserve_pool: 256 << 20,
            max_streams: 16_384,
            send_buffer: 256 << 10,
            connection_buffer: 32 << 20,
            hello_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            send_timeout: Duration::from_secs(10),
            frame_timeout: Duration::from_secs(10),
            item_timeout: Duration::from_secs(600),
            credit_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(600),
            flush_timeout: Duration::from_secs(1),
            crc: Crc32c::PORTABLE,
        }
    }
}

/// The smallest stream window either side may ask for: one full frame.
pub(super) const MIN_WINDOW: u32 = MAX_FRAGMENT as u32 + ITEM_COST;

/// A combination of settings that cannot work.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The stream window is below one full frame.
    StreamWindow,
    /// The connection window is below the stream window.
    ConnectionWindow,
    /// The largest item does not fit the 32 bits of a reservation.
    MaxItem,
    /// The reserve pool cannot hold one item of the largest size.
    ReservePool,
    /// No stream is allowed.
    MaxStreams,
    /// The bound of this name, of a caller, a worker or a connection, must be more than zero.
    Zero(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StreamWindow => write!(f, "stream_window must be at least {MIN_WINDOW}"),
            Self::ConnectionWindow => f.write_str("connection_window must be at least stream_window"),
            Self::MaxItem => f.write_str("max_item must be below 4 GiB"),
            Self::ReservePool => f.write_str("reserve_pool must be at least max_item"),
            Self::MaxStreams => f.write_str("max_streams must be at least 1"),
            Self::Zero(name) => write!(f, "{name} must be more than 0"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub const fn validate(&self) -> Result<(), ConfigError> {
        if self.stream_window < MIN_WINDOW {
            return Err(ConfigError::StreamWindow);
        }
        if self.connection_window < self.stream_window {
            return Err(ConfigError::ConnectionWindow);
        }
        if self.max_item > u32::MAX as u64 {
            return Err(ConfigError::MaxItem);
        }
        if self.reserve_pool < self.max_item {
            return Err(ConfigError::ReservePool);
        }
        if self.max_streams == 0 {
            return Err(ConfigError::MaxStreams);
        }
        if self.frame_timeout.is_zero() {
            return Err(ConfigError::Zero("mux.frame_timeout"));
        }
        if self.item_timeout.is_zero() {
            return Err(ConfigError::Zero("mux.item_timeout"));
        }
        if self.credit_timeout.is_zero() {
            return Err(ConfigError::Zero("mux.credit_timeout"));
        }
        if self.idle_timeout.is_zero() {
            return Err(ConfigError::Zero("mux.idle_timeout"));
        }
        if self.connection_buffer == 0 {
            return Err(ConfigError::Zero("mux.connection_buffer"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together_and_contradictions_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { connection_window: 1, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::ConnectionWindow));
        let config = Config { max_item: u64::MAX, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::MaxItem));
        let config = Config { reserve_pool: 1 << 20, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::ReservePool));
    }
}
