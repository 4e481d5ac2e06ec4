//! What load is asked for, and when each of its calls is due.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::asked::Asked;
use crate::exit::Failed;
use crate::options::duration;

/// How long it goes on where nobody says it.
const LASTS: Duration = Duration::from_secs(10);
/// The most calls a second that can be asked for.
const FASTEST: f64 = 1e6;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) asked: Asked,
    /// Calls to make
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// How long to begin calls, with --calls at the most [default: 10s without --calls]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Calls at once; with --rate at the most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    concurrency: u32,
    /// Calls a second, whether or not earlier ones have been answered; times then count from when a call was due
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// The request is a text of so many letters
    #[arg(long, value_name = "LETTERS", conflicts_with = "request",
        value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    pub(super) size: Option<u64>,
    /// Calls before those that count, as many at once
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) warm_up: u64,
    /// One JSON object instead of lines
    #[arg(long)]
    pub(super) json: bool,
    /// Write a page of HTML with charts too, which refers to no other file
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= FASTEST);
    rate.ok_or_else(|| format!("not a number above 0 and up to {FASTEST}"))
}

/// How many calls, for how long, and how they follow each other.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) calls: Option<u64>,
    pub(super) lasts: Option<Duration>,
    pub(super) concurrency: u32,
    pub(super) rate: Option<f64>,
}

impl Plan {
    pub(super) fn of(args: &Args) -> Self {
        let lasts = args.duration.or_else(|| args.calls.is_none().then_some(LASTS));
        Self { calls: args.calls, lasts, concurrency: args.concurrency, rate: args.rate }
    }

    /// So many calls, one after another's end.
    pub(super) fn warm_up(self, calls: u64) -> Self {
        Self { calls: Some(calls), lasts: None, rate: None, ..self }
    }
}

/// A call that is to be made now, and its place among those under way.
pub(super) struct Due {
    /// When it was due, of a load with a rate.
    pub(super) at: Option<Instant>,
    pub(super) place: OwnedSemaphorePermit,
}

/// Says when calls are due.
pub(super) struct Pace {
    plan: Plan,
    begun: Instant,
    made: u64,
    places: Arc<Semaphore>,
    /// Calls for which there was no place when they were due.
    late: Arc<AtomicU64>,
    paced: Option<mpsc::UnboundedReceiver<Due>>,
}

impl Pace {
    /// Begins now.
    pub(super) fn begin(plan: Plan) -> Result<Self, Failed> {
        let places = Arc::new(Semaphore::new(plan.concurrency as usize));
        let (begun, late) = (Instant::now(), Arc::default());
        let mut pace = Self { plan, begun, made: 0, places, late, paced: None };
        if let Some(rate) = plan.rate {
            // Each due call holds a place: no more wait here than there are places.
            let (queue, paced) = mpsc::unbounded_channel();
            let (places, late) = (pace.places.clone(), pace.late.clone());
            // A thread: the runtime's timers are exact to a millisecond only.
            let run = move || keep(plan, rate, begun, &places, &late, &queue);
            let started = std::thread::Builder::new().name("pace".to_owned()).spawn(run);
            started.map_err(|error| Failed::local("cannot start a thread", error))?;
            pace.paced = Some(paced);
        }
        Ok(pace)
    }

    /// The next call, once it is due; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<Due> {
        if let Some(paced) = &mut self.paced {
            return paced.recv().await;
        }
        if self.plan.calls.is_some_and(|calls| self.made >= calls) {
            return None;
        }
        let place = self.places.clone().acquire_owned();
        let place = match self.plan.lasts {
            Some(lasts) => tokio::time::timeout(lasts.saturating_sub(self.begun.elapsed()), place).await.ok()?,
            None => place.await,
        };
        if self.plan.lasts.is_some_and(|lasts| self.begun.elapsed() >= lasts) {
            return None;
        }
        self.made += 1;
        Some(Due { at: None, place: place.ok()? })
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

/// Hands out calls at their times, to the last one or until nobody wants them.
fn keep(
    plan: Plan,
    rate: f64,
    begun: Instant,
    places: &Arc<Semaphore>,
    late: &AtomicU64,
    queue: &mpsc::UnboundedSender<Due>,
) {
    for number in 0..plan.calls.unwrap_or(u64::MAX) {
        let after = Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX);
        let Some(at) = begun.checked_add(after) else { return };
        if plan.lasts.is_some_and(|lasts| after >= lasts) {
            return;
        }
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                if queue.send(Due { at: Some(at), place }).is_err() {
                    return;
                }
            }
            Err(_) if queue.is_closed() => return,
            Err(_) => {
                late.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
