//! A whole run: which cells in which order, and what they have shown.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::Engine;
use crate::measure::{Latencies, Plan};
use crate::results::{Machine, Row, Sample, curve};
use crate::runner::{Cell, run};
use crate::scenario::Scenario;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Times each cell is run.
    pub rounds: usize,
    /// Before each measurement.
    pub warmup: Duration,
    /// How long to measure, times a scenario's own factor.
    pub measure: Duration,
    /// Server and load on a CPU each.
    pub pin: bool,
    /// Check instead of measuring.
    pub check: bool,
}

/// In check mode no scenario has more calls in flight.
const CHECK_IN_FLIGHT: usize = 256;
/// In check mode no scenario has more idle connections.
const CHECK_IDLE: usize = 200;
/// In check mode about so many bytes of bodies are compared.
const CHECK_BYTES: usize = 128 << 20;

/// Runs every engine on every scenario it can do. Rounds are interleaved: all engines once, then all again, with a
/// scenario and its baseline next to each other. `tell` hears of every cell.
pub fn session(
    scenarios: &[Scenario],
    engines: &impl Fn(&Scenario) -> Vec<&'static dyn Engine>,
    options: &Options,
    mut tell: impl FnMut(&Row, Option<&Cell>),
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for group in groups(scenarios) {
        let mut work: Vec<Work> = Vec::new();
        for engine in of_group(&group, engines) {
            for scenario in &group {
                let scenario = if options.check { shrunk(scenario) } else { (*scenario).clone() };
                let mut row = Row::new(scenario, engine.name().to_owned());
                let unprepared = || engine.prepare().err().map(|error| error.to_string());
                row.trouble = engine.unsupported(&row.scenario).map(str::to_owned).or_else(unprepared);
                work.push(Work { engine, row, latencies: Default::default() });
            }
        }
        for _ in 0..options.rounds {
            work.iter_mut().filter(|work| work.row.trouble.is_none()).for_each(|work| work.round(options, &mut tell));
        }
        work.sort_by_key(|work| group.iter().position(|scenario| scenario.name == work.row.scenario.name));
        rows.extend(work.into_iter().map(Work::into_row));
    }
    rows
}

/// The engines that run the scenarios of a group: what one of them needs, its baseline needs too.
fn of_group(group: &[&Scenario], engines: &impl Fn(&Scenario) -> Vec<&'static dyn Engine>) -> Vec<&'static dyn Engine> {
    group.first().map(|first| engines(first)).unwrap_or_default()
}

/// Seconds that a cell takes beside what it measures: two processes that start, meet and end.
const AROUND: f64 = 0.3;

/// How many cells a run has, and about how long it takes.
pub fn length(
    scenarios: &[Scenario],
    engines: &impl Fn(&Scenario) -> Vec<&'static dyn Engine>,
    options: &Options,
) -> (usize, Duration) {
    let (mut cells, mut seconds) = (0, 0.0);
    for group in groups(scenarios) {
        for engine in of_group(&group, engines) {
            for scenario in group.iter().filter(|scenario| engine.unsupported(scenario).is_none()) {
                cells += 1;
                seconds += AROUND + (options.warmup + options.measure.mul_f64(scenario.length)).as_secs_f64();
            }
        }
    }
    (cells, Duration::from_secs_f64(seconds * options.rounds as f64))
}

/// The machine this runs on.
pub fn machine(pinned: bool) -> Machine {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Machine {
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        cpu: cpu.map_or("unknown", |(_, name)| name).to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        pinned,
    }
}

/// A row under way.
struct Work {
    engine: &'static dyn Engine,
    row: Row,
    latencies: [Vec<Latencies>; 3],
}

impl Work {
    fn round(&mut self, options: &Options, tell: &mut impl FnMut(&Row, Option<&Cell>)) {
        let scenario = &self.row.scenario;
        let body = scenario.request_bytes + scenario.items * scenario.item_bytes;
        let calls = (scenario.in_flight * 2).max(64).min((CHECK_BYTES / body.max(1)).max(2));
        let plan = Plan {
            warmup: options.warmup,
            measure: options.measure.mul_f64(scenario.length),
            check: options.check.then_some(calls as u64),
        };
        let dials = dials();
        let cell = match run(self.engine, scenario, &plan, options.pin) {
            Ok(cell) => cell,
            Err(error) => {
                self.row.trouble = Some(error.to_string());
                return tell(&self.row, None);
            }
        };
        if let Some(failure) = &cell.load.failure {
            self.row.trouble = Some(format!("{} calls failed, the first: {failure}", cell.load.failures));
        } else if cell.load.items == 0 {
            self.row.trouble = Some("nothing has come back".to_owned());
        } else if scenario.churn && dials_since(dials) < cell.load.calls {
            self.row.trouble = Some("calls have shared connections".to_owned());
        }
        self.row.samples.push(Sample::of(&cell));
        let all = [&cell.load.call, &cell.load.first, &cell.load.gap];
        self.latencies.iter_mut().zip(all).for_each(|(kept, new)| kept.push(new.clone()));
        tell(&self.row, Some(&cell));
    }

    fn into_row(self) -> Row {
        let [call, first, gap] = self.latencies.map(|kept| curve(kept.iter()));
        Row { call, first, gap, ..self.row }
    }
}

/// Scenarios with their baselines beside them.
fn groups(scenarios: &[Scenario]) -> Vec<Vec<&Scenario>> {
    let is_baseline = |name: &str| scenarios.iter().any(|other| other.baseline.as_deref() == Some(name));
    let leaders = scenarios.iter().filter(|scenario| !is_baseline(&scenario.name));
    let baseline = |leader: &Scenario| scenarios.iter().find(|other| leader.baseline.as_ref() == Some(&other.name));
    leaders.map(|leader| std::iter::once(leader).chain(baseline(leader)).collect()).collect()
}

/// TCP connections dialed on this host so far, by whomever, if the kernel says so (RFC 4022, tcpActiveOpens).
fn dials() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_ascii_whitespace);
    let (mut names, mut values) = (lines.next()?, lines.next()?);
    let place = names.position(|name| name == "ActiveOpens")?;
    values.nth(place)?.parse().ok()
}

/// Dials since `before`; as many as can be wished for where nobody counts.
fn dials_since(before: Option<u64>) -> u64 {
    dials().zip(before).map_or(u64::MAX, |(now, before)| now.saturating_sub(before))
}

/// The same traffic with fewer of everything that only costs time.
fn shrunk(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.in_flight = scenario.in_flight.min(CHECK_IN_FLIGHT);
    scenario.idle = scenario.idle.min(CHECK_IDLE);
    scenario
}
