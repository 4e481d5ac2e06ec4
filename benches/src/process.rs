//! The life of a started process: one side of one engine.

use std::env::args;
use std::io::{BufRead, stdin};
use std::process::{ExitCode, exit};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Result, Sides};
use crate::line::{Line, Ready, say};
use crate::measure::{Measured, Plan};
use crate::scenario::Scenario;
use crate::usage::Usage;

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

/// How a program finds its engines by name.
pub type Find = fn(&str) -> Option<&'static dyn Engine>;

/// The life of a server's process. Ends with its input.
pub fn serve(find: Find) {
    end_server(order(find).and_then(|(order, engine)| answer(engine, &order)));
}

/// The life of a load's process.
pub fn load(find: Find) {
    end_load(order(find).and_then(|(order, engine)| ask(engine, &order)));
}

/// The whole life of a program that a server's or load's process has become: its role and its order are its arguments, the
/// input goes on after what its predecessor has read. `find` knows the engine's settings by its name.
pub fn peer(find: impl Fn(&str) -> Option<&'static dyn Sides>) -> ExitCode {
    let [role, text] = args().skip(1).collect::<Vec<_>>().try_into().unwrap_or_default();
    let order = || -> Result<(Order, &'static dyn Sides)> {
        let order: Order = serde_json::from_str(&text)?;
        let sides = find(&order.engine).ok_or("no such engine")?;
        Ok((order, sides))
    };
    match role.as_str() {
        "serve-engine" => end_server(order().and_then(|(order, sides)| answer(sides, &order))),
        "load-engine" => end_load(order().and_then(|(order, sides)| ask(sides, &order))),
        _ => eprintln!("run it with `ringplane-benches run --engines NAME`"),
    }
    ExitCode::FAILURE
}

fn answer(engine: &dyn Sides, order: &Order) -> Result<()> {
    thread::spawn(|| {
        for line in stdin().lock().lines() {
            match line {
                Ok(_) => say(&Line::Usage(Usage::now())),
                Err(_) => break,
            }
        }
        exit(0);
    });
    engine.serve(&order.scenario, Ready::new())
}

fn end_server(outcome: Result<()>) {
    let why = outcome.err().map_or_else(|| "the server has ended".to_owned(), |error| error.to_string());
    say(&Line::Failed(why));
    exit(1);
}

fn ask(engine: &dyn Sides, order: &Order) -> Result<Measured> {
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
