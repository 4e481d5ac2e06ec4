//! What every ZeroMQ socket of ours is given.

use std::time::Duration;

use ringplane_core::event::zmtp;
use ringplane_core::retry::backoff;
use ringplane_core::wire::zmtp::SocketType;

/// Bounds and patience of a socket. Each has a documented default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How long a connection may take to be made. Default 5 s.
    pub connect_timeout: Duration,
    /// How long the peer may take to greet and introduce itself. Default 5 s.
    pub hello_timeout: Duration,
    /// A peer that has been quiet for so long is asked for a sign of life. Default 5 s.
    pub ping_interval: Duration,
    /// How long it may take to give one. Default 10 s.
    pub ping_timeout: Duration,
    /// How long a peer may take no byte that waits for it. Default 60 s.
    pub stall_timeout: Duration,
    /// Pauses before a lost connection is made again. Default 100 ms doubling to 5 s, with full jitter.
    pub retry: backoff::Config,
    /// Messages that wait for one peer. Default 100,000, as Dynamo's. Beyond, newer ones are dropped for that peer and counted.
    pub max_waiting: usize,
    /// Bytes that wait for one peer. Default 64 MiB.
    pub max_waiting_bytes: usize,
    /// Bytes of a message that comes. Default 32 MiB.
    pub max_message: usize,
    /// Connections accepted at a time. Default 1,024.
    pub max_peers: usize,
    /// Subscriptions of one peer. Default 1,024.
    pub max_subscriptions: usize,
    /// How long what waits may take to leave at an orderly end. Default 1 s.
    pub linger: Duration,
    /// How long a connection that nobody needs any more is still read from, for what is on its way. Default 5 s.
    pub farewell: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let retry =
            backoff::Config { base: Duration::from_millis(100), cap: Duration::from_secs(5), attempts: u32::MAX };
        Self {
            connect_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            retry,
            max_waiting: 100_000,
            max_waiting_bytes: 64 << 20,
            max_message: 32 << 20,
            max_peers: 1024,
            max_subscriptions: 1024,
            linger: Duration::from_secs(1),
            farewell: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// What a connection of such a socket is given.
    pub(super) fn connection(&self, socket: SocketType) -> zmtp::Config {
        zmtp::Config {
            max_message: self.max_message,
            hello_timeout: self.hello_timeout,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            ..zmtp::Config::new(socket)
        }
    }
}
