//! How the program and the processes it starts talk: lines of JSON on standard input and output.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::exit;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Result};
use crate::measure::{Measured, Plan, Usage};
use crate::scenario::Scenario;

/// What a started process is to do: its first line of input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The engine's name.
    pub engine: String,
    /// What to serve or to load with.
    pub scenario: Scenario,
    /// The CPU to stay on.
    pub cpu: Option<usize>,
    /// For a load: whom to call, and for how long. A server gets none.
    pub load: Option<(String, Plan)>,
}

/// What a started process says, a line each.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A server listens here.
    Ready(String),
    /// A server's answer to a line of input.
    Usage(Usage),
    /// A load has come to this point.
    Phase(Phase),
    /// A load is done.
    Measured(Box<Measured>),
    /// Nothing more will come.
    Failed(String),
}

/// The points of a load's life at which the program looks at the server.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No connection is up. The load waits for a line.
    Before,
    /// The idle connections are up. The load waits for a line.
    Idle,
    /// The window opens.
    Open,
    /// The window has closed.
    Closed,
}

/// How a server says where it listens.
#[derive(Debug)]
pub struct Ready(());

impl Ready {
    /// It listens at `address`, and takes calls.
    pub fn tell(self, address: impl ToString) {
        say(&Line::Ready(address.to_string()));
    }
}

/// Tells the program where a load is.
pub fn announce(phase: Phase) {
    say(&Line::Phase(phase));
}

/// Tells the program where a load is and waits until it has looked.
pub fn announce_and_wait(phase: Phase) {
    announce(phase);
    let mut line = String::new();
    if stdin().lock().read_line(&mut line).unwrap_or(0) == 0 {
        // The program is gone.
        exit(1);
    }
}

/// How a program finds its engines by name.
pub type Find = fn(&str) -> Option<&'static dyn Engine>;

/// The life of a server's process. Ends with its input.
pub fn serve(find: Find) {
    end_server(order(find).and_then(|(order, engine)| answer(engine, &order)));
}

/// As [`serve`], for a program that a server's process has become: the order is `order`, the input goes on after it.
pub fn serve_as(engine: &dyn Engine, order: &str) {
    end_server(serde_json::from_str(order).map_err(Into::into).and_then(|order| answer(engine, &order)));
}

/// The life of a load's process.
pub fn load(find: Find) {
    end_load(order(find).and_then(|(order, engine)| ask(engine, &order)));
}

/// As [`load`], for a program that a load's process has become.
pub fn load_as(engine: &dyn Engine, order: &str) {
    end_load(serde_json::from_str(order).map_err(Into::into).and_then(|order| ask(engine, &order)));
}

fn answer(engine: &dyn Engine, order: &Order) -> Result<()> {
    thread::spawn(|| {
        for line in stdin().lock().lines() {
            match line {
                Ok(_) => say(&Line::Usage(Usage::now())),
                Err(_) => break,
            }
        }
        exit(0);
    });
    engine.serve(&order.scenario, Ready(()))
}

fn end_server(outcome: Result<()>) {
    let why = outcome.err().map_or_else(|| "the server has ended".to_owned(), |error| error.to_string());
    say(&Line::Failed(why));
    exit(1);
}

fn ask(engine: &dyn Engine, order: &Order) -> Result<Measured> {
    let (address, plan) = order.load.as_ref().ok_or("a load needs an address and a plan")?;
    engine.load(&order.scenario, address, plan)
}

fn end_load(outcome: Result<Measured>) {
    match outcome {
        Ok(measured) => say(&Line::Measured(Box::new(measured))),
        Err(error) => say(&Line::Failed(error.to_string())),
    }
    // What the engine left running is not waited for.
    exit(0);
}

fn order(find: Find) -> Result<(Order, &'static dyn Engine)> {
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    if let Some(cpu) = order.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let engine = find(&order.engine).ok_or("no such engine")?;
    Ok((order, engine))
}

fn say(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    let mut out = stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // Nobody listens any more.
        exit(1);
    }
}
