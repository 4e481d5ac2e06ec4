//! Metrics of one name: what they count, and their values with labels, as of one moment.

use std::borrow::Cow;

/// The metrics of one name, which differ by their labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    /// The name without what [`Kind`] and [`Unit`] append: [`full_name`](Self::full_name) is the whole.
    pub name: Cow<'static, str>,
    /// What it says, a sentence.
    pub help: Cow<'static, str>,
    /// How its values are to be read.
    pub kind: Kind,
    /// What they are measured in, if they are not numbers of something.
    pub unit: Option<Unit>,
    /// The values.
    pub samples: Vec<Sample>,
}

/// How values are to be read.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// They only rise, from the start of the process: `_total`.
    Counter,
    /// They are of the moment.
    Gauge,
    /// Each says how often what was seen.
    Histogram,
    /// The labels say it, the value is 1: `_info`.
    Info,
}

/// What values are measured in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// `_bytes`
    Bytes,
    /// `_seconds`
    Seconds,
}

/// One value with its labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Names and values of the labels.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of a counter or a gauge.
    Whole(u64),
    /// The same, with a fraction.
    Real(f64),
    /// Of a histogram.
    Buckets {
        /// The sum of what was seen.
        sum: f64,
        /// How many were at most so much, and more than the bound before: in ascending order, with infinity as the last.
        buckets: Vec<(f64, u64)>,
    },
    /// Of an info.
    Known,
}

impl Family {
    /// One without values yet.
    pub const fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self { name: Cow::Borrowed(name), help: Cow::Borrowed(help), kind, unit: None, samples: Vec::new() }
    }

    /// Counters.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    /// Gauges.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    /// Times.
    pub const fn times(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, Kind::Histogram).of(Unit::Seconds)
    }

    /// Measured in `unit`.
    #[must_use]
    pub const fn of(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, labels: Vec<(&'static str, Cow<'static, str>)>, value: Value) -> Self {
        self.samples.push(Sample { labels, value });
        self
    }

    /// One more value.
    pub fn put(&mut self, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().map(|(name, value)| (*name, Cow::Owned((*value).to_owned()))).collect();
        self.samples.push(Sample { labels, value });
    }

    /// The name of its series, those of a histogram's parts aside.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map_or("", Unit::suffix);
        let kind = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{unit}{kind}", self.name)
    }
}

impl Kind {
    /// As it is called in a scrape: `counter` and the like.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

impl Unit {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Bytes => "_bytes",
            Self::Seconds => "_seconds",
        }
    }
}
