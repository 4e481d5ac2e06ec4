//! Which driver runs and why, and what it left behind.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use ringplane_core::local::{Env, Host, LocalTask};
use ringplane_driver::config::Given;
use ringplane_driver::handle::{Driver, Report};
use ringplane_tokio::tcp;

use crate::error::Error;
use crate::runtime::config::{Config, DriverChoice};

/// The driver that a worker or a client runs on, and why that one.
///
/// ```
/// use ringplane::{DriverChoice, DriverInfo};
///
/// let info = DriverInfo::of(DriverChoice::Tokio)?;
/// assert_eq!(info.to_string(), "tokio (as configured)");
/// // Where io_uring is refused, the reason says by what.
/// println!("{}", DriverInfo::of(DriverChoice::Auto)?);
/// # Ok::<(), ringplane::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriverInfo {
    /// Its name: `io-uring`, `tokio`, `monoio` or `tokio-uring`, never `auto`.
    pub name: &'static str,
    /// The reason, in one line for people: `the self-test passed on Linux 6.8.0`.
    pub why: String,
}

impl DriverInfo {
    /// The driver that `choice` means here, found by trying (io_uring's self-test takes some milliseconds).
    ///
    /// # Errors
    /// [`Error::IoUring`] if io_uring is required and refused, [`Error::NotBuilt`] if this build has no such driver.
    pub fn of(choice: DriverChoice) -> Result<Self, Error> {
        choose(choice).map(|(_, info)| info)
    }
}

impl fmt::Display for DriverInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.why)
    }
}

/// What the threads of a worker or a client left behind when they were stopped. All zero after a clean stop; anything else is
/// a defect of ours or of a handler that blocks, and is logged.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ringplane::Error> {
/// let left = ringplane::Client::builder().connect()?.shutdown().await;
/// assert_eq!(left, ringplane::Leftovers::default());
/// # Ok(())
/// # }
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Leftovers {
    /// Operations that the kernel has not given back; 0 on tokio.
    pub operations: usize,
    /// Connections that still exist.
    pub connections: usize,
    /// Descriptors that operations keep open.
    pub descriptors: usize,
    /// Receive buffers that such operations hold.
    pub buffers: usize,
    /// Tasks of handlers and calls that could not be dropped.
    pub tasks: usize,
}

impl Leftovers {
    /// Adds what one thread's driver left behind.
    pub(crate) fn add(&mut self, report: Report) {
        self.operations += report.ops_in_flight;
        self.connections += report.connections;
        self.descriptors += report.descriptors;
        self.buffers += report.buffers_out;
        self.tasks += report.tasks;
    }
}

/// Has a core without a thread run where its caller says.
pub(crate) type Start = Arc<dyn Fn(LocalTask) + Send + Sync>;

/// The driver of a core without a thread.
pub(crate) fn own_runtime() -> DriverInfo {
    DriverInfo { name: DriverChoice::Tokio.name(), why: "on the caller's own thread".to_owned() }
}

/// Starts a thread called `name` with the driver of that choice, for the host that `make` builds there.
pub(crate) fn start<H: Host>(
    name: &str,
    driver: DriverChoice,
    config: &Config,
    given: Given,
    make: impl FnOnce(&Env) -> Rc<H> + Send + 'static,
) -> Result<Driver<H>, Error> {
    let common = config.common;
    match driver {
        DriverChoice::IoUring => {
            ringplane_io_uring::start(name, common, config.io_uring, given, make).map_err(Error::IoUring)
        }
        #[cfg(feature = "monoio")]
        DriverChoice::Monoio => {
            ringplane_io_uring::monoio::start(name, common, config.runtimes, given, make).map_err(Error::IoUring)
        }
        #[cfg(feature = "tokio-uring")]
        DriverChoice::TokioUring => {
            ringplane_io_uring::tokio_uring::start(name, common, config.runtimes, given, make).map_err(Error::IoUring)
        }
        _ => tcp::start(name, common, config.tokio, given, make).map_err(Error::Tokio),
    }
}

/// Which driver runs, and why that one. Never [`DriverChoice::Auto`].
pub(crate) fn choose(choice: DriverChoice) -> Result<(DriverChoice, DriverInfo), Error> {
    let tokio = |why: String| (DriverChoice::Tokio, DriverInfo { name: DriverChoice::Tokio.name(), why });
    if choice == DriverChoice::Tokio {
        return Ok(tokio("as configured".to_owned()));
    }
    if !choice.is_built() {
        return Err(Error::NotBuilt(choice.name()));
    }
    match ringplane_io_uring::probe() {
        Ok(features) => {
            let (chosen, asked) = match choice {
                DriverChoice::Auto => (DriverChoice::IoUring, ""),
                asked => (asked, "as configured; "),
            };
            let why = format!("{asked}the self-test passed on Linux {}", features.kernel);
            Ok((chosen, DriverInfo { name: chosen.name(), why }))
        }
        Err(refusal) if choice != DriverChoice::Auto => Err(Error::IoUring(refusal.into())),
        Err(refusal) => {
            static ONCE: std::sync::Once = std::sync::Once::new();
            ONCE.call_once(|| tracing::warn!(%refusal, "io_uring is refused; tokio takes its place"));
            Ok(tokio(format!("io_uring is refused: {refusal}")))
        }
    }
}
