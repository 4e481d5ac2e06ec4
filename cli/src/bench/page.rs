//! The report of a load as one page that refers to no other: two charts, and what is printed too.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use ringplane::status::words::short;

use crate::bench::chart::{Chart, Scale, escape};
use crate::bench::output::Report;
use crate::exit::Failed;

/// The shares of calls that the curve of times is drawn through.
const SHARES: [f64; 14] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.999_99];
/// Those that are marked.
const MARKS: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];

/// A file that can be written to, opened before there is anything to say: no load is put on for a report that nobody gets.
pub(super) struct Page {
    path: PathBuf,
    file: File,
}

impl Page {
    pub(super) fn open(path: &Path) -> Result<Self, Failed> {
        let file = File::create(path).map_err(|error| Failed::local(format_args!("{}", path.display()), error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn write(mut self, html: &str) -> Result<(), Failed> {
        let written = self.file.write_all(html.as_bytes());
        written.map_err(|error| Failed::local(format_args!("{}", self.path.display()), error))
    }
}

/// The page. `rows` are what is printed.
pub(super) fn html(endpoint: &str, rows: &[(&str, String)], report: &Report) -> String {
    let title = format!("ringplane bench {endpoint}");
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value)))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{times}\n{calls}\n\
         <table>\n{rows}</table>\n</body>\n</html>\n",
        title = escape(&title),
        css = include_str!("page.css"),
        times = times(report),
        calls = calls(report),
    )
}

fn times(report: &Report) -> String {
    let sums = &report.sums;
    let lines = [("whole call", &sums.whole), ("first item", &sums.first)].map(|(name, times)| (name, curve(times)));
    let chart = Chart {
        title: "Times of calls",
        about: "share of calls that took no longer",
        across: Scale::Nines,
        marks: MARKS.map(|(share, text)| (share, text.to_owned())).to_vec(),
        up: Scale::Log,
        reads: |micros| short(micros as u64),
        lines: lines.into_iter().filter(|(_, points)| !points.is_empty()).collect(),
    };
    chart.draw()
}

/// As far as there are calls enough to say it, in microseconds.
fn curve(times: &Histogram<u64>) -> Vec<(f64, f64)> {
    let told = SHARES.into_iter().filter(|share| times.len() as f64 * (1.0 - share) >= 1.0);
    told.map(|share| (share, times.value_at_quantile(share) as f64 / 1e3)).collect()
}

fn calls(report: &Report) -> String {
    let (timeline, elapsed) = (&report.sums.timeline, report.elapsed);
    let mut lines = vec![("ended well", timeline.rates(elapsed, |step| step.done))];
    if report.sums.failed() > 0 {
        lines.push(("failed", timeline.rates(elapsed, |step| step.failed)));
    }
    let seconds = elapsed.as_secs_f64();
    let marks = (0..=4).map(|quarter| seconds * f64::from(quarter) / 4.0);
    let chart = Chart {
        title: "Calls a second",
        about: "seconds since the beginning",
        across: Scale::Linear,
        marks: marks.map(|at| (at, format!("{at:.1}"))).collect(),
        up: Scale::Linear,
        reads: |rate| format!("{rate:.0}"),
        lines,
    };
    chart.draw()
}
