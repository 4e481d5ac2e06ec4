//! SIGINT, SIGTERM and SIGHUP as one stream, and a worker that ends by them.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;
use crate::runtime::background::background;
use crate::runtime::driver::Leftovers;
use crate::worker::worker::Worker;

/// Signals this close together are one: `timeout`, a terminal and some supervisors signal the process and its group.
const ONE: Duration = Duration::from_millis(100);

/// The signals by which a process is asked to end: SIGINT, SIGTERM and SIGHUP, the latter unless it was ignored at the start
/// already, as `nohup` has it. From its making on, none of them ends the process by itself. To be awaited on any executor.
///
/// ```no_run
#[doc = include_str!("../../examples/terminate.rs")]
/// ```
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// A terminal that is gone; `None` if that is ignored.
    hangup: Option<Signal>,
    last: Option<Instant>,
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`Error::Signals`] with what the system says, [`Error::Tokio`] if the process has no thread for it.
    pub fn new() -> Result<Self, Error> {
        let _inside = background()?.enter();
        let listen = |kind| signal(kind).map_err(Error::Signals);
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let kind = SignalKind::hangup();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = if ignored(&status, kind.as_raw_value()) { None } else { Some(listen(kind)?) };
        Ok(Self { interrupt, terminate, hangup, last: None })
    }

    /// Waits for the next of them; those within 100 ms are one. Losing the race in a `select!` loses no signal.
    pub async fn next(&mut self) {
        loop {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                _ = hangup => {}
            }
            if self.last.is_none_or(|last| last.elapsed() >= ONE) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}

/// How a worker ended that was asked to by a signal.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It drained.
    InOrder {
        /// Calls that took longer than the drain may, and were ended by it.
        cut_off: u64,
        /// What its threads left behind: nothing as a rule.
        left: Leftovers,
    },
    /// A second signal came before it was done, and ended every call at once.
    AtOnce,
}

impl Worker {
    /// Serves until the first signal, then drains as [`shutdown`](Self::shutdown) does; a second signal ends it at once.
    pub async fn run_until(self, signals: &mut Signals) -> Ended {
        signals.next().await;
        tokio::select! {
            biased;
            () = signals.next() => Ended::AtOnce,
            ended = async {
                let cut_off = self.drain().await;
                Ended::InOrder { cut_off, left: self.shutdown().await }
            } => ended,
        }
    }
}

/// Whether `/proc/self/status` says that the signal is ignored.
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    signal > 0 && mask.checked_shr(signal.unsigned_abs() - 1).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_told_by_its_bit() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(ignored(status, 1) && ignored(status, 13));
        assert!(!ignored(status, 2) && !ignored(status, 64) && !ignored(status, 0) && !ignored("", 1));
    }
}
