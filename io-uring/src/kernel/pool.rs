//! Receive memory: a ring of buffers the kernel fills and this thread empties.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Bytes of the buffers in use at first: what they hold fits a core's cache beside everything else, and goes round in it.
/// Receiving much at a time into ever other memory costs more than it saves.
const WARM: usize = 512 * 1024;
/// Buffers in use at first at least, for as many connections.
const FEW: usize = 8;

/// Buffers of one size and the ring through which the kernel is told which of them are free. Only some are in use at first;
/// those beyond are not touched until there is need.
///
/// ```text
///   ring    [ entry | entry | … ]   `count` entries of 16 bytes; the tail lives in the first one's spare field
///   memory  [ buffer 0 | buffer 1 | … ]   `count` × `size` bytes
///
///   free in the ring --(kernel receives into it)--> Buffer --(recycle)--> free in the ring
///   not in use yet --(settle, after a shortage)--> free in the ring
/// ```
/// Invariant: a buffer number below `used` is in the ring or in exactly one [`Buffer`], never both; one from `used` on is in
/// neither.
#[derive(Debug)]
pub(crate) struct Pool {
    ring: Map,
    memory: Map,
    count: u16,
    size: u32,
    tail: u16,
    out: usize,
    /// Buffers in use.
    used: u16,
    /// Buffers filled since the last [`Pool::settle`], the bytes in them, and whether there were too few.
    filled: usize,
    bytes: usize,
    short: bool,
}

/// A filled buffer. Not recycling it costs the pool one buffer and harms nobody.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the pool"]
pub(crate) struct Buffer {
    number: u16,
    len: u32,
}

