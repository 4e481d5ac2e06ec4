//! What the tool lets others see of a command: its logs on stderr, and its spans at a collector.

#[cfg(feature = "otel")]
use std::sync::OnceLock;
#[cfg(feature = "otel")]
use std::time::Duration;

use ringplane::observe::logs::{Format, Logs};
#[cfg(feature = "otel")]
use ringplane::observe::{export, otlp, telemetry::Telemetry};
use ringplane::{ClientBuilder, WorkerBuilder};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::environment;
use crate::exit::Failed;
use crate::stderr::Log;

/// What spans are made by, if any are.
#[cfg(feature = "otel")]
static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();

/// The longest that the end of a command waits for its last spans to be taken.
#[cfg(feature = "otel")]
const FAREWELL: Duration = Duration::from_secs(5);
/// The same where a second signal has ended it: what a collector nearby needs.
#[cfg(feature = "otel")]
const AT_ONCE: Duration = Duration::from_millis(100);

/// Options of every subcommand.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Observe {
    /// How logs look on stderr: text or json [default: RINGPLANE_LOG_FORMAT, DYN_LOGGING_CONSOLE_FORMAT or DYN_LOGGING_JSONL, else
    /// text]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<Format>,
    /// Send spans to this OpenTelemetry collector; by HTTP if its port is 4318, else by gRPC [default: as the variables OTEL_* say]
    #[cfg(feature = "otel")]
    #[arg(long, global = true, value_name = "URL")]
    otlp: Option<String>,
}

impl Observe {
    /// Runs a command in sight.
    pub(crate) fn during(&self, command: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
        let mut logs = environment::followed(|get| Logs::from_vars(get))?;
        if let Some(format) = self.log_format {
            logs = logs.with_format(format);
        }
        let writer = match logs.format() {
            Format::Text => Log::Text,
            Format::Json => Log::Json,
        };
        let lines = tracing_subscriber::registry().with(logs.layer(writer));
        #[cfg(feature = "otel")]
        {
            let telemetry = self.telemetry()?;
            lines.with(telemetry.as_ref().map(Telemetry::layer)).init();
            if let Some(telemetry) = &telemetry {
                let _ = TELEMETRY.set(telemetry.clone());
            }
            let ended = command();
            if let Some(telemetry) = &telemetry {
                farewell(telemetry, ended.as_ref().is_err_and(|failed| failed.at_once));
            }
            ended
        }
        #[cfg(not(feature = "otel"))]
        {
            lines.init();
            command()
        }
    }

    #[cfg(feature = "otel")]
    fn telemetry(&self) -> Result<Option<Telemetry>, Failed> {
        let asked = environment::followed(|get| match &self.otlp {
            // The option is the variable's, and asks for it.
            Some(url) => otlp::Config::from_vars(|name| match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(url.clone()),
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
                | "OTEL_SDK_DISABLED"
                | "OTEL_EXPORT_ENABLED"
                | "OTEL_TRACES_EXPORTER" => None,
                name => get(name),
            }),
            None => otlp::Config::from_vars(get),
        })?;
        asked.map(|config| export(&config)).transpose().map_err(|error| Failed::by(crate::exit::Exit::Usage, &error))
    }
}

/// Makes spans of a client's calls, if any are made.
pub(crate) fn client(builder: ClientBuilder) -> ClientBuilder {
    #[cfg(feature = "otel")]
    if let Some(telemetry) = TELEMETRY.get() {
        return builder.telemetry(telemetry);
    }
    builder
}

/// Makes spans of a worker's requests, if any are made.
pub(crate) fn worker(builder: WorkerBuilder) -> WorkerBuilder {
    #[cfg(feature = "otel")]
    if let Some(telemetry) = TELEMETRY.get() {
        return builder.telemetry(telemetry);
    }
    builder
}

/// Waits for the last spans, until a signal says that nobody should.
#[cfg(feature = "otel")]
fn farewell(telemetry: &Telemetry, at_once: bool) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    let signalled = async {
        match ringplane::Signals::new() {
            Ok(mut signals) => signals.next().await,
            Err(_) => std::future::pending().await,
        }
    };
    let bound = if at_once { AT_ONCE } else { FAREWELL };
    let stats = runtime.block_on(async {
        tokio::select! {
            biased;
            stats = telemetry.shutdown(bound) => stats,
            () = signalled => telemetry.stats(),
        }
    });
    let lost = stats.failed + stats.dropped + stats.waiting;
    if lost > 0 {
        tracing::warn!(lost, exported = stats.exported, "the collector did not take all spans");
    }
}
