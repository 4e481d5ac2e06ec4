//! `ringplane demo`: workers and a caller in one process, items as they arrive, a short table at the end.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringplane::Signals;
use ringplane::{CallRequest, Client, Config, DriverInfo, Failure, Request, Responder, Worker};
use ringplane_core::route::policy::any::AnyPolicy;

use crate::exit::{Exit, Failed};
use crate::lines::Lines;
use crate::observe;
use crate::options::{Driver, router, routers};
use crate::serve::clean;
use crate::streams::unread;

const ENDPOINT: &str = "demo.backend.generate";
/// What a handler waits between items.
const PAUSE: Duration = Duration::from_millis(15);
/// Items that are shown.
const SHOWN: usize = 32;
/// Characters of an item that are shown.
const WIDTH: usize = 48;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    driver: Driver,
    /// Workers, each with a thread of its own; as many calls run at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Calls
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls: u32,
    /// Items per call
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    items: u32,
    /// Bytes per item
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    size: u32,
    #[arg(long, default_value = "round-robin", value_name = "POLICY", value_parser = router, help = routers())]
    router: AnyPolicy,
}

/// Runs it all and stops it all.
pub(crate) async fn run(args: Args) -> Result<(), Failed> {
    let mut signals = Signals::new()?;
    // Room for all it says: workers, items and the table never wait for a reader.
    let lines = Lines::start(usize::from(args.workers) + SHOWN + 16)?;
    let config = Config { driver: args.driver.driver, ..Config::default() };
    let mut workers = Vec::new();
    for number in 1..=args.workers {
        let worker = start(number, &args, &config).await?;
        say(&lines, format!("worker {number} listens on {}, instance {}", worker.addr(), worker.instance_id())).await;
        workers.push(worker);
    }
    let client =
        observe::client(Client::builder()).discovery("mem").router(args.router.clone()).config(config).connect()?;
    say(&lines, format!("driver {}\n", client.driver())).await;

    let seen = RefCell::new(Seen::new());
    let outcome = tokio::select! {
        biased;
        () = signals.next() => Err(Failed::new(Exit::Cancelled, "interrupted")),
        outcome = all_calls(&client, &args, &seen, &lines) => outcome,
        () = lines.unread() => Err(unread()),
    };
    let driver = client.driver().clone();
    let mut ended = clean(client.shutdown().await);
    for worker in workers {
        ended = ended.and(clean(worker.shutdown().await));
    }
    let table = Table { seen: &seen.into_inner(), driver: &driver }.to_string();
    say(&lines, format!("\n{}", table.trim_end())).await;
    let written = tokio::select! {
        biased;
        written = lines.finish() => written,
        () = signals.next() => Err(Failed::new(Exit::Cancelled, "interrupted")),
    };
    written.and(outcome).and(ended)
}

/// Hands some lines to the output. One that takes none is noticed at the end.
async fn say(lines: &Lines, text: String) {
    let _ = lines.put(text).await;
}

async fn start(number: u16, args: &Args, config: &Config) -> Result<Worker, Failed> {
    let (items, size) = (args.items, args.size as usize);
    let handler = move |mut request: Request, out: Responder| async move {
        let prompt = request.body().await?;
        let prompt = str::from_utf8(&prompt).map_err(Failure::invalid)?;
        for i in 1..=items {
            if i > 1 {
                out.node().env().sleep(PAUSE).await;
            }
            out.send(item(number, prompt, i, size)).await?;
        }
        Ok(())
    };
    Ok(observe::worker(Worker::builder())
        .endpoint(ENDPOINT, handler)
        .discovery("mem")
        .config(config.clone())
        .serve()
        .await?)
}

/// A readable text of exactly `size` bytes.
fn item(worker: u16, prompt: &str, i: u32, size: usize) -> String {
    let mut text = format!("worker {worker} answers {prompt}: item {i} ");
    text.extend(std::iter::repeat_n('.', size.saturating_sub(text.len())));
    text.truncate(size);
    text
}

