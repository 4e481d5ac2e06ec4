//! SIGINT and SIGTERM as one stream.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::exit::Failed;

/// Signals this close together are one: `timeout`, a terminal and some supervisors signal the process and its group.
const ONE: Duration = Duration::from_millis(100);

/// Both signals. From its making on, neither ends the process by itself.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    last: Option<Instant>,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failed> {
        let listen = |kind| signal(kind).map_err(|error| Failed::local("cannot listen for signals", error));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, last: None })
    }

    /// Waits for the next of them. Losing the race in a `select!` loses no signal.
    pub(crate) async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            if self.last.is_none_or(|last| last.elapsed() >= ONE) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}
