//! What is said of a load, for people and as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use ringplane::DriverInfo;
use serde_json::{Value, json};

use crate::bench::sums::{Sums, class};
use crate::output::plain_json;

/// What is told of times.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// A load that is over.
pub(super) struct Report {
    pub(super) sums: Sums,
    /// To the end of the last call.
    pub(super) elapsed: Duration,
    /// Calls that were not made, as too many were under way when they were due.
    pub(super) late: u64,
    /// Calls under way when a signal came.
    pub(super) unfinished: u64,
    pub(super) stopped: bool,
}

impl Report {
    fn per_second(&self, number: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { number as f64 / seconds } else { 0.0 }
    }
}

/// One line of JSON.
pub(super) fn json_line(endpoint: &str, driver: &DriverInfo, report: &Report) -> String {
    plain_json(&object(endpoint, driver, report).to_string())
}

/// What is told for people, line by line.
pub(super) fn rows(endpoint: &str, driver: &DriverInfo, report: &Report) -> Vec<(&'static str, String)> {
    let sums = &report.sums;
    let mut rows = vec![
        ("endpoint", endpoint.to_owned()),
        ("driver", driver.to_string()),
        ("time", format!("{:.3} s", report.elapsed.as_secs_f64())),
        ("calls", format!("{}, {:.1} a second", sums.done, report.per_second(sums.done))),
        ("failed", sums.failed().to_string()),
        ("not in time", report.late.to_string()),
        ("unfinished", report.unfinished.to_string()),
        ("items", format!("{}, {:.1} a second", sums.items, report.per_second(sums.items))),
        ("bytes", sums.bytes.to_string()),
        ("first item", text(&sums.first)),
        ("whole call", text(&sums.whole)),
    ];
    for (times, failed) in sums.errors.values() {
        rows.push((class(failed.exit), format!("{times}, such as: {}", failed.message)));
    }
    rows
}

fn object(endpoint: &str, driver: &DriverInfo, report: &Report) -> Value {
    let sums = &report.sums;
    let errors: serde_json::Map<String, Value> =
        sums.errors.values().map(|(times, failed)| (class(failed.exit).to_owned(), (*times).into())).collect();
    json!({
        "endpoint": endpoint,
        "driver": driver.name,
        "seconds": report.elapsed.as_secs_f64(),
        "calls": sums.done,
        "calls_per_second": report.per_second(sums.done),
        "failed": sums.failed(),
        "errors": errors,
        "not_in_time": report.late,
        "unfinished": report.unfinished,
        "items": sums.items,
        "items_per_second": report.per_second(sums.items),
        "bytes": sums.bytes,
        "first_item_us": micros(&sums.first),
        "whole_call_us": micros(&sums.whole),
    })
}

/// `p50 0.100  p90 0.200 … ms`, or a dash.
fn text(times: &Histogram<u64>) -> String {
    if times.is_empty() {
        return "-".to_owned();
    }
    let all = QUANTILES.map(|(name, quantile)| format!("{name} {:.3}", times.value_at_quantile(quantile) as f64 / 1e6));
    format!("{} ms", all.join("  "))
}

/// The same in microseconds; `null` where there are none.
fn micros(times: &Histogram<u64>) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    let named = QUANTILES.map(|(name, quantile)| (name.to_owned(), times.value_at_quantile(quantile) as f64 / 1e3));
    let mut all: serde_json::Map<String, Value> = named.into_iter().map(|(name, time)| (name, time.into())).collect();
    all.insert("mean".to_owned(), (times.mean() / 1e3).into());
    all.into()
}
