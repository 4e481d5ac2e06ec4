//! A command that stays: given one call after the other, and started again when it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringplane::Failure;
use ringplane_core::wire::class::Class;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::exec::line::Said;
use crate::exec::pool::Job;
use crate::exec::process::Process;
use crate::exec::program::Program;
use crate::stderr::say;

/// The pause before a command is started again; doubled with each end in a row, up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Ends in a row, without a call answered or a while in peace between, after which a command is no help to calls that wait.
const HOPELESS: u32 = 3;
/// A while in peace.
const PEACE: Duration = Duration::from_secs(10);

/// What those who keep a command each have in common.
pub(super) struct Shared {
    jobs: Mutex<mpsc::Receiver<Job>>,
    /// How many commands there are to be.
    many: usize,
    /// How many of them are hopeless and down.
    down: watch::Sender<usize>,
    closing: watch::Receiver<bool>,
}

impl Shared {
    pub(super) fn new(jobs: mpsc::Receiver<Job>, many: usize, closing: watch::Receiver<bool>) -> Self {
        Self { jobs: Mutex::new(jobs), many, down: watch::channel(0).0, closing }
    }

    /// The next call that somebody still waits for.
    async fn job(&self) -> Job {
        let mut jobs = self.jobs.lock().await;
        loop {
            match jobs.recv().await {
                Some(job) if job.answers.is_closed() => {}
                Some(job) => {
                    job.taken.store(true, Ordering::Relaxed);
                    return job;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Refuses calls for as long as all commands are down: they would wait for nothing.
    async fn refuse(&self, why: &str) {
        let mut down = self.down.subscribe();
        loop {
            // The sender is here as well.
            let _ = down.wait_for(|down| *down == self.many).await;
            tokio::select! {
                biased;
                _ = down.wait_for(|down| *down < self.many) => {}
                job = self.job() => {
                    let (class, reason) = (Class::Unavailable, "backend.worker_unavailable".to_owned());
                    let message = format!("no command stays up: {why}");
                    // It is the first answer, so there is room.
                    let _ = job.answers.try_send(Said::End(Err(Failure { class, reason, message })));
                }
            }
        }
    }

    async fn closed(&self) {
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }
}

/// The keeper of one command.
pub(super) struct Keeper {
    number: usize,
    program: Program,
    shared: Arc<Shared>,
}

impl Keeper {
    pub(super) const fn new(number: usize, program: Program, shared: Arc<Shared>) -> Self {
        Self { number, program, shared }
    }

    /// Keeps it until all are closed.
    pub(super) async fn run(self) {
        let mut ends = 0;
        loop {
            let begun = Instant::now();
            let started = Process::start(&self.program, self.number);
            let why = match started {
                Ok(process) => match self.stay(process, &mut ends).await {
                    Some(why) => why,
                    None => return,
                },
                Err(failure) => failure.message,
            };
            if begun.elapsed() >= PEACE {
                ends = 0;
            }
            ends += 1;
            self.tell(ends, &why);
            tokio::select! {
                biased;
                () = self.shared.closed() => return,
                () = self.pause(ends, &why) => {}
            }
        }
    }

    /// Gives it calls until it is of no use any more, and answers why; nothing once all are closed.
    async fn stay(&self, mut process: Process, ends: &mut u32) -> Option<String> {
        loop {
            let job = tokio::select! {
                biased;
                () = self.shared.closed() => {
                    process.leave().await;
                    return None;
                }
                why = process.idle() => return Some(why),
                job = self.shared.job() => job,
            };
            let answered = tokio::select! {
                biased;
                () = self.shared.closed() => return None,
                answered = process.answer(job) => answered,
            };
            match answered {
                Ok(()) => *ends = 0,
                Err(why) => return Some(why),
            }
        }
    }

    async fn pause(&self, ends: u32, why: &str) {
        let pause = sleep(PAUSE.saturating_mul(1 << (ends - 1).min(16)).min(LONGEST_PAUSE));
        if ends < HOPELESS {
            return pause.await;
        }
        let _down = Down::new(&self.shared.down);
        tokio::select! {
            () = pause => {}
            () = self.shared.refuse(why) => {}
        }
    }

    /// Says it once, and once more when it goes on like that.
    fn tell(&self, ends: u32, why: &str) {
        let which = format_args!("ringplane: command {} of {}", self.number + 1, self.shared.many);
        match ends {
            1 => say(format_args!("{which}: {why}; it is started again")),
            HOPELESS => {
                say(format_args!("{which} does not stay up: {why}; it is started again, with longer and longer pauses"))
            }
            _ => tracing::debug!(number = self.number, ends, why, "a command has ended again"),
        }
    }
}

/// One command more that is down, as long as this lives.
struct Down<'a>(&'a watch::Sender<usize>);

impl<'a> Down<'a> {
    fn new(down: &'a watch::Sender<usize>) -> Self {
        down.send_modify(|down| *down += 1);
        Self(down)
    }
}

impl Drop for Down<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|down| *down -= 1);
    }
}
