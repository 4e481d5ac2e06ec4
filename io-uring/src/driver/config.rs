//! The knobs of the driver on a ring of our own, with their defaults.

use std::time::Duration;

use ringplane_driver::config::{Common, OutOfBounds, within};

use crate::kernel::setup::{Flavor, Sizes};

/// The knobs that this driver alone has. One driver is one thread with one ring; what it shares with other drivers is in
/// [`Common`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of one receive buffer. 1 byte to 1 MiB. Default 64 KiB.
    pub recv_buffer: usize,
    /// The most receive buffers, shared by all connections of the driver: a power of two up to 32,768. It begins with
    /// 512 KiB of them, or eight, and uses twice as many whenever small messages run short of them; what is not used is not
    /// touched. Default 512.
    pub recv_buffers: u16,
    /// Size of the submission queue, 1 to 32,768. More entries than that in one turn cost an extra system call. Default 1024.
    pub entries: u32,
    /// The best way to run completions that is tried; the later ones are the fallbacks. For comparisons and for kernels
    /// that misbehave. Default [`Flavor::Deferred`].
    pub flavor: Flavor,
    /// How long to watch for completions before going to sleep, while most waits end within that time; 0: never. A wake-up
    /// costs some microseconds on bare metal and tens of them in a virtual machine, which steady traffic is spared for a
    /// core that is busy meanwhile; a thread that waits longer sleeps as ever. Up to 1 s. Default 100 µs.
    pub spin: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            recv_buffer: 64 * 1024,
            recv_buffers: 512,
            entries: 1024,
            flavor: Flavor::Deferred,
            spin: Duration::from_micros(100),
        }
    }
}

impl Config {
    /// Checks every knob against its bounds.
    ///
    /// # Errors
    /// [`OutOfBounds`] with the name of the first knob that is.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        within("io_uring.recv_buffer", self.recv_buffer, 1..=1 << 20, "1 byte to 1 MiB")?;
        if !self.recv_buffers.is_power_of_two() || self.recv_buffers > 1 << 15 {
            return Err(OutOfBounds { knob: "io_uring.recv_buffers", bounds: "a power of two up to 32,768" });
        }
        within("io_uring.entries", self.entries, 1..=1 << 15, "1 to 32,768")?;
        within("io_uring.spin", self.spin, Duration::ZERO..=Duration::from_secs(1), "up to 1 s")
    }

    /// The ring to ask for: room for the last completion of every operation a driver can have in flight (a receive, a send
    /// and a cancel per connection), for every receive buffer to be full, and for a submission queue of accepted connections.
    pub(crate) fn sizes(&self, common: &Common) -> Sizes {
        let entries = self.entries.next_power_of_two();
        let wanted = common.max_connections * 3 + usize::from(self.recv_buffers) + entries as usize * 2;
        let completions = u32::try_from(wanted.next_power_of_two()).unwrap_or(u32::MAX).min(1 << 16);
        let (buffers, buffer) = (self.recv_buffers, self.recv_buffer);
        Sizes { entries, completions, buffers, buffer, flavor: self.flavor }.within_limits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_own_bounds() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn each_knob_out_of_bounds_is_named() {
        for (knob, config) in [
            ("io_uring.recv_buffer", Config { recv_buffer: 0, ..Config::default() }),
            ("io_uring.recv_buffers", Config { recv_buffers: 12, ..Config::default() }),
            ("io_uring.entries", Config { entries: 0, ..Config::default() }),
            ("io_uring.spin", Config { spin: Duration::from_secs(2), ..Config::default() }),
        ] {
            assert_eq!(config.validate().map_err(|error| error.knob), Err(knob));
        }
    }
}