/// Makes the calls, as many at once as there are workers.
async fn all_calls(client: &Client, args: &Args, seen: &RefCell<Seen>, lines: &Lines) -> Result<(), Failed> {
    let lanes = (1..=u32::from(args.workers)).map(|first| {
        let numbers = (first..=args.calls).step_by(usize::from(args.workers));
        async move {
            for number in numbers {
                one_call(client, number, seen, lines).await?;
            }
            Ok(())
        }
    });
    join(lanes).await.into_iter().collect()
}

/// Drives futures side by side until each is done.
async fn join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, result)| result).collect()
}

async fn one_call(client: &Client, number: u32, seen: &RefCell<Seen>, lines: &Lines) -> Result<(), Failed> {
    let begun = Instant::now();
    let mut call = client.call(CallRequest::new(ENDPOINT, format!("call {number}")))?;
    let mut last = None;
    while let Some(item) = call.next().await {
        match item {
            Ok(item) => {
                let shown = seen.borrow_mut().item(begun, last.replace(Instant::now()), &item);
                if let Some(line) = shown {
                    say(lines, line).await;
                }
            }
            Err(error) => {
                seen.borrow_mut().failed += 1;
                return Err(error.into());
            }
        }
    }
    seen.borrow_mut().done += 1;
    Ok(())
}

/// What the caller saw.
struct Seen {
    begun: Instant,
    done: u64,
    failed: u64,
    items: u64,
    bytes: u64,
    shown: usize,
    /// Microseconds from a call to its first item.
    first: Histogram<u64>,
    /// Microseconds from an item to the next.
    gaps: Histogram<u64>,
}

impl Seen {
    fn new() -> Self {
        // Two significant digits up to an hour; more is recorded as an hour.
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("the bounds are in order");
        let (first, gaps) = (histogram(), histogram());
        Self { begun: Instant::now(), done: 0, failed: 0, items: 0, bytes: 0, shown: 0, first, gaps }
    }

    /// Counts an item; its line while there is still something to show.
    fn item(&mut self, begun: Instant, last: Option<Instant>, item: &[u8]) -> Option<String> {
        let waited = u64::try_from(last.unwrap_or(begun).elapsed().as_micros()).unwrap_or(u64::MAX);
        if last.is_some() {
            self.gaps.saturating_record(waited)
        } else {
            self.first.saturating_record(waited)
        }
        self.items += 1;
        self.bytes += item.len() as u64;
        self.shown += 1;
        let at = self.begun.elapsed().as_secs_f64() * 1e3;
        if self.shown <= SHOWN {
            let text = String::from_utf8_lossy(item.get(..WIDTH).unwrap_or(item));
            Some(format!("{at:8.1} ms  {text}"))
        } else {
            (self.shown == SHOWN + 1).then(|| format!("{at:8.1} ms  … further items are counted, not shown"))
        }
    }
}

/// The numbers at the end.
struct Table<'a> {
    seen: &'a Seen,
    driver: &'a DriverInfo,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { done, failed, items, bytes, .. } = self.seen;
        let calls = if *failed == 0 { done.to_string() } else { format!("{done}, and {failed} failed") };
        for (name, value) in [
            ("calls", calls),
            ("items", items.to_string()),
            ("bytes", bytes.to_string()),
            ("first item", quantiles(&self.seen.first)),
            ("next item", quantiles(&self.seen.gaps)),
            ("driver", self.driver.to_string()),
        ] {
            writeln!(f, "{name:<12}{value}")?;
        }
        Ok(())
    }
}

/// `p50 0.1 ms  p99 0.2 ms`, or a dash.
fn quantiles(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::new();
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let millis = Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64() * 1e3;
        let _ = write!(text, "{name} {millis:<9.3}");
    }
    text + "ms"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_the_size_asked_for() {
        for size in [0, 1, 20, 64, 5000] {
            assert_eq!(item(3, "call 7", 2, size).len(), size);
        }
    }

    #[test]
    fn the_table_names_every_number_and_says_nothing_where_nothing_was_seen() {
        let mut seen = Seen::new();
        seen.item(Instant::now(), None, b"12345");
        seen.done = 1;
        let driver = DriverInfo { name: "tokio", why: "as configured".to_owned() };
        let table = Table { seen: &seen, driver: &driver }.to_string();
        for row in ["calls       1\n", "items       1\n", "bytes       5\n", "next item   -\n", "tokio (as configured)"]
        {
            assert!(table.contains(row), "{table}");
        }
    }
}
