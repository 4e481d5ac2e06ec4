//! One run of a command that stays: a call at a time, by lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringplane::Failure;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::exec::errors::Errors;
use crate::exec::line::{self, Cancel, Said};
use crate::exec::lines::Lines;
use crate::exec::outcome::{GRACE, ended, failed};
use crate::exec::pool::Job;
use crate::exec::program::{Group, Program, Running};
use crate::stderr;

/// How long a command may take to end a call that nobody reads any more. Then it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running command. Its drop kills it and what it has started.
pub(super) struct Process {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Errors,
    child: Child,
    group: Group,
    patience: Duration,
    /// Never used: the lines of a command that stays end with its stdout.
    _grace: oneshot::Sender<()>,
}

/// Why a command is of no use any more.
enum Lost {
    /// Its stdout has ended.
    Ended,
    /// It did what it must not.
    Wrong(Failure),
}

impl Process {
    /// Starts it; it may ask which of several it is.
    pub(super) fn start(program: &Program, number: usize) -> Result<Self, Failure> {
        let set = |command: &mut tokio::process::Command| {
            command.env("RINGPLANE_EXEC_WORKER", number.to_string());
        };
        let Running { stdin, stdout, errors, child, group } = program.start(set)?;
        let (sender, grace) = oneshot::channel();
        Ok(Self { stdin, lines: Lines::until(stdout, grace), errors, child, group, patience: PATIENCE, _grace: sender })
    }

    /// Watches it while it has no call; completes when it is of no use any more, and says why. May be given up at any time.
    pub(super) async fn idle(&mut self) -> String {
        let lost = loop {
            match self.lines.next().await {
                Ok(Some(line)) => match line::read(&line) {
                    Ok(Said::Aside) => stderr::pass(&line),
                    Ok(_) => break Lost::Wrong(failed("the command answered though no call was open")),
                    Err(failure) => break Lost::Wrong(failure),
                },
                Ok(None) => break Lost::Ended,
                Err(failure) => break Lost::Wrong(failure),
            }
        };
        self.why(lost).await.message
    }

    /// Has it answer a call.
    ///
    /// # Errors
    /// Why it is of no use any more; its call has been told.
    pub(super) async fn answer(&mut self, mut job: Job) -> Result<(), String> {
        // Whether its stdin is at the beginning of a line.
        let whole = AtomicBool::new(false);
        let (answers, stop) = (job.answers.clone(), &mut job.stop);
        let telling = tell(
            &mut self.stdin,
            &job.id,
            &job.line,
            &whole,
            async {
                let _ = stop.wait_for(|stop| *stop).await;
            },
            answers.closed(),
        );
        let patience = self.patience;
        let overdue = async {
            job.answers.closed().await;
            sleep(patience).await;
        };
        let ended = tokio::select! {
            biased;
            ended = listen(&mut self.lines, &job.answers) => ended,
            () = overdue => Err(Lost::Wrong(failed(format_args!("the command did not end a cancelled call in {patience:?}")))),
            () = telling => Err(Lost::Wrong(failed("the command closed its stdin"))),
        };
        let ended = match ended {
            Ok(_) if !whole.load(Ordering::Relaxed) => {
                Err(Lost::Wrong(failed("the command ended a call before it had read all that it was told")))
            }
            ended => ended,
        };
        match ended {
            Ok(end) => {
                let _ = job.answers.send(Said::End(end)).await;
                Ok(())
            }
            Err(lost) => {
                let why = self.why(lost).await;
                let _ = job.answers.send(Said::End(Err(why.clone()))).await;
                Err(why.message)
            }
        }
    }

    /// Closes its stdin and lets it end by itself.
    pub(super) async fn leave(self) {
        let Self { stdin, errors, mut child, group, .. } = self;
        drop(stdin);
        if timeout(GRACE, child.wait()).await.is_ok() {
            group.forget();
            // Its last words are to be heard as well.
            let _ = errors.behind(String::new()).await;
        }
    }

