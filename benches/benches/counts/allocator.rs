//! An allocator whose every answer takes the same instructions.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

const ARENA: usize = 256 << 20;
/// A cache line: how far a copy is from being aligned changes its instructions too.
const ALIGNMENT: usize = 64;

/// Gives out one piece of memory after the other and takes none back; what does not fit comes from the system.
///
/// The allocator of the C library answers from lists whose state is the whole past of the program: the length of the
/// path this repository lies at was enough to change the counts by 8 %.
pub(crate) struct Arena {
    memory: Memory,
    used: AtomicUsize,
}

// Zeroed, so that it takes no room until it is written.
#[repr(align(4096))]
struct Memory(UnsafeCell<[u8; ARENA]>);

// SAFETY: every byte is given out at most once, by an atomic step of `used`.
unsafe impl Sync for Memory {}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self { memory: Memory(UnsafeCell::new([0; ARENA])), used: AtomicUsize::new(0) }
    }

    fn holds(&self, memory: *mut u8) -> bool {
        let base = self.memory.0.get().cast::<u8>().addr();
        (base..base + ARENA).contains(&memory.addr())
    }
}

// SAFETY: a piece is `layout.size()` bytes long or longer, begins at a multiple of `ALIGNMENT` and overlaps no other; what
// wants another alignment or finds no room is the system's, and goes back to it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().next_multiple_of(ALIGNMENT);
        if layout.align() <= ALIGNMENT && size <= ARENA {
            let at = self.used.fetch_add(size, Ordering::Relaxed);
            if at <= ARENA - size {
                // SAFETY: `at + size` is inside the memory.
                return unsafe { self.memory.0.get().cast::<u8>().add(at) };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !self.holds(memory) {
            // SAFETY: what is not of the arena came from the system, with this layout.
            unsafe { System.dealloc(memory, layout) }
        }
    }
}