impl Pool {
    /// `count` buffers, a power of two up to 32,768, of `size` bytes each; all free, and some in use. A page of them takes
    /// memory from when something is first received into it.
    ///
    /// # Errors
    /// If the process may not have that much address space.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && (1..=1 << 20).contains(&size), "checked by Config");
        let (ring, memory) = (Map::new(ring_bytes(count))?, Map::new(usize::from(count) * size)?);
        let (size, used) = (size as u32, 0);
        let mut pool = Self { ring, memory, count, size, tail: 0, out: 0, used, filled: 0, bytes: 0, short: false };
        pool.use_up_to(u16::try_from((WARM / size as usize).max(FEW)).unwrap_or(count).min(count));
        Ok(pool)
    }

    /// The kernel had no buffer for something it has received.
    pub(crate) const fn ran_short(&mut self) {
        self.short = true;
    }

    /// A turn is over. If buffers ran short although little was in those there are, twice as many are used from now on:
    /// that was many connections with something small. A few with much go on when buffers are back, as they would have to
    /// with more.
    pub(crate) fn settle(&mut self) {
        if self.short && self.bytes * 2 < self.filled * self.size as usize {
            self.use_up_to(self.used.saturating_mul(2).min(self.count));
        }
        (self.filled, self.bytes, self.short) = (0, 0, false);
    }

    fn use_up_to(&mut self, used: u16) {
        for number in self.used..used {
            self.out += 1;
            self.recycle(Buffer { number, len: 0 });
        }
        self.used = self.used.max(used);
    }

    /// Where the ring of entries begins: what the kernel wants registered.
    pub(crate) fn address(&self) -> u64 {
        self.ring.address.as_ptr().addr() as u64
    }

    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    /// Buffers in use that are not in the ring.
    pub(crate) const fn out(&self) -> usize {
        self.out
    }

    /// Takes over a buffer the kernel has filled with `len` bytes.
    ///
    /// # Safety
    /// `number` must come from a completion of a receive from this pool, each completion used once: the kernel has given
    /// the buffer up then.
    pub(crate) unsafe fn claim(&mut self, number: u16, len: u32) -> Option<Buffer> {
        if number >= self.used {
            return None;
        }
        let len = len.min(self.size);
        self.out += 1;
        self.filled += 1;
        self.bytes += len as usize;
        Some(Buffer { number, len })
    }

    /// The received bytes.
    pub(crate) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let offset = usize::from(buffer.number) * self.size as usize;
        // SAFETY: a `Buffer` is only made by `claim`, so its number is below `count`, its length at most `size`, and the
        // kernel does not write to it until it is recycled, which takes the `Buffer` by value and the pool mutably. The
        // memory is mapped as long as the pool lives, and zero where nothing has been written.
        unsafe { std::slice::from_raw_parts(self.memory.address.as_ptr().add(offset), buffer.len as usize) }
    }

    /// Gives a buffer back to the kernel.
    pub(crate) fn recycle(&mut self, buffer: Buffer) {
        let slot = usize::from(self.tail & (self.count - 1));
        let offset = usize::from(buffer.number) * self.size as usize;
        // SAFETY: `slot` is below `count`; the kernel does not read entries at or after the tail, which only this thread
        // moves; at most `count` numbers exist, so the slot's former entry has been consumed. The tail shares the first
        // entry's memory but not the three fields written here.
        unsafe {
            let entry = self.entries().add(slot);
            (*entry).set_addr(self.memory.address.as_ptr().add(offset).addr() as u64);
            (*entry).set_len(self.size);
            (*entry).set_bid(buffer.number);
        }
        self.tail = self.tail.wrapping_add(1);
        self.out -= 1;
        // SAFETY: the tail is an aligned u16 inside the ring's memory; the kernel only reads it, with acquire order,
        // which this release store pairs with.
        unsafe {
            let tail = BufRingEntry::tail(self.entries()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Gives the memory up for good: the kernel may still write to it. Otherwise whoever drops the pool has made sure that no
    /// receive is in flight (see `Ring::drop`).
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }

    const fn entries(&self) -> *mut BufRingEntry {
        self.ring.address.as_ptr().cast()
    }
}

/// Whole pages of memory of this process alone, zero until written, which take no memory until touched.
#[derive(Debug)]
struct Map {
    address: NonNull<u8>,
    bytes: usize,
}

impl Map {
    /// # Errors
    /// If there are none to be had.
    fn new(bytes: usize) -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address the kernel picks, concerns no memory there is.
        let address = unsafe { libc::mmap(null_mut(), bytes, access, kind, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { address, bytes })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: it was mapped in `new` with this length, and nobody refers to it any more: the pool lends its memory only
        // as long as it lives.
        unsafe {
            libc::munmap(self.address.as_ptr().cast(), self.bytes);
        }
    }
}

fn ring_bytes(count: u16) -> usize {
    usize::from(count) * size_of::<BufRingEntry>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_round_and_their_number_is_kept() {
        let mut pool = Pool::new(4, 100).unwrap();
        assert_eq!(pool.out(), 0);
        for turn in 0..10u16 {
            // SAFETY: no kernel is involved; every number is claimed once and recycled before the next round.
            let claimed = (0..4).map(|number| unsafe { pool.claim(number, 7 + u32::from(turn)) }.unwrap());
            let buffers: Vec<_> = claimed.collect();
            assert_eq!((pool.out(), pool.bytes(&buffers[3]).len()), (4, 7 + usize::from(turn)));
            buffers.into_iter().for_each(|buffer| pool.recycle(buffer));
        }
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn more_buffers_are_used_once_small_messages_run_short_of_them() {
        let mut pool = Pool::new(128, WARM / 32).unwrap();
        let half = WARM as u32 / 64;
        let turn = |pool: &mut Pool, len| {
            let used = pool.used;
            // SAFETY: no kernel is involved; every number is claimed once and recycled at the end of the turn.
            let buffers: Vec<_> = (0..used).map(|number| unsafe { pool.claim(number, len) }.unwrap()).collect();
            pool.ran_short();
            buffers.into_iter().for_each(|buffer| pool.recycle(buffer));
            pool.settle();
            (pool.used, pool.out())
        };
        assert_eq!(turn(&mut pool, half), (32, 0), "they were half full");
        assert_eq!(turn(&mut pool, half - 1), (64, 0));
        assert_eq!(turn(&mut pool, 2 * half), (64, 0));
        assert_eq!(turn(&mut pool, 1), (128, 0));
        assert_eq!(turn(&mut pool, 1), (128, 0), "there are no more");
    }

    #[test]
    fn a_number_outside_the_pool_or_a_length_beyond_the_buffer_is_not_believed() {
        let mut pool = Pool::new(2, 10).unwrap();
        // SAFETY: no kernel is involved, the buffers are only measured.
        let (beyond, long) = unsafe { (pool.claim(2, 1), pool.claim(1, 11)) };
        assert!(beyond.is_none());
        assert_eq!(pool.bytes(&long.unwrap()).len(), 10);
    }
}
