//! Logs: what is logged, and how its lines look.

use std::fmt;
use std::str::FromStr;

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::current::Ids;
use crate::observe::jsonl::Jsonl;
use crate::vars::{Error, is_true};

/// What is logged if nobody says it.
const LEVEL: LevelFilter = LevelFilter::WARN;

/// The variables that say what is logged; the first that is set counts.
const FILTERS: [&str; 3] = ["RINGPLANE_LOG", "DYN_LOG", "RUST_LOG"];

/// Crates below this one whose words matter when something is wrong only. All but the last four are in Dynamo's list.
const QUIET: [&str; 11] = [
    "async_nats",
    "h2",
    "hyper_util",
    "opentelemetry",
    "opentelemetry-otlp",
    "opentelemetry_sdk",
    "tonic",
    "tower",
    "hyper",
    "opentelemetry_otlp",
    "opentelemetry-http",
];

/// How a line looks.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum Format {
    /// For people: time, level, where, what.
    #[default]
    Text,
    /// An object of JSON, with the names that Dynamo gives to its fields.
    Json,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

/// A name that no [`Format`] has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownFormat(pub String);

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no format of logs: text or json", self.0)
    }
}

impl std::error::Error for UnknownFormat {}

/// What is logged and how its lines look: a layer for a subscriber of `tracing`.
///
/// Each line that is logged in a span has the ids of that span and of its trace (`trace_id`, `span_id`).
///
/// ```
/// use ringplane_tokio::observe::logs::{Format, Logs};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let logs = Logs::from_vars(|name| std::env::var(name).ok())?.with_format(Format::Json);
/// let subscriber = tracing_subscriber::registry().with(logs.layer(std::io::stderr));
/// # tracing::subscriber::with_default(subscriber, || tracing::warn!(answer = 42, "it works"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Logs {
    format: Format,
    targets: Targets,
}

impl Default for Logs {
    /// What is at WARN or above, as text.
    fn default() -> Self {
        Self { format: Format::Text, targets: quiet(Targets::new().with_default(LEVEL)) }
    }
}

impl Logs {
    /// Reads variables through `get`, an empty one counting as unset. What is logged says the first of `RINGPLANE_LOG`, `DYN_LOG`
    /// and `RUST_LOG`: a level, or `TARGET=LEVEL` pairs with commas between. How lines look says the first of
    /// `RINGPLANE_LOG_FORMAT` (`text`, `json`), `DYN_LOGGING_CONSOLE_FORMAT` (`readable`, `jsonl`) and `DYN_LOGGING_JSONL`
    /// (`1`, `true`, `on` or `yes` is JSON).
    ///
    /// # Errors
    /// [`Error`] for the first variable that cannot be followed.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let mut logs = Self::default();
        if let Some((name, value)) = FILTERS.into_iter().find_map(|name| Some((name, get(name)?))) {
            // Selectors of spans and fields would be taken for targets.
            let targets = if value.contains('[') { None } else { value.trim().parse::<Targets>().ok() };
            let wanted =
                "a level, or TARGET=LEVEL pairs with commas between; a level is error, warn, info, debug, trace or off";
            logs.targets = quiet(targets.ok_or(Error::Malformed { name, value, wanted })?);
        }
        logs.format = format(get)?;
        Ok(logs)
    }

    /// With lines of this format.
    #[must_use]
    pub const fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// How its lines look.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The layer that writes lines to `writer`, each in one piece. One that cannot be written is lost, and nobody waits for
    /// it but by the writer itself.
    pub fn layer<S, W>(&self, writer: W) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        // Its own errors would be written to stderr, by a macro that panics when that is closed.
        let layer = lines::layer().with_ansi(false).log_internal_errors(false).with_writer(writer);
        match self.format {
            Format::Text => layer.map_event_format(Marked).with_filter(self.targets.clone()).boxed(),
            Format::Json => {
                let layer = layer.fmt_fields(JsonFields::new()).event_format(Jsonl);
                layer.with_filter(self.targets.clone()).boxed()
            }
        }
    }
}

fn format(get: impl Fn(&str) -> Option<String>) -> Result<Format, Error> {
    let name = "RINGPLANE_LOG_FORMAT";
    if let Some(value) = get(name) {
        return value.parse().map_err(|_| Error::Malformed { name, value, wanted: "text or json" });
    }
    let name = "DYN_LOGGING_CONSOLE_FORMAT";
    if let Some(value) = get(name).filter(|value| !value.trim().is_empty()) {
        return match value.trim().to_ascii_lowercase().as_str() {
            "readable" => Ok(Format::Text),
            "jsonl" => Ok(Format::Json),
            _ => Err(Error::Malformed { name, value, wanted: "readable or jsonl" }),
        };
    }
    let json = get("DYN_LOGGING_JSONL").is_some_and(|value| is_true(&value));
    Ok(if json { Format::Json } else { Format::Text })
}

