//! What a run has shown, as it is kept in JSON.

use serde::{Deserialize, Serialize};

use crate::measure::Latencies;
use crate::runner::Cell;
use crate::scenario::{Headline, Scenario};
use crate::usage::Usage;

/// A whole run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Where and when.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// One for each scenario and engine.
    pub rows: Vec<Row>,
}

/// Where and when a run took place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Seconds since 1970, at the end.
    pub at: u64,
    /// The processor's name.
    pub cpu: String,
    /// How many of them.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Whether server and load had a processor each.
    pub pinned: bool,
}

/// One engine on one scenario.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What was run.
    pub scenario: Scenario,
    /// The engine's name.
    pub engine: String,
    /// A round each.
    pub samples: Vec<Sample>,
    /// Why there are none, or fewer.
    pub trouble: Option<String>,
    /// Latencies of calls, of all rounds.
    pub call: Curve,
    /// Latencies of first items, of all rounds.
    pub first: Curve,
    /// Gap errors, of all rounds.
    pub gap: Curve,
}

/// Share of events, and the nanoseconds they stayed below.
pub type Curve = Vec<(f64, u64)>;

/// One round of a row.
#[derive(Copy, Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Calls per second.
    pub calls: f64,
    /// Items per second.
    pub items: f64,
    /// Bytes per second, requests and items.
    pub bytes: f64,
    /// Bytes per second of background calls.
    pub background: f64,
    /// Calls measured.
    pub count: u64,
    /// Microseconds of a call: median.
    pub call_p50: f64,
    /// Microseconds of a call: 99th percentile.
    pub call_p99: f64,
    /// Microseconds to the first item: median.
    pub first_p50: f64,
    /// Microseconds to the first item: 99th percentile.
    pub first_p99: f64,
    /// Microseconds of gap error: 99th percentile.
    pub gap_p99: f64,
    /// Microseconds of CPU per call, of the server.
    pub server_cpu: f64,
    /// Microseconds of CPU per call, of the load.
    pub load_cpu: f64,
    /// Context switches per call, of both.
    pub switches: f64,
    /// Bytes of memory at most, of the server.
    pub server_peak: u64,
    /// Bytes of memory at most, of the load.
    pub load_peak: u64,
    /// Bytes of the server's memory for an idle connection; 0 if there were none.
    pub idle: f64,
}

impl Sample {
    /// What a cell shows.
    pub fn of(cell: &Cell) -> Self {
        let load = &cell.load;
        let (call, first, gap) = (load.call.histogram(), load.first.histogram(), load.gap.histogram());
        let rate = |count: u64| count as f64 / load.seconds.max(1e-9);
        let per_call = |amount: f64| amount / load.calls.max(1) as f64;
        let switches = |usage: Usage| (usage.voluntary + usage.involuntary) as f64;
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        Self {
            calls: rate(load.calls),
            items: rate(load.items),
            bytes: rate(load.bytes),
            background: rate(load.background_bytes),
            count: load.calls,
            call_p50: micros(call.value_at_quantile(0.5)),
            call_p99: micros(call.value_at_quantile(0.99)),
            first_p50: micros(first.value_at_quantile(0.5)),
            first_p99: micros(first.value_at_quantile(0.99)),
            gap_p99: micros(gap.value_at_quantile(0.99)),
            server_cpu: per_call(micros(cell.server.cpu_ns)),
            load_cpu: per_call(micros(load.usage.cpu_ns)),
            switches: per_call(switches(cell.server) + switches(load.usage)),
            server_peak: cell.server.peak,
            load_peak: load.usage.peak,
            idle: cell.idle.unwrap_or(0.0),
        }
    }

    /// The figure that is compared.
    pub const fn headline(&self, headline: Headline) -> f64 {
        match headline {
            Headline::Calls => self.calls,
            Headline::Items => self.items,
            Headline::Bytes => self.bytes,
            Headline::CallP50 => self.call_p50,
            Headline::GapP99 => self.gap_p99,
        }
    }
}

impl Row {
    /// A row without samples yet.
    pub fn new(scenario: Scenario, engine: String) -> Self {
        let (call, first, gap) = (Curve::new(), Curve::new(), Curve::new());
        Self { scenario, engine, samples: Vec::new(), trouble: None, call, first, gap }
    }

    /// Median and extremes of `figure` over the rounds; `None` without rounds.
    pub fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let mut values: Vec<f64> = self.samples.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = values.first().zip(values.last())?;
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Spread { median, min, max })
    }

    /// As [`spread`](Self::spread), of the figure that is compared.
    pub fn headline(&self) -> Option<Spread> {
        self.spread(|sample| sample.headline(self.scenario.headline))
    }
}

/// A figure over the rounds of a row.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Results {
    /// The row of this scenario and engine.
    pub fn row(&self, scenario: &str, engine: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario.name == scenario && row.engine == engine)
    }

    /// The better of the floor's rows by `figure`.
    pub fn floor(&self, scenario: &str, figure: impl Fn(&Sample) -> f64 + Copy, more_is_better: bool) -> Option<f64> {
        let rows = self.rows.iter().filter(|row| row.scenario.name == scenario && row.engine.starts_with("floor"));
        let medians = rows.filter_map(|row| row.spread(figure)).map(|spread| spread.median);
        medians.reduce(|a, b| if more_is_better { a.max(b) } else { a.min(b) })
    }
}

/// A histogram as a curve of the quantiles that plots show.
pub fn curve<'a>(all: impl Iterator<Item = &'a Latencies>) -> Curve {
    let merged = all.map(Latencies::histogram).reduce(|mut sum, one| {
        // Both have the same bounds.
        let _ = sum.add(&one);
        sum
    });
    let Some(merged) = merged.filter(|merged| !merged.is_empty()) else { return Curve::new() };
    let shares = (1..100).map(|percent| f64::from(percent) / 100.0).chain([0.995, 0.999, 0.9995, 0.9999, 1.0]);
    shares.map(|share| (share, merged.value_at_quantile(share))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(engine: &str, calls: &[f64]) -> Row {
        let text = "name = 'x'\nabout = ''\nheadline = 'calls'\nin_flight = 1\nitem_bytes = 1";
        let mut row = Row::new(Scenario::parse(text).unwrap(), engine.to_owned());
        row.samples = calls.iter().map(|&calls| Sample { calls, ..Sample::default() }).collect();
        row
    }

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(row("a", &[3.0, 1.0, 2.0]).headline(), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(row("a", &[4.0, 1.0]).headline(), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(row("a", &[]).headline(), None);
    }

    #[test]
    fn the_floor_is_the_better_of_its_engines() {
        let machine = Machine { at: 0, cpu: String::new(), cpus: 1, kernel: String::new(), pinned: true };
        let rows = vec![row("floor-a", &[3.0]), row("floor-b", &[5.0]), row("other", &[9.0])];
        let results = Results { machine, command: String::new(), rows };
        assert_eq!(results.floor("x", |sample| sample.calls, true), Some(5.0));
        assert_eq!(results.floor("x", |sample| sample.calls, false), Some(3.0));
    }
}
