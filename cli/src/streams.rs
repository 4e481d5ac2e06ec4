//! The standard streams as they are found: one that somebody made non-blocking is waited for, and stays as it is.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::exit::Failed;

/// Standard input.
pub(crate) struct Input(OwnedFd);

impl Input {
    pub(crate) fn new() -> io::Result<Self> {
        io::stdin().as_fd().try_clone_to_owned().map(Self)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        patiently(self.0.as_fd(), PollFlags::IN, || rustix::io::read(&self.0, &mut *buffer))
    }
}

/// Standard output or standard error. Not through those of `std`: their locks, held while a reader pauses, would keep the
/// process from exiting.
pub(crate) struct Output(OwnedFd);

impl Output {
    pub(crate) fn stdout() -> io::Result<Self> {
        io::stdout().as_fd().try_clone_to_owned().map(Self)
    }

    pub(crate) fn stderr() -> io::Result<Self> {
        io::stderr().as_fd().try_clone_to_owned().map(Self)
    }

    /// Waits until nobody can read any more. For a file, that is for ever.
    pub(crate) fn wait_until_unread(&self) -> io::Result<()> {
        // Errors and hang-ups are told whatever is asked for.
        wait(self.0.as_fd(), PollFlags::empty())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        patiently(self.0.as_fd(), PollFlags::OUT, || rustix::io::write(&self.0, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tries until the descriptor is ready.
fn patiently<T>(
    fd: BorrowedFd<'_>,
    ready: PollFlags,
    mut attempt: impl FnMut() -> rustix::io::Result<T>,
) -> io::Result<T> {
    loop {
        match attempt() {
            Err(Errno::AGAIN) => wait(fd, ready)?,
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

fn wait(fd: BorrowedFd<'_>, ready: PollFlags) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(fd, ready)], None) {
            Err(Errno::INTR) => {}
            done => return Ok(done.map(drop)?),
        }
    }
}

/// What writing to stdout led to.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Failed> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(unread()),
        result => result.map_err(|error| Failed::local("stdout", error)),
    }
}

/// The reader of stdout has left.
pub(crate) fn unread() -> Failed {
    Failed::unread()
}

/// Prints lines at once, for commands that do nothing else meanwhile.
pub(crate) fn print(lines: impl IntoIterator<Item = String>) -> Result<(), Failed> {
    let write = || {
        let mut out = io::BufWriter::new(Output::stdout()?);
        lines.into_iter().try_for_each(|line| writeln!(out, "{line}"))?;
        out.flush()
    };
    written(write())
}
