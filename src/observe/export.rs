//! How a process begins to send its spans.

use ringplane_tokio::observe::otlp::Config;
use ringplane_tokio::observe::telemetry::Telemetry;

use crate::error::Error;
use crate::runtime::background::background;

/// Sends the spans of this process to a collector, from the library's own thread: by `config`, which
/// [`Config::from_vars`] reads from the variables of OpenTelemetry.
///
/// # Errors
/// [`Error::Telemetry`] if that cannot be, [`Error::Tokio`] without a thread.
pub fn export(config: &Config) -> Result<Telemetry, Error> {
    Ok(Telemetry::start(config, &background()?)?)
}
