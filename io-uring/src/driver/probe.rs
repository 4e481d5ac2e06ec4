//! Whether a default driver would start here.

use ringplane_driver::config::Common;

use crate::driver::config::Config;
use crate::error::Refusal;
use crate::kernel::probe::{Features, examine};

/// Bytes of a receive buffer of the self-test that is not a driver's own. They are as many as a driver's, which limits bear on.
const SMALL: usize = 256;

/// Tries what a driver needs, under the limits and the seccomp filter of the calling thread: sets a ring up as a default
/// driver would, runs a NOP and a multishot receive over the loopback.
///
/// # Errors
/// The reason why a driver would not start.
pub fn probe() -> Result<Features, Refusal> {
    examine(Config { recv_buffer: SMALL, ..Config::default() }.sizes(&Common::default()))
}