    async fn why(&mut self, lost: Lost) -> Failure {
        match lost {
            Lost::Wrong(failure) => failure,
            Lost::Ended => match timeout(GRACE, self.child.wait()).await {
                Ok(status) => {
                    self.group.forget();
                    failed(self.errors.behind(ended(status)).await)
                }
                Err(_) => failed("the command closed its stdout"),
            },
        }
    }
}

/// Writes the line that begins a call, then those that cancel it. Completes if nothing can be written for a while: one
/// that is ending is heard of by its stdout.
async fn tell(
    stdin: &mut ChildStdin,
    id: &str,
    call: &[u8],
    whole: &AtomicBool,
    stopped: impl Future<Output = ()>,
    gone: impl Future<Output = ()>,
) {
    let mut write = async |line: &[u8]| {
        whole.store(false, Ordering::Relaxed);
        let written = stdin.write_all(line).await;
        whole.store(written.is_ok(), Ordering::Relaxed);
        written.is_ok()
    };
    let cancelled = |how| line::cancel(id, how).unwrap_or_default();
    let mut gone = std::pin::pin!(gone);
    let all = async {
        if !write(call).await {
            return false;
        }
        tokio::select! {
            biased;
            () = &mut gone => {}
            () = stopped => {
                if !write(&cancelled(Cancel::Stop)).await {
                    return false;
                }
                gone.await;
            }
        }
        write(&cancelled(Cancel::Kill)).await
    };
    if all.await {
        std::future::pending::<()>().await;
    }
    sleep(GRACE).await;
}

/// Passes items on to the end of the answer. Those that nobody reads any more are dropped.
async fn listen(
    lines: &mut Lines<BufReader<ChildStdout>>,
    answers: &tokio::sync::mpsc::Sender<Said>,
) -> Result<Result<(), Failure>, Lost> {
    loop {
        let line = lines.next().await.map_err(Lost::Wrong)?.ok_or(Lost::Ended)?;
        match line::read(&line).map_err(Lost::Wrong)? {
            Said::Aside => stderr::pass(&line),
            Said::End(end) => return Ok(end),
            item @ Said::Item(_) => {
                let _ = answers.send(item).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(30), future).await }).expect("an end in time")
    }

    fn sh(script: &str) -> Process {
        let words: [std::ffi::OsString; 3] = ["sh".into(), "-c".into(), script.into()];
        Process::start(&Program::find(&words).unwrap(), 0).unwrap()
    }

    fn job() -> (Job, mpsc::Receiver<Said>) {
        let (answers, answer) = mpsc::channel(1);
        let taken = Arc::new(AtomicBool::new(true));
        let line = line::call("a", b"1", [None; 2], None).unwrap();
        (Job { id: "a".to_owned(), line, answers, stop: watch::channel(false).1, taken }, answer)
    }

    #[test]
    fn a_command_that_does_not_end_a_cancelled_call_is_given_up() {
        wait(async {
            let mut process = sh("exec sleep 60");
            process.patience = Duration::from_millis(20);
            let (job, answer) = job();
            drop(answer);
            assert_eq!(process.answer(job).await.unwrap_err(), "the command did not end a cancelled call in 20ms");
        });
    }

    #[test]
    fn a_command_that_answers_before_it_has_read_its_call_is_given_up() {
        wait(async {
            // More than a pipe holds, so that it cannot have been written.
            let mut process = sh("echo '{\"end\":true}'; exec sleep 60");
            let (mut job, _answer) = job();
            job.line = vec![b' '; 4 << 20];
            let why = process.answer(job).await.unwrap_err();
            assert_eq!(why, "the command ended a call before it had read all that it was told");
        });
    }

    #[test]
    fn what_a_command_says_without_a_call_is_an_aside_or_a_mistake() {
        wait(async {
            assert_eq!(sh("echo loading; exit 3").idle().await, "the command ended with exit status: 3");
            let said = sh("echo '{\"item\":1}'; exec sleep 60").idle().await;
            assert_eq!(said, "the command answered though no call was open");
            assert_eq!(sh("echo oops >&2; exit 1").idle().await, "the command ended with exit status: 1: oops");
        });
    }
}
