//! What can be in flight, each owning all memory and descriptors the kernel uses meanwhile.
#![expect(unsafe_code, reason = "structures the kernel reads by address")]

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::buf::slab::Key;
use socket2::{SockAddr, Socket};

use crate::kernel::bell::Bell;

/// The only group of receive buffers.
pub(crate) const POOL: u16 = 0;
/// Slices handed to the kernel in one write. The rest of a longer queue follows in the next.
const SLICES: usize = 64;

/// One operation. It stays in the ring's table until its last completion, so what it owns outlives the kernel's use.
#[derive(Debug)]
pub(crate) enum Op {
    /// Completes at once.
    Nop,
    /// One completion per connection that comes in, until it ends.
    Accept { listener: Rc<TcpListener>, home: bool },
    /// One completion.
    Connect { conn: Key, socket: Rc<Socket>, address: Box<SockAddr> },
    /// One completion per portion received into the pool, until it ends.
    Receive { conn: Key, socket: Rc<Socket> },
    /// One completion, after any number of bytes.
    Send { conn: Key, socket: Rc<Socket>, job: Box<SendJob> },
    /// One completion per ring of the bell, until it ends.
    Listen { bell: Arc<Bell> },
    /// Ends one operation of a connection early.
    Cancel { conn: Key, target: Key },
    /// Ends all others early.
    CancelAll,
}

impl Op {
    /// The kernel's form. It points into what `self` owns on the heap, which does not move when `self` does.
    pub(crate) fn entry(&mut self) -> squeue::Entry {
        match self {
            Self::Nop => opcode::Nop::new().build(),
            Self::Accept { listener, .. } => {
                opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build()
            }
            Self::Connect { socket, address, .. } => {
                opcode::Connect::new(Fd(socket.as_raw_fd()), address.as_ptr().cast(), address.len()).build()
            }
            Self::Receive { socket, .. } => opcode::RecvMulti::new(Fd(socket.as_raw_fd()), POOL).build(),
            Self::Send { socket, job, .. } => {
                let flags = libc::MSG_NOSIGNAL as u32;
                opcode::SendMsg::new(Fd(socket.as_raw_fd()), job.message()).flags(flags).build()
            }
            Self::Listen { bell } => {
                opcode::PollAdd::new(Fd(bell.waker().as_raw_fd()), libc::POLLIN as u32).multi(true).build()
            }
            Self::Cancel { target, .. } => opcode::AsyncCancel::new(target.to_u64()).build(),
            Self::CancelAll => opcode::AsyncCancel2::new(CancelBuilder::any()).build(),
        }
    }
}

/// One batch of bytes on its way, with the structures that describe it to the kernel. Nobody can reach the queue while
/// an [`Op::Send`] owns the job.
pub(crate) struct SendJob {
    queue: SendQueue,
    slices: [libc::iovec; SLICES],
    message: libc::msghdr,
}

impl SendJob {
    /// An empty job for batches of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Box<Self> {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a msghdr is plain integers and pointers; all zeroes is a valid, empty one.
        let message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
        Box::new(Self { queue: SendQueue::new(limit), slices: [empty; SLICES], message })
    }

    pub(crate) const fn queue(&self) -> &SendQueue {
        &self.queue
    }

    pub(crate) const fn queue_mut(&mut self) -> &mut SendQueue {
        &mut self.queue
    }

    /// Empties it for its next user.
    pub(crate) fn reset(&mut self) {
        self.queue.clear();
    }

    /// Writes what the socket takes right now, without waiting. Returns the bytes written and whether that was all that
    /// was offered.
    ///
    /// # Errors
    /// What the system says, `WouldBlock` included.
    pub(crate) fn write(&mut self, socket: &Socket) -> io::Result<(usize, bool)> {
        let mut slices = [&[][..]; SLICES];
        let used = self.queue.slices(&mut slices);
        let slices = slices.map(IoSlice::new);
        let offered: usize = slices[..used].iter().map(|slice| slice.len()).sum();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let written = socket.send_vectored_with_flags(&slices[..used], flags)?;
        self.queue.advance(written);
        Ok((written, written == offered))
    }

    /// Describes the unwritten bytes; the addresses hold until the job is touched again.
    fn message(&mut self) -> *const libc::msghdr {
        let mut slices = [&[][..]; SLICES];
        let used = self.queue.slices(&mut slices);
        for (target, slice) in self.slices.iter_mut().zip(&slices[..used]) {
            *target = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
        }
        self.message.msg_iov = self.slices.as_mut_ptr();
        self.message.msg_iovlen = used as _;
        &raw const self.message
    }
}

impl fmt::Debug for SendJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendJob").field("unwritten", &self.queue.len()).finish_non_exhaustive()
    }
}
