//! Dynamo: a program of its own, built only when asked, that speaks as this one's processes do.

use std::env::current_exe;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio, id};

use crate::engine::{Engine, Result};
use crate::line::Ready;
use crate::measure::{Measured, Plan};
use crate::process::Order;
use crate::scenario::Scenario;

/// `dynamo-runtime` 1.6.1, in `peers/dynamo`. A server's or load's process becomes that program.
#[derive(Copy, Clone, Debug)]
pub struct Dynamo;

/// How to build it, from the root of the workspace.
const BUILD: [&str; 6] =
    ["build", "--release", "--manifest-path", "benches/peers/dynamo/Cargo.toml", "--target-dir", "target/peers-dynamo"];
/// Dynamo needs parts of tokio that are not stable.
const FLAGS: (&str, &str) = ("RUSTFLAGS", "--cfg tokio_unstable");

/// What Dynamo reads from its environment: discovery through files, requests and answers over TCP on the loopback
/// address, and no log.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("DYN_DISCOVERY_BACKEND", "file"),
    ("DYN_REQUEST_PLANE", "tcp"),
    ("DYN_RESPONSE_PLANE", "tcp"),
    ("DYN_TCP_RPC_HOST", "127.0.0.1"),
    ("DYN_TCP_RESPONSE_STREAM_HOST", "127.0.0.1"),
    ("DYN_LOG", "off"),
];

impl Dynamo {
    /// Builds the program. Needs `protoc`, and takes minutes.
    ///
    /// # Errors
    /// If cargo cannot.
    pub fn build() -> Result<()> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let done =
            Command::new("cargo").args(BUILD).env(FLAGS.0, FLAGS.1).current_dir(root).stdin(Stdio::null()).status()?;
        if done.success() { Ok(()) } else { Err("cargo could not build the Dynamo peer".into()) }
    }

    /// Becomes the program, which finds the workers' records in `records`.
    fn become_peer(role: &str, records: &str, order: &Order) -> Result<()> {
        let mut command = Command::new(program().ok_or("no place for the Dynamo peer")?);
        command.arg(role).arg(serde_json::to_string(order)?).envs(ENVIRONMENT).env("DYN_FILE_KV", records);
        Err(command.exec().into())
    }
}

/// Where cargo puts it: beside what it builds of this workspace.
fn program() -> Option<PathBuf> {
    Some(current_exe().ok()?.ancestors().nth(2)?.join("peers-dynamo/release/ringplane-peer-dynamo"))
}

impl Engine for Dynamo {
    fn name(&self) -> &'static str {
        "dynamo"
    }

    fn about(&self) -> &'static str {
        "dynamo-runtime 1.6.1: TCP request plane, TCP call-home, file discovery, msgpack with plain bytes, one thread"
    }

    fn is_default(&self) -> bool {
        false
    }

    fn prepare(&self) -> Result<()> {
        if program().is_some_and(|program| program.is_file()) {
            return Ok(());
        }
        let (variable, flags) = FLAGS;
        let build = BUILD.join(" ");
        Err(format!("not built: {variable}=\"{flags}\" cargo {build} (needs protoc), or --build-dynamo").into())
    }

    fn unsupported(&self, scenario: &Scenario) -> Option<&'static str> {
        let wrong = [
            (scenario.spin, "Dynamo has no busy polling"),
            (scenario.idle > 0, "Dynamo keeps no connections for answers: there are no idle ones to hold"),
            (scenario.churn, "Dynamo dials for each answer in every scenario"),
        ];
        wrong.into_iter().find_map(|(is_wrong, why)| is_wrong.then_some(why))
    }

    fn serve(&self, scenario: &Scenario, _: Ready) -> Result<()> {
        let records = std::env::temp_dir().join(format!("ringplane-dynamo-{}", id()));
        let order = Order { engine: self.name().to_owned(), scenario: scenario.clone(), cpu: None, load: None };
        Self::become_peer("serve-engine", &records.to_string_lossy(), &order)
    }

    fn load(&self, scenario: &Scenario, address: &str, plan: &Plan) -> Result<Measured> {
        let load = Some((address.to_owned(), *plan));
        let order = Order { engine: self.name().to_owned(), scenario: scenario.clone(), cpu: None, load };
        Self::become_peer("load-engine", address, &order)?;
        Err("the Dynamo peer did not start".into())
    }
}
