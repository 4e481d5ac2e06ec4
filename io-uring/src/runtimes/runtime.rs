//! What a runtime with owned buffers has to offer.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::buf::send_queue::SendQueue;

/// Payloads of this many bytes and more are written by reference, smaller ones copied together.
const BY_REFERENCE: usize = 32 * 1024;
/// Pieces of a queue copied into one write.
const PIECES: usize = 64;

/// A runtime whose operations own their buffers until they complete. Everything is called on the runtime's thread,
/// inside of it.
pub(crate) trait Runtime: 'static {
    /// A listening socket.
    type Listener: 'static;
    /// A connected socket, whole.
    type Stream: 'static;
    /// Its receiving side.
    type Reader: 'static;
    /// Its sending side.
    type Writer: 'static;
    /// What ends the operations of both.
    type Control: 'static;
    /// A descriptor to wait for.
    type Watch: 'static;

    /// Runs `main` on a fresh runtime on the calling thread, with a submission queue of `entries`.
    fn run<T: 'static>(entries: u32, main: impl Future<Output = T> + 'static) -> io::Result<T>;

    /// Starts a task on this thread.
    fn spawn(task: impl Future<Output = ()> + 'static);

    /// Takes a listener over, in blocking mode: the kernel does the waiting.
    fn listener(listener: TcpListener) -> io::Result<Self::Listener>;

    /// The next connection and the address of its peer; an error once the socket has been shut down. Not to be dropped before: the operation may go on,
    /// and a connection that it brings would be nobody's, open and silent.
    fn accept(listener: &Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>>;

    /// Takes a descriptor over, in non-blocking mode, to wait for it.
    fn watch(fd: OwnedFd) -> io::Result<Self::Watch>;

    /// Completes when the descriptor has something to read.
    fn readable(watch: &Self::Watch) -> impl Future<Output = io::Result<()>>;

    /// Completes when the descriptor takes bytes.
    fn writable(watch: &Self::Watch) -> impl Future<Output = io::Result<()>>;

    /// The connection behind a socket that was watched while it was dialed, by now in blocking mode.
    fn connected(watch: Self::Watch) -> io::Result<Self::Stream>;

    /// Lets the runtime look at its operations and other tasks once. `watch` is always writable.
    fn pause(watch: &Self::Watch) -> impl Future<Output = ()>;

    /// Completes after `time`, or somewhat later.
    fn sleep(time: Duration) -> impl Future<Output = ()>;

    /// Divides a connection.
    fn split(stream: Self::Stream) -> (Self::Reader, Self::Writer, Self::Control);

    /// Receives into an empty buffer, up to its capacity.
    fn read(reader: &mut Self::Reader, buffer: Vec<u8>) -> impl Future<Output = (io::Result<usize>, Vec<u8>)>;

    /// Sends some of `bytes`, from the front.
    fn write(writer: &mut Self::Writer, bytes: Outgoing) -> impl Future<Output = (io::Result<usize>, Outgoing)>;

    /// Sends FIN.
    fn finish(writer: &mut Self::Writer) -> io::Result<()>;

    /// Makes the operations in flight complete, whatever they were waiting for.
    fn abort(control: Self::Control);
}

/// The bytes of one write.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Pieces copied together.
    Copied(Vec<u8>),
    /// One payload, where it is.
    Shared(Bytes),
}

impl Outgoing {
    /// What comes first in `queue`, which is not empty. `scratch` is empty; it is used if something is to be copied.
    pub(crate) fn of(queue: &SendQueue, mut scratch: Vec<u8>) -> Self {
        if let Some(payload) = queue.front_payload().filter(|payload| payload.len() >= BY_REFERENCE) {
            return Self::Shared(payload);
        }
        let mut pieces = [&[][..]; PIECES];
        let used = queue.slices(&mut pieces);
        for piece in &pieces[..used] {
            if !scratch.is_empty() && piece.len() >= BY_REFERENCE {
                break;
            }
            scratch.extend_from_slice(piece);
        }
        Self::Copied(scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_leave_together_and_large_ones_by_themselves_without_a_copy() {
        let (small, large) = (Bytes::from(vec![1; 5000]), Bytes::from(vec![2; BY_REFERENCE]));
        let mut queue = SendQueue::new(1 << 20);
        for payload in [&small, &small, &large, &small] {
            queue.push(b"head");
            queue.push_payload(payload, 0..payload.len());
        }
        let mut writes = Vec::new();
        while !queue.is_empty() {
            let (len, shared) = match Outgoing::of(&queue, Vec::new()) {
                Outgoing::Copied(bytes) => (bytes.len(), false),
                Outgoing::Shared(bytes) => (bytes.len(), bytes.as_ptr() == large.as_ptr()),
            };
            writes.push((len, shared));
            queue.advance(len);
        }
        assert_eq!(writes, [(3 * 4 + 2 * 5000, false), (BY_REFERENCE, true), (4 + 5000, false)]);
    }
}
