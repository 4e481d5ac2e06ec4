//! SIGINT, SIGTERM and SIGHUP as one stream.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failed;

/// Signals this close together are one: `timeout`, a terminal and some supervisors signal the process and its group.
const ONE: Duration = Duration::from_millis(100);

/// The signals. From its making on, none of them ends the process by itself.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// A terminal that is gone; `None` if that was ignored at the start already, as `nohup` has it.
    hangup: Option<Signal>,
    last: Option<Instant>,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failed> {
        let listen = |kind| signal(kind).map_err(|error| Failed::local("cannot listen for signals", error));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let kind = SignalKind::hangup();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hangup = if ignored(&status, kind.as_raw_value()) { None } else { Some(listen(kind)?) };
        Ok(Self { interrupt, terminate, hangup, last: None })
    }

    /// Waits for the next of them. Losing the race in a `select!` loses no signal.
    pub(crate) async fn next(&mut self) {
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
