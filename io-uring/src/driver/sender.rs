//! Memory of writes, the connections that wait for their next turn, and one write straight to a socket.

use std::io::ErrorKind;

use ringplane_core::buf::slab::Key;
use ringplane_core::protocol::CloseReason;
use socket2::Socket;

use crate::kernel::op::SendJob;

/// Jobs kept for reuse. A connection has one only while it writes.
const SPARES: usize = 64;
/// Heap bytes all of them keep together. Memory that is given back after every large write is memory the kernel has to
/// clear before the next.
const SPARE_BYTES: usize = 4 << 20;

/// Send memory and the connections that wait for their next turn.
#[derive(Debug)]
pub(crate) struct Sender {
    limit: usize,
    #[expect(clippy::vec_box, reason = "an operation owns the box: its address must not change")]
    spares: Vec<Box<SendJob>>,
    spare_bytes: usize,
    pub(crate) postponed: Vec<Key>,
    pub(crate) resumed: Vec<Key>,
}

/// How far a direct write got.
pub(crate) enum Written {
    All,
    /// The socket's buffer is full.
    Some,
    Failed(CloseReason),
}

impl Sender {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, spares: Vec::new(), spare_bytes: 0, postponed: Vec::new(), resumed: Vec::new() }
    }

    /// Whether the driver must not wait.
    pub(crate) const fn has_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    pub(crate) fn job(&mut self) -> Box<SendJob> {
        let Some(job) = self.spares.pop() else { return SendJob::new(self.limit) };
        self.spare_bytes -= job.queue().capacity();
        job
    }

    pub(crate) fn keep(&mut self, mut job: Box<SendJob>) {
        job.reset();
        let bytes = self.spare_bytes + job.queue().capacity();
        if self.spares.len() < SPARES && bytes <= SPARE_BYTES {
            self.spare_bytes = bytes;
            self.spares.push(job);
        }
    }
}

/// Writes to `socket` until it takes no more or all is written. Says how many bytes it took.
pub(crate) fn write(job: &mut SendJob, socket: &Socket) -> (usize, Written) {
    let mut sent = 0;
    while !job.queue().is_empty() {
        match job.write(socket) {
            Ok((0, _)) => return (sent, Written::Some),
            Ok((bytes, all)) => {
                sent += bytes;
                if !all {
                    return (sent, Written::Some);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (sent, Written::Some),
            Err(error) => {
                return (sent, Written::Failed(CloseReason::from_errno(error.raw_os_error().unwrap_or(0))));
            }
        }
    }
    (sent, Written::All)
}
