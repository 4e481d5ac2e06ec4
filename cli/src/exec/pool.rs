//! Commands that stay, and the calls that wait for one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringplane::{Cause, Failure, Remote, Request, Responder};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::exec::keeper::{Keeper, Shared};
use crate::exec::line::{self, Said};
use crate::exec::outcome::failed;
use crate::exec::program::Program;
use crate::payload::Form;

/// Items that may wait between a command and its call.
const AHEAD: usize = 16;

/// Commands that stay, each with a task that keeps it.
pub(crate) struct Pool {
    calls: Calls,
    closing: watch::Sender<bool>,
    keepers: JoinSet<()>,
}

/// The way to them.
#[derive(Clone)]
pub(crate) struct Calls(mpsc::Sender<Job>);

/// A call that waits for a command, or has one.
pub(super) struct Job {
    pub(super) id: String,
    /// The line that begins it.
    pub(super) line: Vec<u8>,
    /// Items, and in the end an end. Closed once nobody wants them.
    pub(super) answers: mpsc::Sender<Said>,
    /// Whether the caller has stopped it.
    pub(super) stop: watch::Receiver<bool>,
    /// Whether a command has it.
    pub(super) taken: Arc<AtomicBool>,
}

impl Pool {
    /// Starts so many of a command.
    pub(crate) fn start(program: &Program, many: usize) -> Self {
        // One that waits here, others at its door: the worker's own bounds say how many.
        let (jobs, queue) = mpsc::channel(1);
        let (closing, closed) = watch::channel(false);
        let shared = Arc::new(Shared::new(queue, many, closed));
        let mut keepers = JoinSet::new();
        for number in 0..many {
            keepers.spawn(Keeper::new(number, program.clone(), Arc::clone(&shared)).run());
        }
        Self { calls: Calls(jobs), closing, keepers }
    }

    /// The way to them.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Ends them: their stdin is closed, and those that go on are killed a moment later.
    pub(crate) async fn end(mut self) {
        self.closing.send_replace(true);
        while self.keepers.join_next().await.is_some() {}
    }
}

impl Calls {
    /// Has a command answer a request.
    pub(crate) async fn run(
        &self,
        annotated: bool,
        mut request: Request<Remote>,
        out: Responder<Remote>,
    ) -> Result<(), Failure> {
        let form = Form::of(request.open().codec, annotated);
        let body = only(&mut request, form).await?;
        let left = request.remaining().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let open = request.open();
        let line = line::call(request.id(), &body, [open.traceparent, open.tracestate], left)?;
        let (answers, mut answer) = mpsc::channel(AHEAD);
        let (stop, stopped) = watch::channel(false);
        let taken = Arc::new(AtomicBool::new(false));
        let job = Job { id: request.id().to_owned(), line, answers, stop: stopped, taken: Arc::clone(&taken) };
        let over = || failed("the commands have ended");
        let answering = async {
            self.0.send(job).await.map_err(|_| over())?;
            loop {
                match answer.recv().await {
                    Some(Said::Item(item)) => out.send(form.item(item)?).await?,
                    Some(Said::End(end)) => return end,
                    Some(Said::Aside) => {}
                    None => return Err(over()),
                }
            }
        };
        let stopping = async {
            let cause = out.cancelled().await;
            if cause == Cause::Stop && !taken.load(Ordering::Relaxed) {
                // Nothing has been begun that could be ended early.
                return;
            }
            stop.send_replace(cause == Cause::Stop);
            std::future::pending().await
        };
        tokio::select! {
            biased;
            end = answering => end,
            () = stopping => Ok(()),
        }
    }
}

/// The one item of a request, as JSON if the call names a codec.
async fn only(request: &mut Request<Remote>, form: Form) -> Result<Vec<u8>, Failure> {
    let Some(item) = request.next().await? else { return Ok(Vec::new()) };
    if request.next().await?.is_some() {
        return Err(Failure::invalid("this endpoint takes one item per request"));
    }
    form.read(&item)
}
