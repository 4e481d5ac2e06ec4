//! The knobs of a driver on a runtime with owned buffers.

use ringplane_driver::config::{OutOfBounds, within};

/// The knobs that the drivers on monoio and tokio-uring alone have. One driver is one thread with one runtime and one ring;
/// what it shares with other drivers is in [`Common`](ringplane_driver::config::Common).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Bytes of the receive buffer each connection keeps in flight; it grows up to 256 KiB amid a large frame. Memory is
    /// touched on first use only. 1 byte to 256 KiB. Default 16 KiB.
    pub recv_buffer: usize,
    /// Size of the submission queue, 256 to 32,768. More entries than that in one turn cost an extra system call.
    /// Default 1024.
    pub entries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { recv_buffer: 16 * 1024, entries: 1024 }
    }
}

impl Config {
    /// Checks every knob against its bounds.
    ///
    /// # Errors
    /// [`OutOfBounds`] with the name of the first knob that is.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        within("runtimes.recv_buffer", self.recv_buffer, 1..=1 << 18, "1 byte to 256 KiB")?;
        within("runtimes.entries", self.entries, 256..=1 << 15, "256 to 32,768")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_knob_out_of_bounds_is_named_and_the_defaults_are_within() {
        for (knob, config) in [
            ("runtimes.recv_buffer", Config { recv_buffer: 0, ..Config::default() }),
            ("runtimes.entries", Config { entries: 12, ..Config::default() }),
        ] {
            assert_eq!(config.validate().map_err(|error| error.knob), Err(knob));
        }
        assert_eq!(Config::default().validate(), Ok(()));
    }
}
