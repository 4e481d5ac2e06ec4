//! `serve --exec`: a command per request, the request on its stdin, each line of its stdout an item.
//!
//! A stop is SIGTERM to the command's process group; a kill, a deadline, a lost connection and a drain that takes too
//! long are SIGKILL to it. A caller that does not read makes the command's stdout a full pipe.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use ringplane::core::wire::failure::Class;
use ringplane::remote::{Request, Responder};
use ringplane::{Cause, Failure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::cli::payload::Form;

/// The longest line, in bytes. A longer one is a failure.
pub(crate) const MAX_LINE: usize = 1 << 20;

/// Runs `words` for one request.
pub(crate) async fn run(
    words: &[OsString],
    annotated: bool,
    mut request: Request,
    out: Responder,
) -> Result<(), Failure> {
    let form = Form::of(request.open().codec, annotated);
    let mut running = Running::start(words, &request)?;
    let (stdin, stdout) = (running.child.stdin.take(), running.child.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err(Failure::internal("a pipe is missing")) };
    let group = running.group;
    let answer = async {
        answer(BufReader::new(stdout), &out, form).await?;
        running.ended(&out).await
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
        ended = answer => ended,
        failure = feeding => Err(failure),
        () = stopping => Ok(()),
    }
}

/// A command and its process group, which its drop kills.
struct Running {
    child: Child,
    /// `None` once the command has been waited for: the number may be somebody else's then.
    group: Option<Pid>,
}

impl Running {
    fn start(words: &[OsString], request: &Request) -> Result<Self, Failure> {
        let Some((program, arguments)) = words.split_first() else { return Err(Failure::internal("no command")) };
        let mut command = Command::new(program);
        command.args(arguments).env("RINGPLANE_REQUEST_ID", request.id()).process_group(0).kill_on_drop(true);
        if let Some(trace) = request.open().traceparent {
            command.env("TRACEPARENT", trace);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let spawned = command.spawn();
        let child = spawned.map_err(|error| failed(format!("`{}` does not start: {error}", program.display())))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// The outcome, once stdout has ended.
    async fn ended(&mut self, out: &Responder) -> Result<(), Failure> {
        let status = self.child.wait().await;
        self.group = None;
        outcome(status, out.cause() == Some(Cause::Stop))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal(self.group, Signal::KILL);
    }
}

/// Signals a group. Nobody left to hear it is no error.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
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

/// Sends every line as an item.
async fn answer(mut stdout: impl AsyncBufRead + Unpin, out: &Responder, form: Form) -> Result<(), Failure> {
    while let Some(line) = next_line(&mut stdout).await? {
        out.send(form.item(line)?).await?;
    }
    Ok(())
}

/// The next line without its end; the last one may lack it.
async fn next_line(stdout: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    loop {
        let read = stdout.fill_buf().await;
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
        stdout.consume(part + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Writes the request's items, each ended by a line break unless it ends in one, and then closes stdin.
async fn feed(request: &mut Request, mut stdin: ChildStdin, form: Form) -> Result<(), Failure> {
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

    fn lines(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lines = Vec::new();
            while let Some(line) = next_line(&mut bytes).await? {
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
    fn a_bad_exit_is_a_failure_with_its_code_unless_the_command_was_stopped() {
        let code = |raw| Ok(ExitStatus::from_raw(raw));
        assert_eq!(outcome(code(0), false), Ok(()));
        assert_eq!(outcome(code(3 << 8), false).unwrap_err().message, "the command ended with exit status: 3");
        assert_eq!(outcome(code(9), false).unwrap_err().message, "the command ended with signal: 9 (SIGKILL)");
        assert_eq!(outcome(code(15), true), Ok(()));
    }
}
