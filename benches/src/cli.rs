//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::engine::{Engine, Result, Standing};
use crate::engines::{ALL, find};
use crate::events::{self, events};
use crate::goals::goals;
use crate::html::page;
use crate::markdown::{BEGIN, END, all_tables, fill, goal_tables};
use crate::process;
use crate::results::Results;
use crate::scenario::Scenario;
use crate::scenarios::select;
use crate::session::{Options, length, machine, session};
use crate::table::table;

#[derive(Parser, Debug)]
#[command(name = "ringplane-benches", about = "Compares engines on scenarios")]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure
    Run(Run),
    /// Verify every byte of every answer and request, in smaller numbers
    Check(Choice),
    /// Measure events from one publisher to one subscriber, beside bare client libraries
    Events(EventsArgs),
    /// Show scenarios and engines
    List,
    /// Show results again
    Report(Report),
    #[command(hide = true)]
    ServeEngine,
    #[command(hide = true)]
    LoadEngine,
}

#[derive(Args, Debug)]
struct Choice {
    /// Names or beginnings of names; all if none are given
    scenarios: Vec<String>,
    /// Names or beginnings of names, separated by commas; the default set if none are given
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Leave the processes where the scheduler puts them, instead of the server on CPU 0 and the load on CPU 1
    #[arg(long)]
    no_pin: bool,
    /// The opposite, which is the default
    #[arg(long, conflicts_with = "no_pin")]
    pin: bool,
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    choice: Choice,
    /// Times each cell is run, interleaved
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Seconds of warm-up before each
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
    /// Only what goals compare, of the engines asked for or of all
    #[arg(long)]
    goals: bool,
    /// Keep the results here
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a page with charts here
    #[arg(long)]
    html: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct EventsArgs {
    /// Names or beginnings of names; all if none are given
    ways: Vec<String>,
    /// Times each way is run, interleaved
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds of warm-up before each
    #[arg(long, default_value_t = 0.2)]
    warmup: f64,
}

#[derive(Args, Debug)]
struct Report {
    /// What `run --json` has kept
    results: PathBuf,
    /// Write a page with charts here
    #[arg(long)]
    html: Option<PathBuf>,
    /// Write the goals into this document, between its marks; without the document one is made
    #[arg(long)]
    doc: Option<PathBuf>,
    /// Write everything into this document, in the same way
    #[arg(long)]
    appendix: Option<PathBuf>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Run(args) => run(&args),
        Command::Check(choice) => check(&choice),
        Command::Events(args) => events_of(&args),
        Command::List => list(),
        Command::Report(args) => report(&args),
        Command::ServeEngine => {
            process::serve(find);
            Ok(true)
        }
        Command::LoadEngine => {
            process::load(find);
            Ok(true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Run) -> Result<bool> {
    let options = Options {
        rounds: args.rounds,
        warmup: Duration::try_from_secs_f64(args.warmup)?,
        measure: Duration::try_from_secs_f64(args.seconds)?,
        pin: !args.choice.no_pin,
        check: false,
    };
    let results = measure(&args.choice, &options, args.goals)?;
    print!("{}", table(&results));
    if let Some(path) = &args.json {
        write(path, &serde_json::to_string(&results)?)?;
    }
    if let Some(path) = &args.html {
        write(path, &page(&results)?)?;
    }
    Ok(results.rows.iter().all(|row| row.trouble.is_none() || row.samples.is_empty()))
}

fn events_of(args: &EventsArgs) -> Result<bool> {
    let (measure, warmup) = (Duration::try_from_secs_f64(args.seconds)?, Duration::try_from_secs_f64(args.warmup)?);
    print!("{}", events(&args.ways, &events::Options { rounds: args.rounds, measure, warmup })?);
    Ok(true)
}

fn report(args: &Report) -> Result<bool> {
    let named = |error: serde_json::Error| format!("{}: {error}", args.results.display());
    let results: Results = serde_json::from_str(&read(&args.results)?).map_err(named)?;
    if let Some(path) = &args.html {
        write(path, &page(&results)?)?;
    }
    let documents: [(&Option<PathBuf>, Tables, &str); 2] =
        [(&args.doc, goal_tables, ""), (&args.appendix, all_tables, APPENDIX)];
    for (path, tables, head) in documents {
        let Some(path) = path else { continue };
        // A document that is not there yet has the tables and little else.
        let document = if path.exists() { read(path)? } else { format!("{head}{BEGIN}\n{END}\n") };
        let named = |error| format!("{}: {error}", path.display());
        write(path, &fill(&document, &tables(&results)?).map_err(named)?)?;
    }
    if args.html.is_none() && args.doc.is_none() && args.appendix.is_none() {
        print!("{}", table(&results));
    }
    Ok(true)
}

/// What writes the tables of results.
type Tables = fn(&Results) -> Result<String>;

/// How a new appendix begins.
const APPENDIX: &str =
    "# Performance: every cell\n\nWhat stands behind the goals of [performance.md](performance.md).\n\n";

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn measure(choice: &Choice, options: &Options, only_goals: bool) -> Result<Results> {
    let scenarios = select(&choice.scenarios)?;
    let engines = chosen(choice, only_goals)?;
    let (cells, length) = length(&scenarios, &engines, options);
    eprintln!("{cells} cells, {} rounds: about {:.0} min", options.rounds, (length.as_secs_f64() / 60.0).ceil());
    let rows = session(&scenarios, &engines, options, |row, cell| {
        let outcome = match (cell, &row.trouble) {
            (_, Some(trouble)) => trouble.clone(),
            (Some(cell), None) => format!("{} calls", cell.load.calls),
            (None, None) => "nothing".to_owned(),
        };
        eprintln!("{} {}: {outcome}", row.scenario.name, row.engine);
    });
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    Ok(Results { machine: machine(options.pin), command, rows })
}

fn check(choice: &Choice) -> Result<bool> {
    let zero = Duration::ZERO;
    let options = Options { rounds: 1, warmup: zero, measure: zero, pin: !choice.no_pin, check: true };
    let mut right = true;
    for row in measure(choice, &options, false)?.rows {
        let outcome = match (&row.trouble, row.samples.first()) {
            (Some(trouble), _) => trouble.clone(),
            (None, Some(sample)) => format!("{} calls, every byte right", sample.count),
            (None, None) => "not run".to_owned(),
        };
        let engine = find(&row.engine);
        let excused =
            engine.is_some_and(|engine| engine.prepare().is_err() || engine.unsupported(&row.scenario).is_some());
        right &= row.trouble.is_none() || excused;
        println!("{:<20}{:<30}{outcome}", row.scenario.name, row.engine);
    }
    Ok(right)
}

fn list() -> Result<bool> {
    println!("scenarios");
    for scenario in select(&[])? {
        println!("  {:<20}{}", scenario.name, scenario.about);
    }
    println!("engines");
    for engine in ALL {
        let note = match engine.standing() {
            Standing::Usual => "",
            Standing::Asked => " (when asked for)",
            Standing::Variant => " (when asked for by its whole name)",
        };
        println!("  {:<30}{}{note}", engine.name(), engine.about());
    }
    Ok(true)
}

/// The engines that run a scenario.
fn chosen(choice: &Choice, only_goals: bool) -> Result<impl Fn(&Scenario) -> Vec<&'static dyn Engine> + use<>> {
    let mut wanted: Vec<&str> = Vec::new();
    for want in &choice.engines {
        let found = named(want);
        if found.is_empty() {
            let names: Vec<&str> = ALL.iter().map(|engine| engine.name()).collect();
            return Err(format!("no engine is called {want}; there are {}", names.join(", ")).into());
        }
        wanted.extend(found);
    }
    let goals = if only_goals { goals()? } else { Vec::new() };
    let usual = |engine: &dyn Engine, scenario: &Scenario| {
        let beginnings = &scenario.engines;
        engine.standing() == Standing::Usual
            && (beginnings.is_empty() || beginnings.iter().any(|beginning| engine.name().starts_with(beginning)))
    };
    Ok(move |scenario: &Scenario| {
        let needed = |engine: &&dyn Engine| goals.iter().any(|goal| goal.needs(engine.name(), scenario));
        let runs = |engine: &&dyn Engine| match wanted.as_slice() {
            _ if only_goals && !needed(engine) => false,
            [] if only_goals => engine.standing() != Standing::Variant,
            [] => usual(*engine, scenario),
            wanted => wanted.contains(&engine.name()),
        };
        ALL.iter().copied().filter(runs).collect()
    })
}

/// The engine of this whole name; else those whose names begin so, but for variants.
fn named(want: &str) -> Vec<&'static str> {
    let names = |fits: &dyn Fn(&dyn Engine) -> bool| -> Vec<&'static str> {
        ALL.iter().filter(|engine| fits(**engine)).map(|engine| engine.name()).collect()
    };
    let exact = names(&|engine| engine.name() == want);
    if !exact.is_empty() {
        return exact;
    }
    names(&|engine| engine.name().starts_with(want) && engine.standing() != Standing::Variant)
}
