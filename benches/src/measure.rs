//! What is measured: counts, latencies and what the process used, inside a window of time.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::content::Pattern;
use crate::process::{Phase, announce};
use crate::scenario::Scenario;

/// How long to run, and how closely to look.
#[derive(Copy, Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Before the window opens.
    pub warmup: Duration,
    /// How long it is open.
    pub measure: Duration,
    /// Check mode: so many calls, with no warm-up and no end by time, and every byte of both directions compared.
    /// Otherwise lengths and counts of all calls and the bytes of some are.
    pub check: Option<u64>,
}

/// What a process has used since it began.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// Nanoseconds on a CPU, user and system, all threads.
    pub cpu_ns: u64,
    /// Context switches by waiting, of the threads that live.
    pub voluntary: u64,
    /// Context switches by force, of the threads that live.
    pub involuntary: u64,
    /// Bytes of memory resident now.
    pub resident: u64,
    /// Bytes of memory resident at most.
    pub peak: u64,
}

/// Other processes whose use counts with this one's.
static COUNTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Usage {
    /// From now on, what process `pid` uses counts with this one: for engines that need a third.
    pub fn count(pid: u32) {
        COUNTED.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
    }

    /// Of this process and those that count with it, now.
    pub fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let mut usage = Self { cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64, ..Self::default() };
        usage.add("self");
        for pid in COUNTED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for task in tasks(&pid.to_string()) {
                // Nanoseconds on a CPU, nanoseconds waited for one, times put on one.
                let schedule = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
                usage.cpu_ns += schedule.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            }
            usage.add(&pid.to_string());
        }
        usage
    }

    /// Adds memory and context switches of a process.
    fn add(&mut self, process: &str) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        self.resident += field(&status, "VmRSS:") * 1024;
        self.peak += field(&status, "VmHWM:") * 1024;
        for task in tasks(process) {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            self.voluntary += field(&status, "voluntary_ctxt_switches:");
            self.involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
    }

    /// What was used from `earlier` to now; memory as it is now.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
            ..self
        }
    }
}

/// The threads of a process.
fn tasks(process: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten().map(|task| task.path())
}

/// The number after `name` at the start of a line; 0 without such a line.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a load has measured.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Seconds the window was open.
    pub seconds: f64,
    /// Calls that ended well in the window.
    pub calls: u64,
    /// Items that came in the window.
    pub items: u64,
    /// Bytes of items that came and of the requests of calls that ended in the window.
    pub bytes: u64,
    /// The same of background calls.
    pub background_bytes: u64,
    /// Calls that failed, ever.
    pub failures: u64,
    /// How the first of them failed.
    pub failure: Option<String>,
    /// Nanoseconds from a call's start to its end; open loop: from when it was due.
    pub call: Latencies,
    /// Nanoseconds from a call's start to its first item.
    pub first: Latencies,
    /// Nanoseconds by which the time between two paced items missed the gap, corrected for coordinated omission.
    pub gap: Latencies,
    /// What the load's process used in the window.
    pub usage: Usage,
}

/// A histogram as pairs of a value and how often it occurred.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies(pub Vec<(u64, u64)>);

impl Latencies {
    /// As a histogram again.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = fresh();
        self.0.iter().for_each(|&(value, count)| histogram.saturating_record_n(value, count));
        histogram
    }

    /// Whether nothing was recorded.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&Histogram<u64>> for Latencies {
    fn from(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }
}

/// 1 ns to 100 s with three digits.
fn fresh() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are in order")
}

/// One call in this many has its contents compared in timing mode.
const SAMPLE: u64 = 64;

/// Takes down what happens to the calls of one load.
#[derive(Debug)]
pub struct Book {
    /// The contents both sides know.
    pub pattern: Pattern,
    plan: Plan,
    open: Option<(Instant, Usage)>,
    over: bool,
    begun: u64,
    gap_ns: u64,
    so_far: Measured,
    call: Histogram<u64>,
    first: Histogram<u64>,
    gap: Histogram<u64>,
}

