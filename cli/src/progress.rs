//! How far a transfer or a load is, on a terminal and nowhere else.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ringplane_core::wire::line::Line;

use crate::streams::Output;

/// The time between two looks.
const PERIOD: Duration = Duration::from_millis(200);
/// The longest that the end of a transfer waits for its last line to be taken.
const FAREWELL: Duration = Duration::from_secs(1);

/// A line on the terminal that says how far it is, until it is dropped; nothing where stderr is none.
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    /// Dropped, it ends the thread that writes; the other end is dropped when that has ended.
    writing: Option<(Sender<()>, Receiver<()>)>,
}

impl Progress {
    /// Of `size` in this unit nothing has passed.
    pub(crate) fn start(name: &str, size: u64, unit: &'static str) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let writing = std::io::stderr().is_terminal().then(|| {
            let ((end, ended), (alive, gone)) = (channel(), channel());
            let (name, done) = (Line(name).to_string(), done.clone());
            // A thread: a terminal that is stopped must not stop the transfer. Without one nothing is said.
            let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
                let _alive: Sender<()> = alive;
                let Ok(mut out) = Output::stderr() else { return };
                while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                    let line = line(&name, done.load(Ordering::Relaxed), size, unit);
                    if write!(out, "\r\x1b[K{line}").is_err() {
                        return;
                    }
                }
                let _ = out.write_all(b"\r\x1b[K");
            });
            (end, gone)
        });
        Self { done, writing }
    }

    /// So much has passed.
    pub(crate) fn at(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, gone)) = self.writing.take() {
            drop(end);
            // It sends nothing; its end is what is heard.
            let _ = gone.recv_timeout(FAREWELL);
        }
    }
}

fn line(name: &str, done: u64, size: u64, unit: &str) -> String {
    // An empty object is whole at once.
    let percent = (done.min(size) * 100).checked_div(size).unwrap_or(100);
    format!("{name}: {percent} % of {size} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        assert_eq!(line("a", 0, 200, "bytes"), "a: 0 % of 200 bytes");
        assert_eq!(line("a", 199, 200, "bytes"), "a: 99 % of 200 bytes");
        assert_eq!(line("a", 0, 0, "bytes"), "a: 100 % of 0 bytes");
    }
}
