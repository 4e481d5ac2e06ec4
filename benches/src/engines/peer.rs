//! Engines that are programs of their own, built when they are asked for, that speak as this one's processes do.

use std::collections::HashMap;
use std::env::{current_exe, temp_dir};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};
use std::sync::{Mutex, PoisonError};

use crate::engine::{Engine, Offers, Result, Sides, Standing};
use crate::line::Ready;
use crate::measure::{Measured, Plan};
use crate::process::Order;
use crate::scenario::Scenario;

/// An engine in `peers/`: a server's or load's process becomes that program. Its settings are told apart by the engine's
/// name.
#[derive(Debug)]
pub struct Peer {
    /// The engine's name.
    pub name: &'static str,
    /// What it is and how it is configured, in one line.
    pub about: &'static str,
    /// When it runs.
    pub standing: Standing,
    /// What it does for its users.
    pub offers: Offers,
    /// The program.
    pub program: &'static Program,
    /// Why it cannot run a scenario, if it cannot.
    pub unsupported: fn(&Scenario) -> Option<&'static str>,
}

/// A program in `peers/`.
#[derive(Debug)]
pub struct Program {
    /// Its folder in `peers/`, and the end of its package's name.
    pub folder: &'static str,
    /// How it comes to be.
    pub kind: Kind,
    /// What it needs that a toolchain does not bring, for people.
    pub needs: &'static str,
    /// Its environment when it runs. `{records}` is a folder that both sides know.
    pub environment: &'static [(&'static str, &'static str)],
}

/// How a program comes to be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Built by cargo, with these flags for the compiler.
    Cargo(&'static str),
    /// Run by python3, with this package from PyPI.
    Python(&'static str),
}

/// Outcomes of this process: each program is made once.
static MADE: Mutex<Option<HashMap<&'static str, Result<(), String>>>> = Mutex::new(None);

impl Program {
    /// Makes it, or makes sure that it is as its source says.
    ///
    /// # Errors
    /// What it cannot be made for, and what it needs.
    pub fn make(&self) -> Result<()> {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.get_or_insert_default();
        let outcome = made.entry(self.folder).or_insert_with(|| {
            let told = |error: Box<dyn std::error::Error + Send + Sync>| format!("{error}; it needs {}", self.needs);
            self.make_anew().map_err(told)
        });
        Ok(outcome.clone()?)
    }

    fn make_anew(&self) -> Result<()> {
        let mut command = match self.kind {
            Kind::Cargo(flags) => {
                let mut command = Command::new("cargo");
                command.args(["build", "--release", "--quiet", "--manifest-path"]).arg(self.source("Cargo.toml"));
                command.arg("--target-dir").arg(self.target()?);
                if !flags.is_empty() {
                    command.env("RUSTFLAGS", flags);
                }
                command
            }
            Kind::Python(_) if self.target()?.is_dir() => return Ok(()),
            Kind::Python(package) => {
                let mut command = Command::new("python3");
                let install =
                    ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
                command.args(install).arg(self.target()?).arg(package);
                command
            }
        };
        if !self.target()?.is_dir() {
            eprintln!("making the peer {} (once): {command:?}", self.folder);
        }
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        if done.success() { Ok(()) } else { Err(format!("could not make the peer {}", self.folder).into()) }
    }

    /// A file of its source.
    fn source(&self, file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.folder).join(file)
    }

    /// Where it is put: beside what cargo builds of this workspace.
    fn target(&self) -> Result<PathBuf> {
        let target = current_exe()?.ancestors().nth(2).ok_or("no place for peers")?.join("peers");
        Ok(target.join(self.folder))
    }

    /// A command that runs it.
    ///
    /// # Errors
    /// If its place is not known.
    pub fn command(&self) -> Result<Command> {
        let target = self.target()?;
        Ok(match self.kind {
            Kind::Cargo(_) => Command::new(target.join("release").join(format!("ringplane-peer-{}", self.folder))),
            Kind::Python(_) => {
                let mut command = Command::new("python3");
                command.arg(self.source("peer.py")).env("PYTHONPATH", target);
                command
            }
        })
    }
}

impl Peer {
    /// Becomes the program.
    fn run(&self, role: &str, records: &str, scenario: &Scenario, load: Option<(String, Plan)>) -> Result<()> {
        let order = Order { engine: self.name.to_owned(), scenario: scenario.clone(), cpu: None, load };
        let mut command = self.program.command()?;
        command.arg(role).arg(serde_json::to_string(&order)?);
        command.envs(self.program.environment.iter().map(|(name, value)| (name, value.replace("{records}", records))));
        Err(command.exec().into())
    }
}

impl Engine for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn standing(&self) -> Standing {
        self.standing
    }

    fn offers(&self) -> Offers {
        self.offers
    }

    fn prepare(&self) -> Result<()> {
        self.program.make()
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        let spins = scenario.spins().then_some("has no busy polling");
        spins.or_else(|| (self.unsupported)(scenario))
    }
}

impl Sides for Peer {
    fn serve(&self, scenario: &Scenario, _: Ready) -> Result<()> {
        let records = temp_dir().join(format!("ringplane-{}-{}", self.program.folder, id()));
        self.run("serve-engine", &records.to_string_lossy(), scenario, None)
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        self.run("load-engine", address, scenario, Some((address.to_owned(), *plan)))?;
        Err("the peer did not start".into())
    }
}
