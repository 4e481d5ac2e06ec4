//! How a process begins to send its spans.

use ringplane_core::wire::context::TraceContext;
use ringplane_tokio::observe::current;
use ringplane_tokio::observe::otlp::Config;
use ringplane_tokio::observe::telemetry::Telemetry;

use crate::error::Error;
use crate::runtime::background::background;
use crate::trace::set_trace_source;

/// The span that the running code is in.
fn source() -> Option<TraceContext> {
    let (parent, state) = current()?;
    let context = TraceContext::new(parent);
    Some(match state {
        Some(state) => context.clone().with_state(&state).unwrap_or(context),
        None => context,
    })
}

/// Sends the spans of this process to a collector, from the library's own thread: by `config`, which
/// [`Config::from_vars`] reads from the variables of OpenTelemetry.
///
/// # Errors
/// [`Error::Telemetry`] if that cannot be, [`Error::Tokio`] without a thread.
pub fn export(config: &Config) -> Result<Telemetry, Error> {
    let telemetry = Telemetry::start(config, &background()?)?;
    // The second export of a process finds the same one.
    let _ = set_trace_source(source);
    Ok(telemetry)
}
