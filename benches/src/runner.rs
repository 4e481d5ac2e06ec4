//! Runs cells: one engine on one scenario, a process for each side.

use std::env::current_exe;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Result};
use crate::line::{Line, Phase};
use crate::measure::{Measured, Plan};
use crate::process::Order;
use crate::scenario::Scenario;
use crate::usage::Usage;

/// What one cell has shown.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The load's side.
    pub load: Measured,
    /// What the server used while the window was open; memory as it was when it closed.
    pub server: Usage,
    /// Bytes of the server's memory for each idle connection, if there were some.
    pub idle: Option<f64>,
}

/// The longest a process may be silent beyond the plan.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `engine` on `scenario` once. With `pin`, the server stays on CPU 0 and the load on CPU 1.
///
/// # Errors
/// What went wrong in either process.
pub fn run(engine: &dyn Engine, scenario: &Scenario, plan: &Plan, pin: bool) -> Result<Cell> {
    let order = |cpu, load| Order { engine: engine.name().to_owned(), scenario: scenario.clone(), cpu, load };
    let patience = PATIENCE + plan.warmup + plan.measure;
    let mut server = Process::start("serve-engine", &order(pin.then_some(0), None), patience)?;
    let Line::Ready(address) = server.line()? else { return Err("the server does not say where it listens".into()) };
    let last = thread::available_parallelism().map_or(1, usize::from).saturating_sub(1);
    let mut load = Process::start("load-engine", &order(pin.then_some(last.min(1)), Some((address, *plan))), patience)?;
    let (mut before, mut idle, mut open, mut closed) = (None, None, None, None);
    let measured = loop {
        match load.line()? {
            Line::Phase(phase) => {
                let usage = server.usage()?;
                match phase {
                    Phase::Before => before = Some(usage),
                    Phase::Idle => idle = Some(usage),
                    Phase::Open => open = Some(usage),
                    Phase::Closed => closed = Some(usage),
                }
                if matches!(phase, Phase::Before | Phase::Idle) {
                    load.go_on()?;
                }
            }
            Line::Measured(measured) => break *measured,
            line => return Err(format!("the load says {line:?}").into()),
        }
    };
    let (Some(open), Some(closed)) = (open, closed) else { return Err("the load has not measured".into()) };
    let per_idle = |before: Usage, idle: Usage| idle.resident.saturating_sub(before.resident) as f64;
    let idle = before.zip(idle).map(|(before, idle)| per_idle(before, idle) / scenario.idle.max(1) as f64);
    Ok(Cell { load: measured, server: closed.since(open), idle })
}

/// A process that talks in lines.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Result<Line>>,
    patience: Duration,
}

impl Process {
    fn start(command: &str, order: &Order, patience: Duration) -> Result<Self> {
        let mut child =
            Command::new(current_exe()?).arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no output to read")?;
        let input = child.stdin.take();
        let (tell, lines) = sync_channel(16);
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.map_err(Into::into).and_then(|line| serde_json::from_str(&line).map_err(Into::into));
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let mut process = Self { child, input, lines, patience };
        process.send(&serde_json::to_string(order)?)?;
        Ok(process)
    }

    fn send(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or("the process is told nothing more")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    fn go_on(&mut self) -> Result<()> {
        self.send("go on")
    }

    fn line(&mut self) -> Result<Line> {
        match self.lines.recv_timeout(self.patience) {
            Ok(Ok(Line::Failed(why))) => Err(why.into()),
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Err("a process has been silent for too long".into()),
            Err(RecvTimeoutError::Disconnected) => Err(format!("a process has ended: {}", self.child.wait()?).into()),
        }
    }

    fn usage(&mut self) -> Result<Usage> {
        self.send("usage")?;
        match self.line()? {
            Line::Usage(usage) => Ok(usage),
            line => Err(format!("the server says {line:?}").into()),
        }
    }
}

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
