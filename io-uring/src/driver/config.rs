//! The knobs of one driver, with their defaults.

use std::net::TcpListener;
use std::time::Duration;

use ringplane_driver::socket::{Keepalive, Options};

use crate::error::Error;
use crate::kernel::setup::{Flavor, Sizes};

/// How one driver behaves. One driver is one thread with one ring.
#[derive(Debug)]
pub struct Config {
    /// Where to accept connections; `None`: dial only. With several drivers give each its own listener on the same
    /// address (`SO_REUSEPORT`). The driver switches it to blocking mode, which is what io_uring wants.
    pub listener: Option<TcpListener>,
    /// The CPU to pin the thread to; `None`: wherever the scheduler puts it. Default `None`.
    pub cpu: Option<usize>,
    /// Jobs from other threads that may wait; one more is refused with `Full`. Default 4096.
    pub mailbox: usize,
    /// Bytes pulled from the machine for one write of one connection. Default 256 KiB.
    pub send_batch: usize,
    /// Bytes the kernel takes of one connection beyond what it can send at once (`TCP_NOTSENT_LOWAT`): what lies there is
    /// ahead of whatever the machine deems more urgent. Default 128 KiB.
    pub notsent_lowat: u32,
    /// Bytes of one receive buffer. Default 64 KiB.
    pub recv_buffer: usize,
    /// The most receive buffers, shared by all connections of the driver: a power of two up to 32,768. It begins with
    /// 512 KiB of them, or eight, and uses twice as many whenever small messages run short of them; what is not used is not
    /// touched. Default 512.
    pub recv_buffers: u16,
    /// Connections at a time, accepted and dialed. Beyond it an accepted one is closed at once and counted, a dial
    /// fails with `NoDescriptors`. Default 16,384.
    pub max_connections: usize,
    /// Size of the submission queue. More entries than that in one turn cost an extra system call. Default 1024.
    pub entries: u32,
    /// The best way to run completions that is tried; the later ones are the fallbacks. For comparisons and for kernels
    /// that misbehave. Default [`Flavor::Deferred`].
    pub flavor: Flavor,
    /// How long to watch for completions before going to sleep, while most waits end within that time; 0: never. A wake-up
    /// costs some microseconds on bare metal and tens of them in a virtual machine, which steady traffic is spared for a
    /// core that is busy meanwhile; a thread that waits longer sleeps as ever. Default 100 µs.
    pub spin: Duration,
    /// How long sent bytes may stay unacknowledged, and a peer's window closed, before the connection ends with
    /// `TimedOut` (`TCP_USER_TIMEOUT`). Default 15 s.
    pub user_timeout: Duration,
    /// The same for connections on which responses and the items of requests come home. Their reader may pause, which closes
    /// its window; how long is the machine's to judge, so this is above its `send_timeout`. Default 75 s.
    pub home_user_timeout: Duration,
    /// Probes on quiet connections; `None`: none. Default as [`Keepalive::default`].
    pub keepalive: Option<Keepalive>,
    /// How long a connection closed with `Flush` waits for the peer's FIN after its own, dropping what still arrives.
    /// Closing at once would answer late bytes with a reset, which can destroy the farewell on its way. The machine
    /// has its `handle_close` before this wait; a stop of the driver waits for it. Default 1 s.
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
            recv_buffers: 512,
            max_connections: 16_384,
            entries: 1024,
            flavor: Flavor::Deferred,
            spin: Duration::from_micros(100),
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
        if !(1..=1 << 20).contains(&self.recv_buffer) {
            return bad("recv_buffer", "1 byte to 1 MiB");
        }
        if !self.recv_buffers.is_power_of_two() || self.recv_buffers > 1 << 15 {
            return bad("recv_buffers", "a power of two up to 32,768");
        }
        if !(1..=1 << 20).contains(&self.max_connections) {
            return bad("max_connections", "1 to 1,048,576");
        }
        if !(1..=1 << 15).contains(&self.entries) {
            return bad("entries", "1 to 32,768");
        }
        if self.user_timeout.max(self.home_user_timeout) > Duration::from_secs(24 * 3600) {
            return bad("user_timeout, home_user_timeout", "up to a day");
        }
        Ok(())
    }

    /// The ring to ask for: room for the last completion of every operation a driver can have in flight (a receive, a send
    /// and a cancel per connection), for every receive buffer to be full, and for a submission queue of accepted connections.
    pub(crate) fn sizes(&self) -> Sizes {
        let entries = self.entries.next_power_of_two();
        let wanted = self.max_connections * 3 + usize::from(self.recv_buffers) + entries as usize * 2;
        let completions = u32::try_from(wanted.next_power_of_two()).unwrap_or(u32::MAX).min(1 << 16);
        let (buffers, buffer) = (self.recv_buffers, self.recv_buffer);
        Sizes { entries, completions, buffers, buffer, flavor: self.flavor }.within_limits()
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
    fn the_defaults_are_within_their_own_bounds() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_knob_out_of_bounds_is_named() {
        let config = Config { recv_buffers: 12, ..Config::default() };
        let error = config.check().unwrap_err();
        assert_eq!(error.to_string(), "recv_buffers is out of bounds: a power of two up to 32,768");
    }
}
