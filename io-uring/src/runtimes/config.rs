//! The knobs of a driver on a runtime with owned buffers.

use std::net::TcpListener;
use std::time::Duration;

use ringplane_driver::socket::{Keepalive, Options};

use crate::error::Error;

/// How one driver behaves. One driver is one thread with one runtime and one ring.
#[derive(Debug)]
pub struct Config {
    /// Where to accept connections; `None`: dial only. The driver switches it to blocking mode. Default `None`.
    pub listener: Option<TcpListener>,
    /// The CPU to pin the thread to; `None`: wherever the scheduler puts it. Default `None`.
    pub cpu: Option<usize>,
    /// Jobs from other threads that may wait; one more is refused with `Full`. Default 4096.
    pub mailbox: usize,
    /// Bytes pulled from the machine at a time for one connection. Default 256 KiB.
    pub send_batch: usize,
    /// Bytes the kernel takes of one connection beyond what it can send at once (`TCP_NOTSENT_LOWAT`): what lies there is
    /// ahead of whatever the machine deems more urgent. Default 128 KiB.
    pub notsent_lowat: u32,
    /// Bytes of the receive buffer each connection keeps in flight; it grows up to 256 KiB amid a large frame. Memory is
    /// touched on first use only. Default 16 KiB.
    pub recv_buffer: usize,
    /// Connections at a time, accepted and dialed. Beyond it an accepted one is closed at once and counted, a dial
    /// fails with `NoDescriptors`. Default 16,384.
    pub max_connections: usize,
    /// Size of the submission queue; the runtimes take at least 256. More entries than that in one turn cost an extra
    /// system call. Default 1024.
    pub entries: u32,
    /// How long sent bytes may stay unacknowledged, a peer's window closed, or a dial unanswered, before the connection
    /// ends with `TimedOut` (`TCP_USER_TIMEOUT`). Default 15 s.
    pub user_timeout: Duration,
    /// The same for connections on which responses and the items of requests come home. Their reader may pause, which closes
    /// its window; how long is the machine's to judge, so this is above its `send_timeout`. Default 75 s.
    pub home_user_timeout: Duration,
    /// Probes on quiet connections; `None`: none. Default as [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// How long a connection closed with `Flush` waits for the peer's FIN after its own, dropping what still arrives.
    /// The machine has its `handle_close` before this wait; a stop of the driver waits for it. Default 1 s.
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
            recv_buffer: 16 * 1024,
            max_connections: 16_384,
            entries: 1024,
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
        if !(1..=1 << 18).contains(&self.recv_buffer) {
            return bad("recv_buffer", "1 byte to 256 KiB");
        }
        if !(1..=1 << 20).contains(&self.max_connections) {
            return bad("max_connections", "1 to 1,048,576");
        }
        if !(256..=1 << 15).contains(&self.entries) {
            return bad("entries", "256 to 32,768");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_out_of_bounds_is_named_and_the_defaults_are_within() {
        let config = Config { entries: 12, ..Config::default() };
        assert_eq!(config.check().unwrap_err().to_string(), "entries is out of bounds: 256 to 32,768");
        assert_eq!(Config::default().check(), Ok(()));
    }
}