impl Book {
    /// An empty book. In check mode the window is open from the start.
    pub fn new(scenario: &Scenario, plan: &Plan) -> Self {
        let mut book = Self {
            pattern: Pattern::new(scenario.largest()),
            plan: *plan,
            open: None,
            over: false,
            begun: 0,
            gap_ns: scenario.gap_us * 1000,
            so_far: Measured::default(),
            call: fresh(),
            first: fresh(),
            gap: fresh(),
        };
        if plan.check.is_some() {
            book.open();
        }
        book
    }

    /// Opens the window.
    pub fn open(&mut self) {
        announce(Phase::Open);
        self.open = Some((Instant::now(), Usage::now()));
    }

    /// Closes the window and hands over what was measured.
    pub fn close(&mut self) -> Measured {
        if let Some((since, usage)) = self.open.take() {
            self.so_far.seconds = since.elapsed().as_secs_f64();
            self.so_far.usage = Usage::now().since(usage);
        }
        announce(Phase::Closed);
        self.over = true;
        Measured {
            call: Latencies::from(&self.call),
            first: Latencies::from(&self.first),
            gap: Latencies::from(&self.gap),
            ..std::mem::take(&mut self.so_far)
        }
    }

    /// Whether the window has closed.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Leave to make a call, and whether to compare all its bytes; `None`: there have been enough.
    pub fn begin(&mut self) -> Option<bool> {
        if self.over || self.plan.check.is_some_and(|calls| self.begun >= calls) {
            return None;
        }
        self.begun += 1;
        Some(self.plan.check.is_some() || self.begun.is_multiple_of(SAMPLE))
    }

    /// An item came.
    pub const fn item(&mut self, bytes: usize) {
        if self.open.is_some() {
            self.so_far.items += 1;
            self.so_far.bytes += bytes as u64;
        }
    }

    /// Some bytes of an item came, of which the last one is told by [`item`](Self::item).
    pub const fn part(&mut self, bytes: usize) {
        if self.open.is_some() {
            self.so_far.bytes += bytes as u64;
        }
    }

    /// A call's first item came so long after its start.
    pub fn first(&mut self, after: Duration) {
        if self.open.is_some() {
            self.first.saturating_record(nanos(after));
        }
    }

    /// A paced item came so long after the last one.
    pub fn gap(&mut self, since: Duration) {
        if self.open.is_some() {
            let missed = nanos(since).abs_diff(self.gap_ns);
            // The bounds of the histogram are wider than any run.
            let _ = self.gap.record_correct(missed.max(1), self.gap_ns.max(1));
        }
    }

    /// A call ended well so long after its start; its request had so many bytes.
    pub fn end(&mut self, after: Duration, request: usize) {
        if self.open.is_some() {
            self.so_far.calls += 1;
            self.so_far.bytes += request as u64;
            self.call.saturating_record(nanos(after));
        }
    }

    /// So many bytes of background calls have moved.
    pub const fn background(&mut self, bytes: usize) {
        if self.open.is_some() {
            self.so_far.background_bytes += bytes as u64;
        }
    }

    /// A call failed.
    pub fn failed(&mut self, why: impl ToString) {
        if !self.over {
            self.so_far.failures += 1;
            self.so_far.failure.get_or_insert_with(|| why.to_string());
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_grows_and_is_not_nothing() {
        let before = Usage::now();
        assert!(before.resident > 1 << 20 && before.peak >= before.resident, "{before:?}");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {}
        let used = Usage::now().since(before);
        assert!(used.cpu_ns > 1_000_000, "{used:?}");
    }

    #[test]
    fn a_histogram_survives_its_journey_as_pairs() {
        let mut histogram = fresh();
        [1, 1000, 1000, 123_456_789].into_iter().for_each(|value| histogram.record(value).unwrap());
        assert_eq!(Latencies::from(&histogram).histogram(), histogram);
    }
}
