//! The ring itself: set up with what this kernel offers, filled with operations that own their memory, reaped.
#![expect(unsafe_code, reason = "entries are handed to the kernel here")]

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};
use socket2::Socket;

use ringplane_core::buf::slab::{Key, Slab};

use crate::kernel::op::{Op, POOL, SendJob};
use crate::kernel::pool::{Buffer, Pool};
use crate::kernel::setup::{Flavor, Setup, Sizes};

/// Completions taken from the queue at a time.
const REAP: usize = 256;
/// Times the smallest ring is tried when locked memory is short, and the pause between: the kernel gives the memory of a
/// ring just closed back later, on a busy machine more than half a second later.
const TRIES: (u32, Duration) = (150, Duration::from_millis(20));

/// One io_uring, its receive memory and everything in flight on it. Lives and dies on one thread.
///
/// Invariant: every entry the kernel has not answered for the last time has its [`Op`] in `table`, named by the entry's
/// user data.
pub(crate) struct Ring {
    io: ManuallyDrop<IoUring>,
    table: ManuallyDrop<Slab<Op>>,
    pool: ManuallyDrop<Pool>,
    /// Entries waiting for room in the submission queue; bounded by `table`.
    backlog: VecDeque<squeue::Entry>,
    flavor: Flavor,
    counts: Counts,
}

/// What the ring counts.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) enters: u64,
    pub(crate) submissions: u64,
    pub(crate) completions: u64,
    pub(crate) overflows: u64,
}

/// How long to wait for a completion.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    No,
    For(Duration),
    Forever,
}

/// One answer of the kernel.
#[derive(Debug)]
pub(crate) struct Completion {
    /// Which operation.
    pub(crate) key: Key,
    /// A count, or an errno.
    pub(crate) result: Result<u32, i32>,
    /// Whether the operation goes on. If not, the key is dead.
    pub(crate) more: bool,
    pub(crate) what: What,
}

/// What an operation hands back.
#[derive(Debug)]
pub(crate) enum What {
    Nop,
    Accepted { home: bool, socket: Option<OwnedFd> },
    Connected { conn: Key },
    Received { conn: Key, buffer: Option<Buffer> },
    Sent { conn: Key, socket: Rc<Socket>, job: Box<SendJob> },
    Rang,
    Cancelled { conn: Key, target: Key },
}

