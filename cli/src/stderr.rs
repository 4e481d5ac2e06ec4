//! What the tool says on stderr, logs included: as much of it as somebody reads. Nobody waits for that and nobody fails by it,
//! because a thread of its own writes.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ringplane_core::wire::line::Line;
use tracing_subscriber::fmt::MakeWriter;

use crate::streams::Output;

/// Lines that may wait for the reader; of more, the oldest are dropped and counted.
const WAITING: usize = 1024;
/// The longest line, in bytes; it is cut behind.
const LONGEST: usize = 8 << 10;
/// The longest that the end of the process waits for the last lines to be taken.
const FAREWELL: Duration = Duration::from_secs(1);

/// Says one line, whatever is in the text.
pub(crate) fn say(text: impl fmt::Display) {
    queue().push(line(&text.to_string()));
}

/// Passes a command's line on as it is, without its end.
pub(crate) fn pass(line: &[u8]) {
    queue().push(format!("{}\n", String::from_utf8_lossy(line)));
}

/// Gives the last lines a moment to be read.
pub(crate) fn farewell() {
    if let Some(queue) = QUEUE.get() {
        queue.wait(FAREWELL);
    }
}

/// Where the logs go.
#[derive(Copy, Clone)]
pub(crate) enum Log {
    /// To people: lines of bounded length that no terminal obeys.
    Text,
    /// To machines: objects of JSON, as they are. Their fields are bounded already.
    Json,
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for Log {
    /// Takes a whole event: the layer writes it in one piece.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        match self {
            Self::Text => say(String::from_utf8_lossy(line)),
            Self::Json => pass(line),
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line, safe for a terminal and of bounded length.
fn line(text: &str) -> String {
    let mut line = Line(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default()).to_string();
    if line.len() > LONGEST || text.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push('…');
    }
    line.push('\n');
    line
}

/// The lines of the process, once there has been one.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// The same with the thread that writes them.
fn queue() -> &'static Queue {
    QUEUE.get_or_init(|| {
        let queue = Arc::new(Queue::default());
        let lines = queue.clone();
        // Without a thread or a descriptor nothing is said, which is no reason to fail.
        let _ = std::thread::Builder::new().name("stderr".to_owned()).spawn(move || {
            if let Ok(mut out) = Output::stderr() {
                lines.write_to(&mut out);
            }
        });
        queue
    })
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    /// Lines dropped since the last one written.
    dropped: u64,
    /// Whether a line is being written.
    busy: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        let mut state = self.state();
        if state.lines.len() >= WAITING {
            state.lines.pop_front();
            state.dropped += 1;
        }
        state.lines.push_back(line);
        self.changed.notify_all();
    }

    /// The next line to be written, behind a word about those that were dropped.
    fn next(&self) -> String {
        let state = self.state();
        let idle = |state: &mut State| state.lines.is_empty();
        let mut state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.busy = true;
        let line = state.lines.pop_front().unwrap_or_default();
        match std::mem::take(&mut state.dropped) {
            0 => line,
            dropped => format!("ringplane: {dropped} lines of stderr were dropped, nobody read them\n{line}"),
        }
    }

    /// Writes for ever. What cannot be written is lost.
    fn write_to(&self, out: &mut impl Write) {
        loop {
            let _ = out.write_all(self.next().as_bytes());
            self.state().busy = false;
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written.
    fn wait(&self, bound: Duration) {
        let pending = |state: &mut State| state.busy || !state.lines.is_empty();
        drop(self.changed.wait_timeout_while(self.state(), bound, pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_bounded_length() {
        assert_eq!(line("a\nb\u{1B}[0m"), "a\\nb\\u{1b}[0m\n");
        for text in ["\u{FC}".repeat(LONGEST), "\u{1B}".repeat(LONGEST)] {
            let line = line(&text);
            assert!(line.len() <= LONGEST + "…\n".len() && line.ends_with("…\n"), "{}", line.len());
        }
    }

    #[test]
    fn the_newest_lines_are_kept_and_the_dropped_ones_counted() {
        let queue = Queue::default();
        for number in 0..WAITING + 3 {
            queue.push(format!("{number}\n"));
        }
        assert_eq!(queue.next(), "ringplane: 3 lines of stderr were dropped, nobody read them\n3\n");
        assert_eq!(queue.next(), "4\n");
        queue.wait(Duration::ZERO);
    }
}
