//! Metrics as text, in the two forms that Prometheus reads.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use crate::observe::metrics::family::{Family, Kind, Sample, Unit, Value};

/// A form of the text.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum Format {
    /// Prometheus's own, 0.0.4: what everything reads.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0, which tells of units.
    OpenMetrics,
}

impl Format {
    /// The one to answer a request with that has this `Accept` header: OpenMetrics where it is named and not excluded.
    ///
    /// ```
    /// use ringplane_tokio::observe::metrics::Format;
    ///
    /// let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    /// assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    /// assert_eq!(Format::accepted("text/html, */*"), Format::Prometheus);
    /// ```
    pub fn accepted(accept: &str) -> Self {
        let names_it = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            media.eq_ignore_ascii_case("application/openmetrics-text") && parts.all(|part| !is_zero_weight(part))
        });
        if names_it { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

fn is_zero_weight(parameter: &str) -> bool {
    parameter.strip_prefix("q=").is_some_and(|weight| weight.trim_matches(['0', '.']).is_empty())
}

/// Writes these families.
pub fn write(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families)));
    let mut out = String::new();
    let written = match format {
        Format::Prometheus => prometheus_text::encode(&mut out, &registry),
        Format::OpenMetrics => text::encode(&mut out, &registry),
    };
    // A `String` takes everything, and histograms have buckets.
    debug_assert!(written.is_ok(), "metrics are written to a string");
    out
}

/// What is told at one scrape.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let unit = family.unit.map(|unit| match unit {
                Unit::Bytes => registry::Unit::Bytes,
                Unit::Seconds => registry::Unit::Seconds,
            });
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let help = plain(&family.help);
            let mut metric = encoder.encode_descriptor(&family.name, &help, unit.as_ref(), kind)?;
            family.samples.iter().try_for_each(|sample| encode(sample, family.kind, &mut metric))?;
        }
        Ok(())
    }
}

fn encode(sample: &Sample, kind: Kind, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    if kind == Kind::Info {
        return metric.encode_info(&sample.labels);
    }
    let mut metric = metric.encode_family(&sample.labels)?;
    match (&sample.value, kind) {
        (Value::Whole(value), Kind::Counter) => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
        (Value::Real(value), Kind::Counter) => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
        (Value::Whole(value), _) => metric.encode_gauge(value),
        (Value::Real(value), _) => metric.encode_gauge(value),
        (Value::Buckets { sum, buckets }, _) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
        (Value::Known, _) => metric.encode_gauge(&1_u64),
    }
}

/// A help without what the forms of the text have to escape, each in its way.
fn plain(help: &str) -> Cow<'_, str> {
    if help.contains(['\n', '\\', '"']) { help.replace(['\n', '\\', '"'], " ").into() } else { help.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let odd = "a \"b\"\\\n".to_owned();
        let buckets = Value::Buckets { sum: 1.5, buckets: vec![(0.5, 1), (f64::INFINITY, 1)] };
        vec![
            Family::counter("some_calls", "Calls").with(vec![("endpoint", odd.into())], Value::Whole(7)),
            Family::gauge("some_held", "Held\nback").of(Unit::Bytes).with(Vec::new(), Value::Whole(1)),
            Family::new("some_time", "Time", Kind::Histogram).of(Unit::Seconds).with(Vec::new(), buckets),
            Family::new("some_build", "Build", Kind::Info).with(vec![("version", "1".into())], Value::Known),
        ]
    }

    #[test]
    fn families_are_written_in_both_forms() {
        let prometheus = write(families(), Format::Prometheus);
        for line in [
            "# TYPE some_calls_total counter",
            r#"some_calls_total{endpoint="a \"b\"\\\n"} 7"#,
            "# HELP some_held_bytes Held back",
            "some_held_bytes 1",
            r#"some_time_seconds_bucket{le="0.5"} 1"#,
            r#"some_time_seconds_bucket{le="+Inf"} 2"#,
            "some_time_seconds_count 2",
            r#"some_build_info{version="1"} 1"#,
        ] {
            assert!(prometheus.lines().any(|written| written == line), "{line} is not in\n{prometheus}");
        }
        let open = write(families(), Format::OpenMetrics);
        assert!(open.contains("# UNIT some_held_bytes bytes\n") && open.ends_with("# EOF\n"), "{open}");
    }

    #[test]
    fn a_family_knows_the_name_of_its_series() {
        let names: Vec<String> = families().iter().map(Family::full_name).collect();
        assert_eq!(names, ["some_calls_total", "some_held_bytes", "some_time_seconds", "some_build_info"]);
    }

    #[test]
    fn a_form_that_is_weighed_with_nothing_is_not_wanted() {
        let form = Format::accepted("application/openmetrics-text; q=0.0, text/plain");
        assert_eq!(form, Format::Prometheus);
    }
}
