//! A peer: a process that speaks lines of JSON, waited for with bounds and ended by its own id whatever happens.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

/// The longest wait for anything that is not about time itself: two slow cores, and an interpreter to start.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
/// Lines of stderr that are kept for a failure's message.
const KEPT: usize = 12;

/// A running peer.
pub(crate) struct Peer {
    child: Child,
    fd: OwnedFd,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// Read, and not yet asked for.
    seen: VecDeque<Value>,
    errors: Arc<Mutex<VecDeque<String>>>,
}

impl Peer {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let fd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let errors = Arc::default();
        keep(err, Arc::clone(&errors));
        Self { child, fd, stdin, lines: lines(out), seen: VecDeque::new(), errors }
    }

    /// Writes one line.
    pub(crate) fn tell(&mut self, command: &Value) {
        let sent = writeln!(self.stdin.as_mut().unwrap(), "{command}");
        sent.unwrap_or_else(|error| panic!("{error}; {}", self.said()));
    }

    /// The next line that fits, which need not be the next one: calls overlap.
    pub(crate) fn wait(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.seen.iter().position(&fits) {
            return self.seen.remove(at).unwrap_or_default();
        }
        let until = Instant::now() + BOUND;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if fits(&line) => return line,
                Ok(line) => self.seen.push_back(line),
                Err(RecvTimeoutError::Timeout) => panic!("no {what} in {BOUND:?}; {}", self.said()),
                Err(RecvTimeoutError::Disconnected) => panic!("no {what}, the peer ended; {}", self.said()),
            }
        }
    }

    /// Whether a line that fits is among those that others were found behind.
    pub(crate) fn seen(&self, fits: impl Fn(&Value) -> bool) -> bool {
        self.seen.iter().any(fits)
    }

    /// The next line in which `key` is `value`.
    pub(crate) fn wait_for(&mut self, key: &str, value: &str) -> Value {
        self.wait(&format!("line with {key}={value}"), |line| line.get(key).is_some_and(|found| found == value))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.fd, signal).unwrap();
    }

    /// Closes stdin and waits for the end; the exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.stdin = None;
        let bound = Timespec { tv_sec: i64::try_from(BOUND.as_secs()).unwrap(), tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&bound)).unwrap();
        assert_eq!(ready, 1, "it does not end in {BOUND:?}; {}", self.said());
        self.child.wait().unwrap().code()
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it wrote last, for a failure's message.
    pub(crate) fn said(&self) -> String {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let errors: Vec<_> = errors.iter().map(String::as_str).collect();
        format!("not asked for: {:?}; stderr: {}", self.seen, errors.join("\n"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Known by its descriptor: harmless if it has ended.
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Reads lines of JSON on a thread. Others are the interpreter's, and no part of the conversation.
fn lines(source: impl Read + Send + 'static) -> Receiver<Value> {
    let (queue, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let Ok(line) = serde_json::from_str(&line) else { continue };
            if queue.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn keep(source: impl Read + Send + 'static, kept: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        let lines = BufReader::new(source).lines().map_while(Result::ok);
        for line in lines.filter(|line| !line.contains("\"level\":\"INFO\"")) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line);
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
    });
}