/// The same, but for the crates below, of which nothing is said.
fn quiet(targets: Targets) -> Targets {
    let level = targets.default_level().unwrap_or(LevelFilter::OFF).min(LevelFilter::ERROR);
    let named: Vec<String> = targets.iter().map(|(target, _)| target.to_owned()).collect();
    let all = QUIET.into_iter().filter(|quiet| !named.iter().any(|named| named.starts_with(quiet)));
    targets.with_targets(all.map(|quiet| (quiet, level)))
}

/// A format with the ids of the span behind.
struct Marked<F>(F);

impl<S, N, F> FormatEvent<S, N> for Marked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(ids) = Ids::current() else { return self.0.format_event(context, out, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        writeln!(out, "{line} trace_id={} span_id={}", ids.trace(), ids.span())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::Level;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Logs, Error> {
        Logs::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(logs: &Logs, what: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::registry().with(logs.layer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, what);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_of_json_has_dynamos_names_and_typed_fields() {
        let logs = Logs::default().with_format(Format::Json);
        let text = logged(&logs, || {
            let outer = tracing::warn_span!("outer", tenant = "a b", depth = 1).entered();
            let inner = tracing::warn_span!("inner", depth = 2).entered();
            tracing::warn!(times = 3, ok = true, why = %"x \"y\"\n", level = "odd", "it is {}", "so");
            drop((inner, outer));
            tracing::warn!(share = 0.5, "next");
            tracing::info!("not heard");
        });
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &lines[..] else { panic!("{text}") };
        assert_eq!(first["message"], "it is so");
        assert_eq!((&first["times"], &first["ok"], &first["why"]), (&3.into(), &true.into(), &"x \"y\"\n".into()));
        assert_eq!((&first["level"], &first["field.level"]), (&"WARN".into(), &"odd".into()));
        assert_eq!(
            (&first["span_name"], &first["tenant"], &first["depth"]),
            (&"inner".into(), &"a b".into(), &2.into())
        );
        assert!(first["file"].as_str().unwrap().ends_with("logs.rs") && first["line"].is_u64(), "{first}");
        let time = first["time"].as_str().unwrap();
        assert_eq!((time.len(), &time[10..11], &time[26..]), ("2026-11-23T15:42:25.517334Z".len(), "T", "Z"));
        assert!(
            text.starts_with("{\"time\":") && second.get("span_name").is_none() && second["share"] == 0.5,
            "{text}"
        );
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let text = logged(&Logs::default().with_format(Format::Json), || tracing::warn!("{}", "\u{FC}".repeat(9999)));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert!(line["message"].as_str().unwrap().len() == 4096 + "…".len());
    }

    #[test]
    fn the_first_variable_says_what_is_logged_and_the_crates_below_stay_quiet() {
        let enabled = |vars: &[(&str, &str)], target: &str, level: Level| {
            read(vars).unwrap().targets.would_enable(target, &level)
        };
        assert!(enabled(&[], "a", Level::WARN) && !enabled(&[], "a", Level::INFO));
        assert!(enabled(&[("RUST_LOG", "debug")], "a", Level::DEBUG));
        assert!(!enabled(&[("DYN_LOG", "info"), ("RUST_LOG", "debug")], "a", Level::DEBUG));
        assert!(enabled(&[("RINGPLANE_LOG", "off,a=trace"), ("DYN_LOG", "off")], "a::b", Level::TRACE));
        assert!(!enabled(&[("DYN_LOG", "debug")], "h2::codec", Level::WARN));
        assert!(enabled(&[("DYN_LOG", "debug")], "h2::codec", Level::ERROR));
        assert!(!enabled(&[("DYN_LOG", "off")], "h2", Level::ERROR));
        assert!(enabled(&[("DYN_LOG", "warn,h2=debug")], "h2::codec", Level::DEBUG));
    }

    #[test]
    fn variables_say_how_lines_look_and_are_refused_by_name() {
        let json = |vars: &[(&str, &str)]| read(vars).unwrap().format == Format::Json;
        assert!(!json(&[]) && json(&[("DYN_LOGGING_JSONL", " Yes ")]) && !json(&[("DYN_LOGGING_JSONL", "0")]));
        let both = [("DYN_LOGGING_JSONL", "1"), ("DYN_LOGGING_CONSOLE_FORMAT", "readable")];
        assert!(!json(&both) && json(&[("DYN_LOGGING_JSONL", "1"), ("DYN_LOGGING_CONSOLE_FORMAT", " ")]));
        assert!(json(&[("RINGPLANE_LOG_FORMAT", "json"), both[1]]));
        for (name, value) in [
            ("RINGPLANE_LOG_FORMAT", "xml"),
            ("DYN_LOGGING_CONSOLE_FORMAT", "xml"),
            ("RINGPLANE_LOG", "a=loud"),
            ("DYN_LOG", "[span]=info"),
            ("RUST_LOG", "a=b=c"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
