//! The few operations of io_uring that the floor needs, safe to use from outside this file.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io::{self, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Receive buffers: a power of two.
const COUNT: u16 = 256;
/// Bytes of each.
const SIZE: usize = 64 << 10;
const GROUP: u16 = 0;

/// A ring with its receive memory, which lives as long as the process: the kernel may write to it until then.
pub(crate) struct Ring {
    io: IoUring,
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

/// What has happened.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Completion {
    /// What was given with the operation.
    pub(crate) token: u64,
    /// Its result, negative for an error.
    pub(crate) result: i32,
    /// Whether the operation goes on by itself.
    pub(crate) more: bool,
    buffer: Option<u16>,
}

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub(crate) fn open() -> Result<Self> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(32 << 10)
            .build(1024)?;
        let entries = allocate(usize::from(COUNT) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let memory = allocate(usize::from(COUNT) * SIZE);
        let mut ring = Self { io, entries, memory, tail: 0 };
        (0..COUNT).for_each(|number| ring.recycle(number));
        let address = entries.as_ptr().addr() as u64;
        // SAFETY: the entries are never freed, page-aligned, and `COUNT` of them.
        unsafe { ring.io.submitter().register_buf_ring_with_flags(address, COUNT, GROUP, 0)? };
        Ok(ring)
    }

    /// Receives from `socket` until it ends, into the ring's buffers.
    ///
    /// # Errors
    /// If the kernel takes no more operations.
    pub(crate) fn receive(&mut self, socket: &impl AsRawFd, token: u64) -> Result<()> {
        let operation = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        self.push(&operation.user_data(token))
    }

    /// Tells once when `socket` takes bytes.
    ///
    /// # Errors
    /// If the kernel takes no more operations.
    pub(crate) fn writable(&mut self, socket: &impl AsRawFd, token: u64) -> Result<()> {
        self.poll(socket.as_raw_fd(), libc::POLLOUT, false, token)
    }

    /// Tells each time `socket` can be read or accepted from.
    ///
    /// # Errors
    /// If the kernel takes no more operations.
    pub(crate) fn readable(&mut self, socket: &impl AsRawFd, token: u64) -> Result<()> {
        self.poll(socket.as_raw_fd(), libc::POLLIN, true, token)
    }

    /// Submits what was asked and waits: for ever, or no longer than said.
    ///
    /// # Errors
    /// What the kernel says, but for time being up.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> Result<()> {
        let entered = match wait {
            Some(Duration::ZERO) => {
                let pending = self.io.submission().len() as u32;
                const GETEVENTS: u32 = 1;
                // SAFETY: no argument is passed, so there is nothing that would have to stay alive.
                unsafe { self.io.submitter().enter::<libc::sigset_t>(pending, 0, GETEVENTS, None) }
            }
            Some(wait) => {
                let time = Timespec::from(wait);
                self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
            None => self.io.submit_and_wait(1),
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// The next thing that has happened. Its [`bytes`](Self::bytes) are to be given back with [`done`](Self::done).
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = self.io.completion().next()?;
        Some(Completion {
            token: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()).filter(|number| *number < COUNT),
        })
    }

    /// What was received.
    pub(crate) fn bytes(&self, completion: &Completion) -> &[u8] {
        let (Some(number), Ok(length)) = (completion.buffer, usize::try_from(completion.result)) else { return &[] };
        // SAFETY: the buffer is one of `COUNT`, its memory zeroed when allocated and never freed. The kernel has given it
        // up with this completion until `done` gives it back, which takes the ring mutably and so ends this borrow.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(number) * SIZE), length.min(SIZE)) }
    }

    /// Gives what was received back.
    pub(crate) fn done(&mut self, completion: Completion) {
        if let Some(number) = completion.buffer {
            self.recycle(number);
        }
    }

    fn poll(&mut self, fd: RawFd, what: i16, multi: bool, token: u64) -> Result<()> {
        let operation = opcode::PollAdd::new(Fd(fd), what as u32).multi(multi).build();
        self.push(&operation.user_data(token))
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<()> {
        for _ in 0..2 {
            // SAFETY: every operation this file makes takes numbers only, or receives into buffers that are never freed.
            if unsafe { self.io.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.io.submit()?;
        }
        Err(io::Error::other("the submission queue stays full"))
    }

    fn recycle(&mut self, number: u16) {
        let slot = usize::from(self.tail & (COUNT - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `slot` and `number` are below `COUNT`; the kernel does not read an entry at or after the tail, and the
        // tail, which shares the first entry's memory but none of the fields written, is only moved here.
        unsafe {
            let entry = self.entries.as_ptr().add(slot);
            (*entry).set_addr(self.memory.as_ptr().add(usize::from(number) * SIZE).addr() as u64);
            (*entry).set_len(SIZE as u32);
            (*entry).set_bid(number);
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Zeroed memory for ever.
fn allocate(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, 4096).expect("some megabytes, aligned to a page");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
