//! A command per request: the request on its stdin, each line of its stdout an item.
//!
//! A stop is SIGTERM to the command's process group; a kill, a deadline, a lost connection and a drain that takes too
//! long are SIGKILL to it. A caller that does not read makes the command's stdout a full pipe. Once the command has ended,
//! the call ends as well, at the latest a moment later: what it started and left behind may keep its stdout for long.

use std::io;

use ringplane::{Cause, Failure, Remote, Request, Responder};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::oneshot;

use crate::exec::lines::Lines;
use crate::exec::outcome::{GRACE, failed, outcome};
use crate::exec::program::{Program, Running};
use crate::payload::Form;

/// Runs the command for one request.
pub(crate) async fn run(
    program: &Program,
    annotated: bool,
    mut request: Request<Remote>,
    out: Responder<Remote>,
) -> Result<(), Failure> {
    let form = Form::of(request.open().codec, annotated);
    let running = program.start(|command| {
        command.env("RINGPLANE_REQUEST_ID", request.id());
        let open = request.open();
        for (name, value) in [("TRACEPARENT", open.traceparent), ("TRACESTATE", open.tracestate)] {
            match value {
                Some(value) => command.env(name, value),
                // What the server was started in is another trace.
                None => command.env_remove(name),
            };
        }
    })?;
    let Running { stdin, stdout, errors, mut child, group } = running;
    let (ended, end) = oneshot::channel();
    let (passed, grace) = oneshot::channel();
    let leaving = async {
        let status = child.wait().await;
        group.forget();
        let _ = ended.send(status);
        tokio::time::sleep(GRACE).await;
        let _ = passed.send(());
        std::future::pending::<()>().await;
    };
    let answering = async {
        let mut lines = Lines::until(stdout, grace);
        while let Some(line) = lines.next().await? {
            out.send(form.item(line)?).await?;
        }
        let status = end.await.unwrap_or_else(|_| Err(io::Error::other("nobody waits for it")));
        match outcome(status, out.cause() == Some(Cause::Stop)) {
            Ok(()) => Ok(()),
            Err(what) => Err(failed(errors.behind(what).await)),
        }
    };
    let feeding = async {
        // A command need not read its request; one that breaks off ends the call.
        let Err(failure) = feed(&mut request, stdin, form).await else { return std::future::pending().await };
        failure
    };
    let stopping = async {
        if out.cancelled().await == Cause::Stop {
            group.signal(Signal::TERM);
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
