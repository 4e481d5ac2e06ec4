//! Items as lines of JSON, and a thread that writes lines: a reader that pauses must not keep signals from being heard.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;

use serde_json::value::RawValue;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::oneshot;

use crate::cli::exit::Failed;

/// Lines that may wait for the reader of the output.
const AHEAD: usize = 64;

/// One item as one line without its end:
/// - JSON stays as it is, except that line breaks between its parts become blanks;
/// - other text becomes a JSON string;
/// - other bytes become `{"hex":"…"}`.
pub(crate) fn json_line(item: &[u8]) -> Vec<u8> {
    if let Ok(json) = serde_json::from_slice::<&RawValue>(item) {
        // A line break within a JSON string is written `\n`: what is left stands between parts.
        let blank = |byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte };
        return json.get().bytes().map(blank).collect();
    }
    if let Ok(text) = std::str::from_utf8(item) {
        return serde_json::Value::from(text).to_string().into_bytes();
    }
    let digits = item.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).map(|digit| b"0123456789abcdef"[digit as usize]);
    br#"{"hex":""#.iter().copied().chain(digits).chain(*br#""}"#).collect()
}

/// The thread that writes to stdout.
pub(crate) struct Lines {
    pub(crate) queue: mpsc::Sender<Vec<u8>>,
    written: oneshot::Receiver<io::Result<()>>,
}

impl Lines {
    pub(crate) fn start() -> Result<Self, Failed> {
        let refused = |error| Failed::local("stdout", error);
        // Not through `io::stdout`: its lock, held while a reader pauses, would keep the process from exiting.
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(refused)?;
        let (queue, lines) = mpsc::channel(AHEAD);
        let (done, written) = oneshot::channel();
        let run = move || drop(done.send(write(BufWriter::new(File::from(out)), lines)));
        std::thread::Builder::new().name("stdout".to_owned()).spawn(run).map_err(refused)?;
        Ok(Self { queue, written })
    }

    /// Waits until everything is written, for as long as the reader takes.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.queue);
        self.written.await.unwrap_or_else(|_| Err(io::Error::other("the writing thread died")))
    }
}

/// Writes line after line, and passes them on as soon as no further one waits.
fn write(mut out: impl Write, mut lines: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => return out.flush(),
            Err(TryRecvError::Empty) => {
                out.flush()?;
                match lines.blocking_recv() {
                    Some(line) => line,
                    None => return Ok(()),
                }
            }
        };
        out.write_all(&line)?;
        out.write_all(b"\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_lines_of_json() {
        for (item, line) in [
            (&b"{\"a\": 1.10}"[..], "{\"a\": 1.10}"),
            (b" [1,\r\n 2]\n", "[1,   2]"),
            (b"12345678901234567890123", "12345678901234567890123"),
            (b"hello \"you\"\n", "\"hello \\\"you\\\"\\n\""),
            (b"", "\"\""),
            (b"\xFF\x00a", "{\"hex\":\"ff0061\"}"),
        ] {
            assert_eq!(String::from_utf8(json_line(item)).unwrap(), line);
        }
    }

    #[test]
    fn lines_are_written_in_order_and_the_last_one_is_flushed() {
        let (queue, lines) = mpsc::channel(2);
        queue.try_send(b"one".to_vec()).unwrap();
        queue.try_send(b"two".to_vec()).unwrap();
        drop(queue);
        let mut out = Vec::new();
        write(&mut out, lines).unwrap();
        assert_eq!(out, b"one\ntwo\n");
    }
}
