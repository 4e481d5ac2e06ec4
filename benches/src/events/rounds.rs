//! Rounds of all ways, interleaved, and what came of them as a table.

use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use tokio::time::sleep;

use crate::engine::Result;
use crate::engines::peer::Program;
use crate::events::ways::{Ends, Side, WAYS, Way};
use crate::local::run;

/// Bytes of an event's payload.
const PAYLOAD: usize = 128;
/// Events that may be on their way: more and the publisher waits, so that what is measured is what arrives.
const WINDOW: u64 = 16_384;
/// The longest that both ends may take to meet.
const MEETING: Duration = Duration::from_secs(20);

/// How much is measured.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// Times each way is run, interleaved.
    pub rounds: usize,
    /// The length of each.
    pub measure: Duration,
    /// Time before it that does not count.
    pub warmup: Duration,
}

/// What both ends of a way share.
#[derive(Debug)]
pub(super) struct Place {
    /// Where they meet: a server's address, or a name that nothing else has.
    pub(super) address: String,
    pub(super) payload: Vec<u8>,
    sent: AtomicU64,
    heard: AtomicU64,
    lost: AtomicU64,
    over: AtomicBool,
    ready: Sender<()>,
}

impl Place {
    /// The subscriber listens.
    pub(super) fn is_ready(&self) {
        // One that nobody waits for any more is no failure of its own.
        let _ = self.ready.send(());
    }

