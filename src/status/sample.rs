//! Looks at the numbers of a worker or a client. One is under way at a time, so that a core that is stuck is not buried in
//! questions; the time it takes says whether every core responds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringplane_core::stats::Histogram;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::Error;
use crate::runtime::cores::Group;
use crate::runtime::snapshot::Snapshot;
use crate::status::view::Rates;
use crate::status::watching::Times;

/// A look that is younger than this is good enough for whoever asks.
const FRESH: Duration = Duration::from_millis(200);
/// What rates are about at least.
const WINDOW: Duration = Duration::from_millis(900);
/// Looks that are kept.
const KEPT: usize = 16;

/// The numbers at one moment.
#[derive(Clone)]
struct Sample {
    at: Instant,
    numbers: Snapshot,
    /// How long calls took since the look before.
    times: Option<Arc<Histogram>>,
}

/// The looks at one group of threads.
pub(super) struct Sampler {
    state: Mutex<State>,
    told: watch::Sender<u64>,
    times: Option<Arc<Times>>,
}

#[derive(Default)]
struct State {
    under_way: bool,
    samples: VecDeque<Sample>,
    /// What the last look that is over has found.
    health: Health,
}

/// What was seen.
#[derive(Copy, Clone)]
pub(super) struct Seen {
    /// The last numbers there are.
    pub(super) numbers: Option<Snapshot>,
    pub(super) rates: Option<Rates>,
    pub(super) health: Health,
}

/// Whether a group of threads responds.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub(super) enum Health {
    #[default]
    Responds,
    /// A core has not answered in time, or its mailbox stayed full.
    Stuck,
    /// The threads have ended.
    Stopped,
}

impl Sampler {
    /// With what times its calls, if something does.
    pub(super) fn new(times: Option<Arc<Times>>) -> Self {
        Self { state: Mutex::default(), told: watch::Sender::new(0), times }
    }

    /// Looks, and waits for what is seen, but no longer than `patience`.
    pub(super) async fn look(self: &Arc<Self>, group: &Arc<Group>, worker: bool, patience: Duration) -> Seen {
        let mut told = self.told.subscribe();
        let in_time = !self.begin(group) || timeout(patience, told.changed()).await.is_ok();
        let state = self.lock();
        let health = if in_time { state.health } else { Health::Stuck };
        let (numbers, rates) = (state.samples.back().map(|sample| sample.numbers), rates(&state.samples, worker));
        Seen { numbers, rates, health }
    }

    /// Begins a look unless one is under way, or there is a fresh one; whether there is something to wait for.
    fn begin(self: &Arc<Self>, group: &Arc<Group>) -> bool {
        let mut state = self.lock();
        if state.under_way {
            return true;
        }
        if state.health == Health::Responds && state.samples.back().is_some_and(|sample| sample.at.elapsed() < FRESH) {
            return false;
        }
        state.under_way = true;
        drop(state);
        let (sampler, group) = (self.clone(), group.clone());
        // Not awaited here: whoever asks may leave, and the question is at the cores all the same.
        tokio::spawn(async move {
            let seen = group.snapshot().await;
            sampler.end(seen);
        });
        true
    }

    fn end(&self, seen: Result<Snapshot, Error>) {
        let times = self.times.as_ref().map(|times| Arc::new(times.take()));
        let mut state = self.lock();
        state.under_way = false;
        state.health = match seen {
            Ok(numbers) => {
                if state.samples.len() >= KEPT {
                    state.samples.pop_front();
                }
                state.samples.push_back(Sample { at: Instant::now(), numbers, times });
                Health::Responds
            }
            Err(Error::Stopped) => Health::Stopped,
            // A mailbox had no room all the time; the next look may find some.
            Err(_) => Health::Stuck,
        };
        drop(state);
        self.told.send_modify(|looks| *looks += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One number of a snapshot, or a sum of some.
type Number = fn(&Snapshot) -> u64;

/// Between the last look and the last one that is long enough before it. The threads of a worker may call, too: its rates are about
/// what it serves.
fn rates(samples: &VecDeque<Sample>, worker: bool) -> Option<Rates> {
    let now = samples.back()?;
    let before = samples.iter().rev().find(|before| now.at.saturating_duration_since(before.at) >= WINDOW)?;
    let time = now.at.saturating_duration_since(before.at);
    let per_second = |number: Number| {
        let more = number(&now.numbers).saturating_sub(number(&before.numbers));
        more as f64 / time.as_secs_f64()
    };
    let (calls, failed): (Number, Number) = if worker {
        (|n| n.served.admitted, |n| n.served.overloaded + n.served.refused + n.served.expired + n.served.cut_off)
    } else {
        (|n| n.called.calls, |n| n.called.failed)
    };
    let mut times = Histogram::new();
    let looks = samples.iter().filter(|sample| sample.at > before.at);
    looks.filter_map(|sample| sample.times.as_ref()).for_each(|more| times.merge(more));
    let quantile = |ppm| times.quantile(ppm).map(|nanos| nanos / 1000);
    Some(Rates {
        p50_us: quantile(500_000),
        p99_us: quantile(990_000),
        window_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        calls: per_second(calls),
        failed: per_second(failed),
        retries: per_second(|n| n.called.retries),
        bytes_in: per_second(|n| n.driver.bytes_in),
        bytes_out: per_second(|n| n.driver.bytes_out),
    })
}

#[cfg(test)]
mod tests {
    use ringplane_driver::error::SubmitError;

    use super::*;

    #[test]
    fn a_mailbox_that_was_full_counts_for_one_look() {
        let sampler = Sampler::new(None);
        let health_after = |seen: Result<Snapshot, SubmitError>| {
            sampler.end(seen.map_err(Error::from));
            sampler.lock().health
        };
        assert_eq!(health_after(Err(SubmitError::Full)), Health::Stuck);
        assert_eq!(health_after(Ok(Snapshot::default())), Health::Responds);
        assert_eq!(health_after(Err(SubmitError::Stopped)), Health::Stopped);
    }

    #[test]
    fn rates_are_of_the_last_second_that_was_looked_at() {
        let begun = Instant::now();
        let sample = |millis, admitted| {
            let mut numbers = Snapshot::default();
            numbers.served.admitted = admitted;
            let mut times = Histogram::new();
            times.record(millis * 1_000_000);
            Sample { at: begun + Duration::from_millis(millis), numbers, times: Some(Arc::new(times)) }
        };
        let median =
            |samples: &[Sample]| rates(&samples.iter().cloned().collect(), true).and_then(|rates| rates.p50_us);
        assert_eq!(median(&[sample(0, 0), sample(2000, 9)]), Some(2_000_000), "of what came after the look before");
        let calls = |samples: &[Sample]| rates(&samples.iter().cloned().collect(), true).map(|rates| rates.calls);
        assert_eq!(calls(&[]), None);
        assert_eq!(calls(&[sample(0, 0), sample(500, 50)]), None);
        assert_eq!(calls(&[sample(0, 0), sample(1000, 50), sample(1500, 60), sample(2000, 100)]), Some(50.0));
        assert_eq!(calls(&[sample(0, 9), sample(2000, 3)]), Some(0.0), "numbers that go back are of another life");
    }
}
