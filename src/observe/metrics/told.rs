//! What a program tells beside its workers and clients: trackers of tasks, subscriptions to events, counters of its own.

use std::fmt;

use ringplane_core::event::inbox;
use ringplane_tokio::observe::metrics::family::{Family, Kind, Value};
use ringplane_tokio::task::TaskStats;

/// How much can be told of at a time.
pub(super) const MOST: usize = 100;

/// Why something cannot be told of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MetricsError {
    /// A name that has something but `a-z 0-9 _` in it, or does not begin with a letter.
    Name(String),
    /// A name that begins as ours, those of the process or those of Dynamo do.
    Taken(String),
    /// There are as many already as may be told of.
    TooMany {
        /// How many may be.
        most: usize,
    },
}

impl fmt::Display for MetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => {
                write!(f, "`{name}` is no name of metrics: it may hold `a-z`, `0-9` and `_` behind a letter")
            }
            Self::Taken(name) => write!(f, "`{name}` begins like metrics of others; take a beginning of your own"),
            Self::TooMany { most } => write!(f, "metrics are told of {most} things at most; one more does not fit"),
        }
    }
}

impl std::error::Error for MetricsError {}

/// A counter: its name, what it counts, and its value.
pub type Counted = (&'static str, &'static str, u64);

/// What is read at each scrape; `None` once it is gone.
type Read = Box<dyn Fn() -> Option<Vec<Counted>> + Send + Sync>;

/// Something that counts.
pub(crate) struct Told {
    pub(super) group: String,
    pub(super) label: (&'static str, String),
    /// Those of its counters that are sizes of the moment.
    pub(super) sizes: &'static [&'static str],
    pub(super) read: Read,
}

pub(super) const TASKS: &str = "ringplane_tasks";
pub(super) const EVENTS: &str = "ringplane_events";
pub(super) const TASK_SIZES: &[&str] = &["running", "waiting"];

pub(super) fn tasks(stats: &TaskStats) -> Vec<Counted> {
    let sizes = [("running", "Tasks that run", stats.active()), ("waiting", "Tasks that wait", stats.queued())];
    stats.described().chain(sizes).collect()
}

pub(super) fn events(stats: &inbox::Stats) -> Vec<Counted> {
    stats.described().map(|(_, name, help, value)| (name, help, value)).collect()
}

/// Adds one, in place of what has the same group and label, unless there are too many.
pub(super) fn add(all: &mut Vec<Told>, told: Told) -> Result<(), MetricsError> {
    all.retain(|known| (&known.group, &known.label) != (&told.group, &told.label) && (known.read)().is_some());
    if all.len() >= MOST {
        return Err(MetricsError::TooMany { most: MOST });
    }
    all.push(told);
    Ok(())
}

/// What is told of, and lets go of what is gone. Trackers and subscriptions have their families even if there are none.
pub(super) fn families(all: &mut Vec<Told>) -> Vec<Family> {
    let mut families = Vec::new();
    for (name, help, _) in tasks(&TaskStats::default()) {
        family(&mut families, TASKS, name, help, TASK_SIZES);
    }
    for (name, help, _) in events(&inbox::Stats::default()) {
        family(&mut families, EVENTS, name, help, &[]);
    }
    all.retain(|told| {
        let Some(counted) = (told.read)() else { return false };
        for (name, help, value) in counted {
            let family = family(&mut families, &told.group, name, help, told.sizes);
            family.put(&[(told.label.0, &told.label.1)], Value::Whole(value));
        }
        true
    });
    families
}

/// The family of that name, which is made if there is none.
fn family<'a>(all: &'a mut Vec<Family>, group: &str, name: &str, help: &'static str, sizes: &[&str]) -> &'a mut Family {
    let name = format!("{group}_{}", name);
    let at = all.iter().position(|family| family.name == name).unwrap_or(all.len());
    if at == all.len() {
        let kind =
            if sizes.iter().any(|size| name.ends_with(&format!("_{size}"))) { Kind::Gauge } else { Kind::Counter };
        all.push(Family { name: name.into(), ..Family::new("", help.trim_end_matches('.'), kind) });
    }
    &mut all[at]
}