    /// So many events have come, and so many were told as missing.
    pub(super) fn heard(&self, events: u64, lost: u64) {
        self.heard.fetch_add(events, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// So many events have been published. Waits until few enough are on their way; `false` when it is over.
    pub(super) async fn goes_on(&self, events: u64) -> bool {
        let sent = self.sent.fetch_add(events, Ordering::Relaxed) + events;
        while !self.is_over() {
            let done = self.heard.load(Ordering::Relaxed) + self.lost.load(Ordering::Relaxed);
            if done == 0 {
                // What is published before both ends have met is not waited for.
                self.sent.store(0, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
                return true;
            }
            if sent.saturating_sub(done) < WINDOW {
                return true;
            }
            sleep(Duration::from_millis(1)).await;
        }
        false
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Measures the ways whose names begin with one of `wanted`, all if none are wanted, and what they are compared with: a table.
///
/// # Errors
/// The first thing that goes wrong.
pub fn events(wanted: &[String], options: &Options) -> Result<String> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|want| name.starts_with(want.as_str()));
    let asked: Vec<&Way> = WAYS.iter().filter(|way| is_wanted(way.name)).collect();
    if asked.is_empty() {
        let names: Vec<&str> = WAYS.iter().map(|way| way.name).collect();
        return Err(format!("there are {}", names.join(", ")).into());
    }
    let is_bare = |way: &&Way| asked.iter().any(|one| one.name == way.name || one.bare.contains(&way.name));
    // What cannot be had here is left out, unless it was asked for.
    let can_be_had = |way: &&Way| match &way.ends {
        Ends::Here { .. } => Ok(true),
        Ends::Program(program) => match program.make() {
            Err(error) if !wanted.iter().any(|want| way.name.starts_with(want.as_str())) => {
                eprintln!("without {}: {error}", way.name);
                Ok(false)
            }
            made => made.map(|()| true),
        },
    };
    let mut ways = Vec::new();
    for way in WAYS.iter().filter(is_bare) {
        if can_be_had(&way)? {
            ways.push(way);
        }
    }
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    for round in 0..options.rounds.max(1) {
        for (way, rates) in ways.iter().zip(&mut rates) {
            let (rate, lost) = measured(way, options)?;
            eprintln!("round {round}: {}: {rate:.0} events/s, {lost} missing", way.name);
            rates.push(rate);
        }
    }
    Ok(table(&ways, &rates))
}

/// One way: events that arrive each second, and events that were told as missing.
fn measured(way: &Way, options: &Options) -> Result<(f64, u64)> {
    let (place, listen, speak) = match &way.ends {
        Ends::Here { place, listen, speak } => (place, *listen, *speak),
        Ends::Program(program) => return measured_by(program, options),
    };
    let (tell, told) = channel();
    let place = Arc::new(Place {
        address: place()?,
        payload: vec![7; PAYLOAD],
        sent: AtomicU64::new(0),
        heard: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        over: AtomicBool::new(false),
        ready: tell,
    });
    side(listen, &place);
    wait(&told)?;
    side(speak, &place);
    let begun = Instant::now();
    while place.heard.load(Ordering::Relaxed) == 0 {
        if begun.elapsed() > MEETING {
            return Err(format!("{}: no event arrives", way.name).into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(options.warmup);
    let (before, begun) = (place.heard.load(Ordering::Relaxed), Instant::now());
    thread::sleep(options.measure);
    let (after, took) = (place.heard.load(Ordering::Relaxed), begun.elapsed());
    place.over.store(true, Ordering::Relaxed);
    Ok(((after - before) as f64 / took.as_secs_f64(), place.lost.load(Ordering::Relaxed)))
}

/// By a program whose both ends are threads of it. It prints how many events arrived each second.
fn measured_by(program: &Program, options: &Options) -> Result<(f64, u64)> {
    let millis = [options.warmup, options.measure].map(|time| time.as_millis().to_string());
    let sizes = [PAYLOAD.to_string(), WINDOW.to_string()];
    let output = program.command()?.arg("events").args(millis).args(sizes).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the peer {} ended with {}", program.folder, output.status).into());
    }
    Ok((String::from_utf8(output.stdout)?.trim().parse()?, 0))
}

/// One end on a thread of its own, which is left to itself in the end.
fn side(side: Side, place: &Arc<Place>) {
    let place = Arc::clone(place);
    thread::spawn(move || {
        let main: LocalBoxFuture<'_, Result<()>> = side(&place);
        if let Err(error) = run(main)
            && !place.is_over()
        {
            eprintln!("{error}");
        }
    });
}

fn wait(told: &Receiver<()>) -> Result<()> {
    told.recv_timeout(MEETING).map_err(|_| "a subscriber does not begin".into())
}

fn table(ways: &[&Way], rates: &[Vec<f64>]) -> String {
    let mut text = format!("{:<22} {:>12}  {}\n", "events of 128 B", "a second", "beside the bare library");
    for (way, own) in ways.iter().zip(rates) {
        let ratios = way.bare.iter().filter_map(|bare| {
            let at = ways.iter().position(|other| other.name == *bare)?;
            let ratios = own.iter().zip(rates.get(at)?).map(|(own, bare)| own / bare);
            Some(format!("{:.2} of {bare}", median(ratios.collect())))
        });
        let ratios: Vec<String> = ratios.collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<22} {:>12.0}  {}", way.name, median(own.clone()), ratios.join(", "));
    }
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_server_carries_events() {
        let options = Options { rounds: 1, measure: Duration::from_millis(1), warmup: Duration::ZERO };
        for name in ["ringplane-inproc", "ringplane-mux"] {
            // One that carries nothing is an error.
            assert!(events(&[name.to_owned()], &options).unwrap().contains(name));
        }
    }

    #[test]
    fn ratios_are_those_of_each_round() {
        let ways: Vec<&Way> = WAYS.iter().filter(|way| way.name.contains("nats")).collect();
        let text = table(&ways, &[vec![1.0, 30.0, 2.0], vec![2.0, 10.0, 4.0]]);
        assert!(text.contains("0.50 of ") && text.contains(" 2  "), "{text}");
        assert!(
            events(&["nothing".to_owned()], &Options { rounds: 1, measure: Duration::ZERO, warmup: Duration::ZERO })
                .is_err()
        );
    }
}
