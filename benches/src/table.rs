//! Results as a table for the terminal.

use std::fmt::Write;

use crate::results::{Results, Row};
use crate::scenario::{Headline, Scenario};

/// All rows, grouped by scenario.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    let mut scenario = None;
    for row in &results.rows {
        if scenario != Some(&row.scenario.name) {
            scenario = Some(&row.scenario.name);
            head(&mut text, &row.scenario);
        }
        line(&mut text, results, row);
    }
    text
}

/// A count with a suffix, or microseconds with a unit.
pub fn figure(value: f64, headline: Headline) -> String {
    if headline.is_rate() { count(value) } else { micros(value) }
}

/// A count with a suffix.
pub fn count(value: f64) -> String {
    match value {
        1e9.. => format!("{:.2} G", value / 1e9),
        1e6.. => format!("{:.2} M", value / 1e6),
        1e3.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

/// Microseconds with a unit.
pub fn micros(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} s", value / 1e6),
        1e3.. => format!("{:.2} ms", value / 1e3),
        100.0.. => format!("{value:.0} µs"),
        _ => format!("{value:.2} µs"),
    }
}

/// What a headline counts.
pub const fn unit(headline: Headline) -> &'static str {
    match headline {
        Headline::Calls => "calls/s",
        Headline::Items => "items/s",
        Headline::Bytes => "bytes/s",
        Headline::CallP50 => "call p50",
        Headline::GapP99 => "gap error p99",
    }
}

fn head(text: &mut String, scenario: &Scenario) {
    let _ = writeln!(text, "\n{}: {}", scenario.name, scenario.about);
    let _ = writeln!(
        text,
        "  {:<30}{:>14}{:>24}{:>9}{:>9}{:>11}{:>11}{:>16}{:>9}{:>14}",
        "engine",
        unit(scenario.headline),
        "min … max",
        "× floor",
        "× tonic",
        "p50",
        "p99",
        "µs CPU srv+load",
        "switches",
        "MiB srv+load"
    );
}

fn line(text: &mut String, results: &Results, row: &Row) {
    let headline = row.scenario.headline;
    let Some(spread) = row.headline() else {
        let _ = writeln!(text, "  {:<30}{}", row.engine, row.trouble.as_deref().unwrap_or("not run"));
        return;
    };
    let name = &row.scenario.name;
    let against = |other: Option<f64>| other.map_or("–".to_owned(), |other| format!("{:.2}", spread.median / other));
    let floor = results.floor(name, |sample| sample.headline(headline), headline.is_rate());
    let tonic = results.row(name, "tonic").and_then(Row::headline).map(|tonic| tonic.median);
    let middle = |figure: fn(&crate::results::Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread.median);
    let range = format!("{} … {}", figure(spread.min, headline), figure(spread.max, headline));
    let cpu = format!("{:.2}+{:.2}", middle(|sample| sample.server_cpu), middle(|sample| sample.load_cpu));
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    let (server, load) = (middle(|sample| sample.server_peak as f64), middle(|sample| sample.load_peak as f64));
    let memory = format!("{:.0}+{:.0}", mebibytes(server), mebibytes(load));
    let _ = write!(
        text,
        "  {:<30}{:>14}{range:>24}{:>9}{:>9}{:>11}{:>11}{cpu:>16}{:>9.2}{memory:>14}",
        row.engine,
        figure(spread.median, headline),
        against(floor),
        against(tonic),
        micros(middle(|sample| sample.call_p50)),
        micros(middle(|sample| sample.call_p99)),
        middle(|sample| sample.switches),
    );
    extras(text, results, row);
}

/// What only some scenarios show.
fn extras(text: &mut String, results: &Results, row: &Row) {
    let middle = |figure: fn(&crate::results::Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread.median);
    if row.scenario.gap_us > 0 {
        let _ = write!(text, "  first item p99 {}", micros(middle(|sample| sample.first_p99)));
    }
    if row.scenario.background.is_some() {
        let _ = write!(text, "  beside {}B/s", count(middle(|sample| sample.background)));
    }
    if row.scenario.idle > 0 {
        let _ = write!(text, "  {:.0} B per idle connection", middle(|sample| sample.idle));
    }
    let baseline = row.scenario.baseline.as_ref().and_then(|name| results.row(name, &row.engine)?.headline());
    if let (Some(baseline), Some(own)) = (baseline, row.headline()) {
        let _ = write!(text, "  {:.2} × alone", own.median / baseline.median);
    }
    if let Some(trouble) = &row.trouble {
        let _ = write!(text, "  ! {trouble}");
    }
    text.push('\n');
}
