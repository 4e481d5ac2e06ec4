//! `serve --exec`: a command per request, the request on its stdin, each line of its stdout an item.
//!
//! A stop is SIGTERM to the command's process group; a kill, a deadline, a lost connection and a drain that takes too
//! long are SIGKILL to it. A caller that does not read makes the command's stdout a full pipe. Once the command has ended,
//! the call ends as well, at the latest a moment later: what it started and left behind may keep its stdout for long.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use ringplane::{Cause, Failure, Remote, Request, Responder};
use ringplane_core::wire::class::Class;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::limits;
use crate::payload::Form;

/// The longest line, in bytes. A longer one is a failure.
pub(crate) const MAX_LINE: usize = 1 << 20;
/// How long stdout may stay open once the command has ended. What is in the pipe then is still read.
const GRACE: Duration = Duration::from_secs(1);

/// Runs `words` for one request.
pub(crate) async fn run(
    words: &[OsString],
    annotated: bool,
    mut request: Request<Remote>,
    out: Responder<Remote>,
) -> Result<(), Failure> {
    let form = Form::of(request.open().codec, annotated);
    let mut running = Running::start(words, &request)?;
    let (stdin, stdout) = (running.child.stdin.take(), running.child.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err(Failure::internal("a pipe is missing")) };
    let Running { child, group } = &mut running;
    let group = &*group;
    let (ended, end) = oneshot::channel();
    let (passed, grace) = oneshot::channel();
    let leaving = async {
        let status = child.wait().await;
        // From here on the number may be somebody else's.
        group.store(0, Ordering::Relaxed);
        let _ = ended.send(status);
        tokio::time::sleep(GRACE).await;
        let _ = passed.send(());
        std::future::pending::<()>().await;
    };
    let answering = async {
        let mut lines = Lines { source: BufReader::new(stdout), unread, grace, left: None };
        while let Some(line) = lines.next().await? {
            out.send(form.item(line)?).await?;
        }
        let status = end.await.unwrap_or_else(|_| Err(io::Error::other("nobody waits for it")));
        outcome(status, out.cause() == Some(Cause::Stop))
    };
    let feeding = async {
        // A command need not read its request; one that breaks off ends the call.
        let Err(failure) = feed(&mut request, stdin, form).await else { return std::future::pending().await };
        failure
    };
    let stopping = async {
        if out.cancelled().await == Cause::Stop {
            signal(group, Signal::TERM);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = answering => ended,
        failure = feeding => Err(failure),
        () = stopping => Ok(()),
        () = leaving => Ok(()),
    }
}

/// A command and its process group, which its drop kills.
struct Running {
    child: Child,
    /// 0 once the command has been waited for.
    group: AtomicI32,
}

impl Running {
    fn start(words: &[OsString], request: &Request<Remote>) -> Result<Self, Failure> {
        let Some((program, arguments)) = words.split_first() else { return Err(Failure::internal("no command")) };
        let mut command = Command::new(program);
        command.args(arguments).env("RINGPLANE_REQUEST_ID", request.id()).process_group(0).kill_on_drop(true);
        if let Some(trace) = request.open().traceparent {
            command.env("TRACEPARENT", trace);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let spawned = command.spawn();
        let child = spawned.map_err(|error| failed(format!("`{}` does not start: {error}", program.display())))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        if let Some(command) = Pid::from_raw(group) {
            limits::give_back(command);
        }
        Ok(Self { child, group: AtomicI32::new(group) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal(&self.group, Signal::KILL);
    }
}

/// Signals a group. Nobody left to hear it is no error.
fn signal(group: &AtomicI32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group.load(Ordering::Relaxed)) {
        let _ = kill_process_group(group, signal);
    }
}

/// Ended well: exit code 0, or whatever a stop led to.
fn outcome(status: io::Result<ExitStatus>, stopped: bool) -> Result<(), Failure> {
    match status {
        Ok(status) if status.success() || stopped => Ok(()),
        Ok(status) => Err(failed(format!("the command ended with {status}"))),
        Err(error) => Err(failed(format!("the command cannot be waited for: {error}"))),
    }
}

fn failed(message: String) -> Failure {
    Failure { class: Class::Internal, reason: "backend.unknown".to_owned(), message }
}

/// A command's stdout by lines, to its end or to the end of the grace.
struct Lines<S> {
    source: S,
    /// How much can be read from the source without waiting, in bytes.
    unread: fn(&S) -> usize,
    /// Says that the grace has passed.
    grace: oneshot::Receiver<()>,
    /// Bytes that are still read then.
    left: Option<usize>,
}

impl<S: AsyncBufRead + Unpin> Lines<S> {
    /// The next line without its end; the last one may lack it.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        loop {
            let read = self.fill().await;
            let bytes = read.map_err(|error| failed(format!("the command's stdout cannot be read: {error}")))?;
            if bytes.is_empty() {
                return Ok(Some(line).filter(|line| !line.is_empty()));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = end.unwrap_or(bytes.len());
            if line.len() + part > MAX_LINE {
                return Err(failed(format!("the command wrote a line of more than {MAX_LINE} bytes")));
            }
            line.extend_from_slice(bytes.get(..part).unwrap_or_default());
            let used = part + usize::from(end.is_some());
            self.source.consume(used);
            self.left = self.left.map(|left| left.saturating_sub(used));
            if end.is_some() {
                return Ok(Some(line));
            }
        }
    }

    /// What is there, once something is; nothing at the end.
    async fn fill(&mut self) -> io::Result<&[u8]> {
        if self.left.is_none() {
            tokio::select! {
                biased;
                _ = &mut self.grace => self.left = Some((self.unread)(&self.source)),
                read = async { self.source.fill_buf().await.map(drop) } => read?,
            }
        }
        match self.left {
            None => self.source.fill_buf().await,
            Some(0) => Ok(&[]),
            Some(left) => self.source.fill_buf().await.map(|bytes| bytes.get(..left).unwrap_or(bytes)),
        }
    }
}

/// What is buffered, and what the pipe holds.
fn unread(stdout: &BufReader<ChildStdout>) -> usize {
    let pipe = rustix::io::ioctl_fionread(stdout.get_ref()).unwrap_or(0);
    stdout.buffer().len().saturating_add(usize::try_from(pipe).unwrap_or(usize::MAX))
}

/// Writes the request's items, each ended by a line break unless it ends in one, and then closes stdin.
async fn feed(request: &mut Request<Remote>, mut stdin: ChildStdin, form: Form) -> Result<(), Failure> {
    while let Some(item) = request.next().await? {
        let item = form.read(&item)?;
        let mut written = stdin.write_all(&item).await;
        if written.is_ok() && !item.ends_with(b"\n") {
            written = stdin.write_all(b"\n").await;
        }
        if written.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn lines(source: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let (_passed, grace) = oneshot::channel();
        all(Lines { source, unread: |source| source.len(), grace, left: None })
    }

    fn all(mut from: Lines<impl AsyncBufRead + Unpin>) -> Result<Vec<Vec<u8>>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lines = Vec::new();
            while let Some(line) = from.next().await? {
                lines.push(line);
            }
            Ok(lines)
        })
    }

    #[test]
    fn lines_end_at_line_breaks_and_the_last_one_may_lack_it() {
        assert_eq!(lines(b"a\n\nb\r\nc").unwrap(), [&b"a"[..], b"", b"b\r", b"c"]);
        assert!(lines(b"").unwrap().is_empty());
        let longest = [b"x".repeat(MAX_LINE), b"\n".to_vec()].concat();
        assert_eq!(lines(&longest).unwrap()[0].len(), MAX_LINE);
        let error = lines(&b"x".repeat(MAX_LINE + 1)).unwrap_err();
        assert_eq!(error.message, "the command wrote a line of more than 1048576 bytes");
    }

    #[test]
    fn what_was_written_within_the_grace_is_read_and_nothing_behind_it() {
        let (passed, grace) = oneshot::channel();
        passed.send(()).unwrap();
        let late = Lines { source: &b"one\ntwo\nthree\n"[..], unread: |_| 10, grace, left: None };
        assert_eq!(all(late).unwrap(), [&b"one"[..], b"two", b"th"]);
    }

    #[test]
    fn a_bad_exit_is_a_failure_with_its_code_unless_the_command_was_stopped() {
        let code = |raw| Ok(ExitStatus::from_raw(raw));
        assert_eq!(outcome(code(0), false), Ok(()));
        assert_eq!(outcome(code(3 << 8), false).unwrap_err().message, "the command ended with exit status: 3");
        assert_eq!(outcome(code(9), false).unwrap_err().message, "the command ended with signal: 9 (SIGKILL)");
        assert_eq!(outcome(code(15), true), Ok(()));
    }
}