impl Ring {
    /// Sets a ring up on the calling thread, which is the only one that may use it: as large as `sizes` if locked memory
    /// suffices, smaller otherwise.
    ///
    /// # Errors
    /// What stands in the way of even the smallest ring.
    pub(crate) fn open(mut sizes: Sizes) -> Result<Self, Setup> {
        let mut tries = TRIES.0;
        loop {
            match Self::open_exactly(sizes) {
                Err(setup) if setup.is_short() && sizes.shrink() => {}
                Err(setup) if setup.is_short() && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(TRIES.1);
                }
                outcome => return outcome,
            }
        }
    }

    fn open_exactly(sizes: Sizes) -> Result<Self, Setup> {
        let (io, flavor) = crate::kernel::setup::build(sizes)?;
        let pool = Pool::new(sizes.buffers, sizes.buffer).map_err(Setup::Register)?;
        // SAFETY: the address is that of `buffers` initialised entries, page-aligned, which live until the ring is
        // unregistered or closed (`Drop`). If the call fails the kernel keeps nothing.
        unsafe { io.submitter().register_buf_ring_with_flags(pool.address(), pool.count(), POOL, 0) }
            .map_err(Setup::Register)?;
        Ok(Self {
            io: ManuallyDrop::new(io),
            table: ManuallyDrop::new(Slab::new()),
            pool: ManuallyDrop::new(pool),
            backlog: VecDeque::new(),
            flavor,
            counts: Counts::default(),
        })
    }

    /// Takes an operation over; it is submitted with the next [`Ring::enter`] at the latest.
    pub(crate) fn push(&mut self, op: Op) -> Key {
        let key = self.table.insert(op);
        let op = self.table.get_mut(key).expect("just inserted");
        let entry = op.entry().user_data(key.to_u64());
        self.counts.submissions += 1;
        self.backlog.push_back(entry);
        self.fill();
        key
    }

    /// Submits what waits and, if `wait` says so, sleeps until something completes.
    ///
    /// # Errors
    /// What the system says, except for the harmless: a signal, the end of the wait, a kernel short of memory or with a
    /// full completion queue, which the next turn gets over.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        loop {
            self.fill();
            let more = !self.backlog.is_empty();
            let wait = if more || !self.io.completion().is_empty() { Wait::No } else { wait };
            let submit = self.io.submission().len() as u32;
            if wait == Wait::No && submit == 0 && !self.wants_enter() {
                return Ok(());
            }
            self.counts.enters += 1;
            self.counts.overflows += u64::from(self.io.submission().cq_overflow());
            match self.enter_once(submit, wait).map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) if more => {}
                Ok(_) | Err((Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Whether a completion can be had: is in the queue, or one system call away.
    pub(crate) fn is_pending(&mut self) -> bool {
        !self.io.completion().is_empty() || self.io.submission().taskrun()
    }

    /// Appends what has completed to `out`, a bounded number at a time; none: the queue is empty.
    pub(crate) fn reap(&mut self, out: &mut Vec<Completion>) {
        let queue = self.io.completion();
        for entry in queue.take(REAP) {
            self.counts.completions += 1;
            // SAFETY: `entry` comes from the kernel's queue, once, and this ring's pool is the only one registered.
            out.extend(unsafe { decode(&mut self.table, &mut self.pool, &entry) });
        }
    }

    /// The received bytes.
    pub(crate) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.pool.bytes(buffer)
    }

    /// Gives a receive buffer back to the kernel.
    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        self.pool.recycle(buffer);
    }

    /// The kernel had no receive buffer for something.
    pub(crate) fn ran_short(&mut self) {
        self.pool.ran_short();
    }

    /// What was received in a turn has been handled: looks whether receive buffers suffice.
    pub(crate) fn settle_buffers(&mut self) {
        self.pool.settle();
    }

    /// Ends everything in flight and reaps it, for up to `patience`; returns how many operations are left: none, unless
    /// the kernel is stuck.
    pub(crate) fn settle(&mut self, patience: Duration) -> usize {
        let start = Instant::now();
        let mut out = Vec::new();
        let mut cancel = None;
        while self.in_flight() > 0 && start.elapsed() < patience {
            if cancel.is_none_or(|key| self.table.get(key).is_none()) {
                cancel = Some(self.push(Op::CancelAll));
            }
            if let Err(error) = self.enter(Wait::For(Duration::from_millis(10))) {
                tracing::error!(%error, "cannot enter the ring to reap it");
                break;
            }
            self.reap(&mut out);
            for completion in out.drain(..) {
                if let What::Received { buffer: Some(buffer), .. } = completion.what {
                    self.pool.recycle(buffer);
                }
            }
        }
        self.in_flight()
    }

    /// Operations the kernel has not answered for the last time.
    pub(crate) fn in_flight(&self) -> usize {
        self.table.len()
    }

    /// Receive buffers that are neither free nor in the kernel's hands.
    pub(crate) fn buffers_out(&self) -> usize {
        self.pool.out()
    }

    pub(crate) fn is_in_flight(&self, key: Key) -> bool {
        self.table.get(key).is_some()
    }

    pub(crate) const fn flavor(&self) -> Flavor {
        self.flavor
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// The sizes the ring got: submission queue, completion queue, receive buffers.
    pub(crate) fn sizes(&self) -> (u32, u32, u16) {
        (self.io.params().sq_entries(), self.io.params().cq_entries(), self.pool.count())
    }

    pub(crate) fn has_no_iowait(&self) -> bool {
        self.io.params().is_feature_no_iowait()
    }
}

