//! Processes of the tool with bounded waits, ended by their own ids whatever happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

/// The longest any test waits for anything that is not about time itself.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// A directory for discovery of one test's own.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    /// Starts the tool with this discovery.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        self.start_with(&[], args)
    }

    /// The same with more environment.
    pub(crate) fn start_with(&self, env: &[(&str, &str)], args: &[&str]) -> Process {
        let mut command = self.command(args);
        // What a test says about discovery wins.
        Process::start(command.envs(env.iter().copied()))
    }

    /// The tool with this discovery and nothing on stdin, to be started otherwise.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_within(&[], args)
    }

    /// The same, run by a command that has its own words first.
    pub(crate) fn command_within(&self, words: &[&str], args: &[&str]) -> Command {
        let mut line = words.iter().copied().chain([env!("CARGO_BIN_EXE_ringplane")]).chain(args.iter().copied());
        let mut command = Command::new(line.next().unwrap());
        command.args(line).stdin(Stdio::null());
        plain(&mut command).env("RINGPLANE_DISCOVERY", format!("file:{}", self.0.path().join("discovery").display()));
        command
    }

    /// Starts a server and waits until it can be called.
    pub(crate) fn serve(&self, args: &[&str]) -> Process {
        self.serve_with(&[], args).0
    }

    /// The same with more environment; also what the server said of itself.
    pub(crate) fn serve_with(&self, env: &[(&str, &str)], args: &[&str]) -> (Process, String) {
        let server = self.start_with(env, &[&["serve"], args].concat());
        let line = server.error_line();
        assert!(line.contains("serving ") && line.contains(" driver "), "{line}");
        (server, line)
    }

    /// Runs the tool to its end, with nothing on stdin.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }
}

/// A command for which the environment says nothing about logs.
pub(crate) fn plain(command: &mut Command) -> &mut Command {
    for name in ["RINGPLANE_LOG", "DYN_LOG", "RUST_LOG", "DYN_LOGGING_JSONL", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        command.env_remove(name);
    }
    command
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<String>,
    pub(crate) err: String,
}

impl Ended {
    /// Checks the exit code and that exactly one line says why.
    pub(crate) fn expect(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let said = self.err.lines().filter(|line| line.starts_with("ringplane: ")).count();
        assert!(said == 1 && self.err.contains(why), "{self:?}");
    }

    /// Checks that the words were wrong, and how.
    pub(crate) fn expect_usage(&self, why: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.err.contains(why), "{self:?}");
    }

    /// Checks the exit code and that nothing says why.
    pub(crate) fn expect_silent(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.lines().any(|line| line.starts_with("ringplane: ")), "{self:?}");
    }

    /// Checks the exit code and that the last line says why.
    pub(crate) fn expect_last(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.lines().last().is_some_and(|line| line == format!("ringplane: {why}")), "{self:?}");
    }

    pub(crate) fn expect_lines(&self, lines: &[&str]) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.out, lines, "{self:?}");
    }
}

/// A process whose output is read by threads, line by line.
pub(crate) struct Process {
    child: Child,
    fd: OwnedFd,
    stdin: Option<ChildStdin>,
    out: Option<Receiver<String>>,
    err: Receiver<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts a command with the streams it has been given; those that are pipes to here are read.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let fd = watch(child.id());
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take().map(lines), child.stderr.take().map(lines));
        Self { child, fd, stdin, out, err: err.unwrap_or_else(|| channel().1) }
    }

    /// A line of what the kernel says about it in `/proc`.
    pub(crate) fn proc(&self, file: &str, beginning: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        text.lines().find_map(|line| line.strip_prefix(beginning)).map(str::to_owned)
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Goes away as a reader: the next writes meet a closed pipe.
    pub(crate) fn close_stdout(&mut self) {
        self.out = None;
    }

    /// The next line of stdout.
    pub(crate) fn line(&self) -> String {
        let line = self.out.as_ref().unwrap().recv_timeout(BOUND);
        line.unwrap_or_else(|error| panic!("no line on stdout: {error}; stderr: {:?}", rest(&self.err)))
    }

    /// The next line of stderr.
    pub(crate) fn error_line(&self) -> String {
        self.err.recv_timeout(BOUND).expect("a line on stderr")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.fd, signal).unwrap();
    }

    /// Signals again and again until the process ends.
    pub(crate) fn insist(&self, signal: Signal) {
        let begun = Instant::now();
        while !has_ended(&self.fd, Duration::from_millis(20)) {
            assert!(begun.elapsed() < BOUND, "{signal:?} does not end it");
            self.signal(signal);
        }
    }

    /// Waits until it hears a signal, which ended it at once before.
    pub(crate) fn wait_until_it_catches(&self, signal: Signal) {
        let begun = Instant::now();
        let caught = || u64::from_str_radix(self.proc("status", "SigCgt:").unwrap().trim(), 16).unwrap();
        while caught() >> (signal.as_raw() - 1) & 1 == 0 {
            assert!(begun.elapsed() < BOUND, "{signal:?} is not caught");
            std::thread::yield_now();
        }
    }

    /// Waits for the end with everything left open.
    pub(crate) fn wait_for_its_end(&self) {
        assert!(has_ended(&self.fd, BOUND), "it does not end");
    }

    /// Waits for the end.
    pub(crate) fn end(self) -> Ended {
        self.end_within(BOUND)
    }

    pub(crate) fn end_within(mut self, bound: Duration) -> Ended {
        self.stdin = None;
        assert!(has_ended(&self.fd, bound), "it does not end; stderr: {:?}", self.err.try_iter().collect::<Vec<_>>());
        let code = self.child.wait().unwrap().code();
        let out = self.out.take().map(|out| rest(&out)).unwrap_or_default();
        Ended { code, out, err: rest(&self.err).join("\n") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Known by its descriptor: harmless if it has ended.
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A descriptor of a process, which means that process even when its id is somebody else's.
pub(crate) fn watch(id: u32) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits for the end of a process.
pub(crate) fn has_ended(fd: &OwnedFd, bound: Duration) -> bool {
    let bound = Timespec { tv_sec: bound.as_secs().try_into().unwrap(), tv_nsec: bound.subsec_nanos().into() };
    let begun = Instant::now();
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&bound)) {
        Ok(ready) => ready == 1,
        Err(error) => panic!("after {:?}: {error}", begun.elapsed()),
    }
}

/// Reads lines on a thread, until the end or until nobody wants them.
fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (queue, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines() {
            let Ok(line) = line else { return };
            if queue.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What is left, up to the end of the pipe. A process that outlives its parent may hold it open.
fn rest(lines: &Receiver<String>) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match lines.recv_timeout(BOUND) {
            Ok(line) => all.push(line),
            Err(RecvTimeoutError::Disconnected) => return all,
            Err(RecvTimeoutError::Timeout) => panic!("the pipe stays open; so far {all:?}"),
        }
    }
}
