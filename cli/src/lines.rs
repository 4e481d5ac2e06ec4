//! A thread that writes lines to stdout, and one that looks whether anybody reads them: a reader that pauses must not keep
//! signals from being heard, and one that left ends a command that has nothing to say.

use std::io::{self, BufWriter, Write};

use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::{oneshot, watch};

use crate::exit::Failed;
use crate::streams::{Output, written};

/// The threads of stdout.
pub(crate) struct Lines {
    queue: mpsc::Sender<Vec<u8>>,
    written: oneshot::Receiver<io::Result<()>>,
    unread: watch::Receiver<bool>,
}

/// Nothing more is written; [`Lines::finish`] says why.
pub(crate) struct Closed;

impl Lines {
    /// Starts them; `ahead` lines may wait for the reader of the output.
    pub(crate) fn start(ahead: usize) -> Result<Self, Failed> {
        let refused = |error| Failed::local("stdout", error);
        let (out, looking) = (Output::stdout().map_err(refused)?, Output::stdout().map_err(refused)?);
        let (queue, lines) = mpsc::channel(ahead);
        let (done, written) = oneshot::channel();
        let run = move || drop(done.send(write(BufWriter::new(out), lines)));
        std::thread::Builder::new().name("stdout".to_owned()).spawn(run).map_err(refused)?;
        let (tell, unread) = watch::channel(false);
        let look = move || {
            if looking.wait_until_unread().is_ok() {
                tell.send_replace(true);
            }
        };
        std::thread::Builder::new().name("stdout-reader".to_owned()).spawn(look).map_err(refused)?;
        Ok(Self { queue, written, unread })
    }

    /// Waits for room for a line, which is sent without its end.
    pub(crate) async fn room(&self) -> Result<mpsc::Permit<'_, Vec<u8>>, Closed> {
        self.queue.reserve().await.map_err(|_| Closed)
    }

    /// Hands a line over, without its end, once there is room.
    pub(crate) async fn put(&self, line: impl Into<Vec<u8>>) -> Result<(), Closed> {
        self.room().await.map(|room| room.send(line.into()))
    }

    /// Waits until nobody can read the output any more, which may be for ever.
    pub(crate) async fn unread(&self) {
        if self.unread.clone().wait_for(|unread| *unread).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until everything is written, for as long as the reader takes.
    pub(crate) async fn finish(self) -> Result<(), Failed> {
        drop(self.queue);
        written(self.written.await.unwrap_or_else(|_| Err(io::Error::other("the writing thread died"))))
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
