//! A command's stdout by lines.

use std::io;

use ringplane::Failure;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;
use tokio::sync::oneshot;

use crate::exec::outcome::failed;

/// The longest line, in bytes. A longer one is a failure.
pub(super) const MAX_LINE: usize = 1 << 20;

/// A command's stdout by lines, to its end or to the end of the grace.
pub(super) struct Lines<S> {
    /// What has come of the next line.
    line: Vec<u8>,
    from: From<S>,
}

/// Where lines come from.
struct From<S> {
    source: S,
    /// How much can be read from the source without waiting, in bytes.
    unread: fn(&S) -> usize,
    /// Says that the grace has passed.
    grace: oneshot::Receiver<()>,
    /// Bytes that are still read then.
    left: Option<usize>,
}

impl Lines<BufReader<ChildStdout>> {
    /// All lines that are there by the time that `grace` passes.
    pub(super) fn until(stdout: ChildStdout, grace: oneshot::Receiver<()>) -> Self {
        Self::new(BufReader::new(stdout), unread, grace)
    }
}

impl<S: AsyncBufRead + Unpin> Lines<S> {
    const fn new(source: S, unread: fn(&S) -> usize, grace: oneshot::Receiver<()>) -> Self {
        Self { line: Vec::new(), from: From { source, unread, grace, left: None } }
    }

    /// The next line without its end; the last one may lack it. Whoever gives up waiting finds what had come of it the next
    /// time.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let read = self.from.fill().await;
            let bytes = read.map_err(|error| failed(format_args!("the command's stdout cannot be read: {error}")))?;
            if bytes.is_empty() {
                return Ok(Some(std::mem::take(&mut self.line)).filter(|line| !line.is_empty()));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = end.unwrap_or(bytes.len());
            if self.line.len() + part > MAX_LINE {
                return Err(failed(format_args!("the command wrote a line of more than {MAX_LINE} bytes")));
            }
            self.line.extend_from_slice(bytes.get(..part).unwrap_or_default());
            self.from.take(part + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.line)));
            }
        }
    }
}

impl<S: AsyncBufRead + Unpin> From<S> {
    /// What is there, once something is; nothing at the end.
    async fn fill(&mut self) -> io::Result<&[u8]> {
        if self.left.is_none() {
            tokio::select! {
                biased;
                _ = &mut self.grace => self.left = Some((self.unread)(&self.source)),
                read = async { self.source.fill_buf().await.map(drop) } => read?,
            }
        }
        match self.left {
            None => self.source.fill_buf().await,
            Some(0) => Ok(&[]),
            Some(left) => self.source.fill_buf().await.map(|bytes| bytes.get(..left).unwrap_or(bytes)),
        }
    }

    fn take(&mut self, bytes: usize) {
        self.source.consume(bytes);
        self.left = self.left.map(|left| left.saturating_sub(bytes));
    }
}

/// What is buffered, and what the pipe holds.
fn unread(stdout: &BufReader<ChildStdout>) -> usize {
    let pipe = rustix::io::ioctl_fionread(stdout.get_ref()).unwrap_or(0);
    stdout.buffer().len().saturating_add(usize::try_from(pipe).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(source: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let (_passed, grace) = oneshot::channel();
        all(Lines::new(source, |source| source.len(), grace))
    }

    fn all(mut from: Lines<impl AsyncBufRead + Unpin>) -> Result<Vec<Vec<u8>>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut lines = Vec::new();
            while let Some(line) = from.next().await? {
                lines.push(line);
            }
            Ok(lines)
        })
    }

    #[test]
    fn lines_end_at_line_breaks_and_the_last_one_may_lack_it() {
        assert_eq!(lines(b"a\n\nb\r\nc").unwrap(), [&b"a"[..], b"", b"b\r", b"c"]);
        assert!(lines(b"").unwrap().is_empty());
        let longest = [b"x".repeat(MAX_LINE), b"\n".to_vec()].concat();
        assert_eq!(lines(&longest).unwrap()[0].len(), MAX_LINE);
        let error = lines(&b"x".repeat(MAX_LINE + 1)).unwrap_err();
        assert_eq!(error.message, "the command wrote a line of more than 1048576 bytes");
    }

    #[test]
    fn what_was_written_within_the_grace_is_read_and_nothing_behind_it() {
        let (passed, grace) = oneshot::channel();
        passed.send(()).unwrap();
        let late = Lines::new(&b"one\ntwo\nthree\n"[..], |_| 10, grace);
        assert_eq!(all(late).unwrap(), [&b"one"[..], b"two", b"th"]);
    }
}
