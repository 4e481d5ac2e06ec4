//! What happens to the calls of one load, taken down.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::content::Pattern;
use crate::line::{Phase, announce};
use crate::measure::{Latencies, Measured, Plan, fresh};
use crate::scenario::Scenario;
use crate::usage::Usage;

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
