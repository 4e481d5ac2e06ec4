//! What is shown, wherever it comes from.

use std::time::Duration;

use ringplane::status::words::{bytes, count, rate, short, time};
use ringplane::status::{PartView, ProcessView};
use ringplane_core::wire::line::Line;

/// How something stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Good,
    Bad,
    Plain,
}

/// What is shown.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Picture {
    /// The first line, piece by piece.
    pub(super) title: Vec<(String, Tone)>,
    /// What is wrong, if something is.
    pub(super) trouble: Option<String>,
    /// A line for each worker and client.
    pub(super) parts: Vec<[String; 11]>,
    /// Endpoints and instances.
    pub(super) entries: Vec<Entry>,
    /// The last errors, the newest first.
    pub(super) errors: Vec<String>,
}

/// An endpoint that is served, or an instance that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) endpoint: String,
    pub(super) place: String,
    pub(super) state: String,
    pub(super) tone: Tone,
    /// Calls under way, where they are known.
    pub(super) under_way: Option<u32>,
    pub(super) why: String,
}

impl Picture {
    /// The columns of the parts.
    pub(super) const PARTS: [&str; 11] =
        ["", "driver", "calls/s", "calls", "under way", "p50", "p99", "failed/s", "connections", "in/s", "out/s"];

    /// Of nothing yet.
    pub(super) fn waiting() -> Self {
        let title =
            vec![("ringplane top".to_owned(), Tone::Plain), ("nothing has been seen yet".to_owned(), Tone::Plain)];
        Self { title, ..Self::default() }
    }

    /// Of a process.
    pub(super) fn of(process: &ProcessView) -> Self {
        let tone = |good| if good { Tone::Good } else { Tone::Bad };
        let up = time(Duration::from_millis(process.uptime_ms));
        let title = vec![
            (format!("ringplane {}", process.version), Tone::Plain),
            (format!("process {}", process.pid), Tone::Plain),
            (format!("up {up}"), Tone::Plain),
            (if process.ready { "ready" } else { "not ready" }.to_owned(), tone(process.ready)),
            (if process.live { "live" } else { "stuck" }.to_owned(), tone(process.live)),
        ];
        let errors = process.errors.iter().map(|error| {
            let times = if error.count > 1 { format!(" (× {})", count(error.count)) } else { String::new() };
            format!("{}: {}{times}", plain(&error.place), plain(&error.text))
        });
        Self {
            title,
            trouble: process.why.as_deref().map(plain),
            parts: process.parts.iter().filter(|part| part.driver.is_some()).map(part).collect(),
            entries: process.parts.iter().flat_map(entries).collect(),
            errors: errors.collect(),
        }
    }
}

fn part(part: &PartView) -> [String; 11] {
    let per_second = |get: fn(&ringplane::status::Rates) -> f64| {
        part.rates.as_ref().map_or("–".to_owned(), |rates| rate(get(rates)))
    };
    let moved = |get: fn(&ringplane::status::Rates) -> f64| {
        part.rates.as_ref().map_or("–".to_owned(), |rates| bytes(get(rates)))
    };
    let time_of = |get: fn(&ringplane::status::Rates) -> Option<u64>| {
        part.rates.as_ref().and_then(get).map_or("–".to_owned(), short)
    };
    let [calls, under_way, connections] = if part.is_worker() {
        ["served.admitted", "worker.jobs", "worker.connections"]
    } else {
        ["called.calls", "caller.calls", "caller.connections"]
    };
    let number = |name| count(part.number(name));
    let driver = part.driver.as_deref().unwrap_or_default();
    [
        if part.is_worker() { format!("worker {}", plain(&part.name)) } else { plain(&part.name) },
        driver.split(' ').next().unwrap_or_default().to_owned(),
        per_second(|rates| rates.calls),
        number(calls),
        number(under_way),
        time_of(|rates| rates.p50_us),
        time_of(|rates| rates.p99_us),
        per_second(|rates| rates.failed),
        number(connections),
        moved(|rates| rates.bytes_in),
        moved(|rates| rates.bytes_out),
    ]
}

fn entries(part: &PartView) -> Vec<Entry> {
    let served = part.endpoints.iter().map(|one| Entry {
        endpoint: plain(&one.name),
        place: "served here".to_owned(),
        state: plain(&one.state),
        tone: if one.ready { Tone::Good } else { Tone::Bad },
        under_way: None,
        why: plain(&one.why),
    });
    let called = part.instances.iter().map(|one| {
        let left = one.remaining_ms.map(|millis| format!(", for {}", time(Duration::from_millis(millis))));
        Entry {
            endpoint: plain(&one.endpoint),
            place: format!("{} at {}", plain(&one.id), plain(&one.address)),
            state: plain(&one.state),
            tone: if matches!(one.state.as_str(), "routable" | "warming") { Tone::Good } else { Tone::Bad },
            under_way: Some(one.in_flight),
            why: format!("{}{}", plain(&one.why), left.unwrap_or_default()),
        }
    });
    served.chain(called).collect()
}

/// Foreign text, safe for a terminal.
pub(super) fn plain(text: &str) -> String {
    Line(text).to_string()
}
