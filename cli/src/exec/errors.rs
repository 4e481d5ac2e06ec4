//! A command's stderr: passed on line by line, and the last line kept for the caller of a call that fails.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ringplane_core::wire::line::Line;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::ChildStderr;
use tokio::sync::{oneshot, watch};

use crate::exec::outcome::GRACE;
use crate::stderr;

/// Of a longer line, each part of so many bytes is passed on as a line.
const LONGEST: usize = 8 << 10;
/// How much of the last line a caller is told, in bytes.
const TOLD: usize = 512;

/// The reader of a stderr. Its drop says that the command has ended: what is in the pipe is still passed on, and what
/// comes later is not, from whatever the command has left behind.
pub(super) struct Errors {
    last: Arc<Mutex<String>>,
    over: watch::Receiver<bool>,
    _here: oneshot::Sender<()>,
}

impl Errors {
    /// Starts to read.
    pub(super) fn read(stderr: ChildStderr) -> Self {
        let last = Arc::default();
        let (here, gone) = oneshot::channel();
        let (done, over) = watch::channel(false);
        let kept = Arc::clone(&last);
        tokio::spawn(async move {
            let leaving = async {
                let _ = gone.await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                _ = pass(BufReader::new(stderr), &kept) => {}
                () = leaving => {}
            }
            done.send_replace(true);
        });
        Self { last, over, _here: here }
    }

    /// What was wrong with a command that has ended, and its last words behind it. They may take a moment to come.
    pub(super) async fn behind(&self, what: String) -> String {
        let mut over = self.over.clone();
        let _ = tokio::time::timeout(GRACE, over.wait_for(|over| *over)).await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() { what } else { format!("{what}: {last}") }
    }
}

/// Passes lines on to their end, and keeps the last one that is not blank.
async fn pass(mut source: impl AsyncBufRead + Unpin, last: &Mutex<String>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let bytes = source.fill_buf().await?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = end.unwrap_or(bytes.len()).min(LONGEST - line.len());
        let (over, closed) = (end == Some(part), bytes.is_empty());
        line.extend_from_slice(bytes.get(..part).unwrap_or_default());
        source.consume(part + usize::from(over));
        if over || line.len() == LONGEST || (closed && !line.is_empty()) {
            stderr::pass(&line);
            if !line.trim_ascii().is_empty() {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = told(&line);
            }
            line.clear();
        }
        if closed {
            return Ok(());
        }
    }
}

/// A line as a caller is told it: of bounded length, and safe for a terminal.
fn told(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.trim_ascii());
    let cut = text.get(..text.floor_char_boundary(TOLD)).unwrap_or_default();
    let mut told = Line(cut).to_string();
    if cut.len() < text.len() || told.len() > TOLD {
        told.truncate(told.floor_char_boundary(TOLD));
        told.push('…');
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(source: &[u8]) -> String {
        let last = Mutex::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(pass(source, &last)).unwrap();
        last.into_inner().unwrap()
    }

    #[test]
    fn the_last_line_is_the_last_one_with_something_on_it() {
        assert_eq!(last(b"one\n two \r\n\n  \n"), "two");
        assert_eq!(last(b"one\ntwo"), "two");
        assert_eq!(last(b""), "");
    }

    #[test]
    fn it_is_one_safe_line_of_bounded_length() {
        assert_eq!(last(b"a\x1b[31mb\xff\n"), "a\\u{1b}[31mb\u{FFFD}");
        for line in [&b"x"[..], b"\x1b", "\u{FC}".as_bytes()] {
            let told = last(&line.repeat(3 * LONGEST));
            assert!(told.len() <= TOLD + "…".len() && told.ends_with('…'), "{}", told.len());
        }
    }
}