impl Ring {
    /// Moves waiting entries into the submission queue while it has room.
    fn fill(&mut self) {
        let mut queue = self.io.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: whatever the entry points to is owned by its `Op` in `table` until its last completion; `Drop`
            // leaks the table if the kernel still owes one.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Whether the kernel has something that only a system call brings out.
    fn wants_enter(&mut self) -> bool {
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn enter_once(&self, submit: u32, wait: Wait) -> io::Result<usize> {
        let submitter = self.io.submitter();
        let mut flags = EnterFlags::GETEVENTS;
        let want = u32::from(wait != Wait::No);
        if want > 0 && self.has_no_iowait() {
            flags |= EnterFlags::NO_IOWAIT;
        }
        if let Wait::For(limit) = wait {
            let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
            let args = SubmitArgs::new().timespec(&limit);
            let flags = (flags | EnterFlags::EXT_ARG).bits();
            // SAFETY: the argument is the structure EXT_ARG asks for and lives through the call.
            return unsafe { submitter.enter(submit, want, flags, Some(&args)) };
        }
        // SAFETY: no argument is passed, so none is read.
        unsafe { submitter.enter::<libc::sigset_t>(submit, want, flags.bits(), None) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let left = self.settle(Duration::from_secs(2));
        // SAFETY: the three are taken once, here, and not used afterwards.
        let (io, table, pool) = unsafe {
            (ManuallyDrop::take(&mut self.io), ManuallyDrop::take(&mut self.table), ManuallyDrop::take(&mut self.pool))
        };
        if left > 0 {
            tracing::error!(left, "operations still in the kernel; their memory is given up");
            std::mem::forget(table);
            pool.leak();
            return;
        }
        if let Err(error) = io.submitter().unregister_buf_ring(POOL) {
            tracing::error!(%error, "cannot take the receive memory back; it is given up");
            pool.leak();
        }
    }
}

/// What one entry of the completion queue means; `None`: nothing that was asked for.
///
/// # Safety
/// `entry` must come from the queue of the ring that `table` and `pool` belong to, and be decoded once.
unsafe fn decode(table: &mut Slab<Op>, pool: &mut Pool, entry: &cqueue::Entry) -> Option<Completion> {
    let key = Key::from_u64(entry.user_data());
    let more = cqueue::more(entry.flags());
    let result = u32::try_from(entry.result()).map_err(|_| -entry.result());
    let buffer = cqueue::buffer_select(entry.flags()).and_then(|number| {
        // SAFETY: as promised by the caller.
        unsafe { pool.claim(number, result.unwrap_or(0)) }
    });
    let what = match (table.get(key)?, more) {
        (Op::Accept { home, .. }, _) => What::Accepted {
            home: *home,
            socket: result.ok().map(|fd| {
                // SAFETY: the kernel has just made this descriptor for us and told nobody else.
                unsafe { OwnedFd::from_raw_fd(fd as i32) }
            }),
        },
        (Op::Receive { conn, .. }, _) => What::Received { conn: *conn, buffer },
        (Op::Listen { .. }, _) => What::Rang,
        (Op::Connect { conn, .. }, false) => What::Connected { conn: *conn },
        (Op::Cancel { conn, target }, false) => What::Cancelled { conn: *conn, target: *target },
        (Op::Nop | Op::CancelAll | Op::Send { .. }, false) => What::Nop,
        (_, true) => return None,
    };
    let op = if more { None } else { table.remove(key) };
    let what = match op {
        Some(Op::Send { conn, socket, job }) => What::Sent { conn, socket, job },
        _ => what,
    };
    Some(Completion { key, result, more, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(flavor: Flavor) -> Ring {
        Ring::open(Sizes { entries: 32, completions: 64, buffers: 4, buffer: 64, flavor }).unwrap()
    }

    #[test]
    fn more_operations_than_both_queues_hold_all_complete_and_the_overflow_is_counted() {
        for flavor in Flavor::ALL {
            let mut ring = ring(flavor);
            let mut expected: Vec<_> = (0..1000).map(|_| ring.push(Op::Nop)).collect();
            let (mut completions, mut keys) = (Vec::new(), Vec::new());
            while keys.len() < expected.len() {
                ring.enter(Wait::For(Duration::from_secs(10))).unwrap();
                ring.reap(&mut completions);
                assert!(!completions.is_empty(), "{} of 1000", keys.len());
                keys.extend(completions.drain(..).map(|completion| completion.key));
            }
            keys.sort_by_key(|key| key.to_u64());
            expected.sort_by_key(|key| key.to_u64());
            assert_eq!(keys, expected);
            assert_eq!(ring.in_flight(), 0);
            assert!(ring.counts().overflows > 0, "{flavor:?}");
        }
    }

    #[test]
    fn a_dropped_ring_ends_what_is_armed_before_it_frees_anything() {
        let (near, far) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        let socket = Rc::new(near);
        let mut ring = ring(Flavor::Deferred);
        let conn = Key::from_u64(0);
        ring.push(Op::Receive { conn, socket: socket.clone() });
        let mut job = SendJob::new(1 << 20);
        job.queue_mut().push(&[7; 1 << 20]);
        ring.push(Op::Send { conn, socket: socket.clone(), job });
        ring.enter(Wait::No).unwrap();
        assert_eq!((ring.in_flight(), Rc::strong_count(&socket)), (2, 3));
        drop(ring);
        assert_eq!(Rc::strong_count(&socket), 1);
        drop(far);
    }
}
