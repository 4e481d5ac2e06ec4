//! Bytes on their way to a socket: small ones copied together, large ones by reference, written in any portions.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

/// One batch of bytes for one connection, in order.
///
/// ```text
///   inline   [ head | small | head | head ]      one growing buffer
///   segments   Inline{end}  Shared(1)  Inline{end}  Shared(2)
///              ^ front: `done` bytes of it are written
/// ```
/// Invariant: `len` is the sum of all unwritten bytes; inline segments partition `inline` in order.
#[derive(Debug)]
pub struct SendQueue {
    inline: Vec<u8>,
    /// Start of the front inline segment's unwritten part, or of the next inline segment.
    inline_at: usize,
    segments: VecDeque<Segment>,
    /// Bytes of a front `Shared` already written.
    shared_at: usize,
    len: usize,
    limit: usize,
}

#[derive(Debug)]
enum Segment {
    Inline { end: usize },
    Shared(Bytes),
}

impl SendQueue {
    /// Payloads up to this many bytes are copied next to their heads: one contiguous write is cheaper than another
    /// vector entry. Larger ones travel by reference.
    pub const COPY_BELOW: usize = 4096;

    /// An empty queue that reports itself full from `limit` bytes on.
    pub const fn new(limit: usize) -> Self {
        Self { inline: Vec::new(), inline_at: 0, segments: VecDeque::new(), shared_at: 0, len: 0, limit }
    }

    /// Copies `bytes` to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.inline.extend_from_slice(bytes);
        self.len += bytes.len();
        let now_ends = self.inline.len();
        match self.segments.back_mut() {
            Some(Segment::Inline { end }) => *end = now_ends,
            _ => self.segments.push_back(Segment::Inline { end: now_ends }),
        }
    }

    /// Appends a part of a payload: copied if small, by reference otherwise.
    pub fn push_payload(&mut self, payload: &Bytes, part: Range<usize>) {
        if part.len() <= Self::COPY_BELOW {
            self.push(payload.get(part).unwrap_or_default());
        } else {
            self.len += part.len();
            self.segments.push_back(Segment::Shared(payload.slice(part)));
        }
    }

    /// Fills `out` with the next unwritten slices in order and returns how many it used.
    pub fn slices<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        let mut inline_at = self.inline_at;
        let mut skip = self.shared_at;
        let mut used = 0;
        for (slot, segment) in out.iter_mut().zip(&self.segments) {
            *slot = match segment {
                Segment::Inline { end } => {
                    let slice = self.inline.get(inline_at..*end).unwrap_or_default();
                    inline_at = *end;
                    slice
                }
                Segment::Shared(bytes) => {
                    let slice = bytes.get(skip..).unwrap_or_default();
                    skip = 0;
                    slice
                }
            };
            used += 1;
        }
        used
    }

    /// What is left of the first piece, if that is a payload that travels by reference: for a driver that has to own what it
    /// writes. To be followed by [`SendQueue::advance`] like any other write.
    pub fn front_payload(&self) -> Option<Bytes> {
        match self.segments.front()? {
            Segment::Shared(bytes) => Some(bytes.slice(self.shared_at.min(bytes.len())..)),
            Segment::Inline { .. } => None,
        }
    }

    /// Takes note that the next `written` bytes have been written. More than [`SendQueue::len`] counts as all.
    pub fn advance(&mut self, written: usize) {
        let mut left = written.min(self.len);
        self.len -= left;
        while left > 0 {
            let Some(front) = self.segments.front() else { break };
            let size = match front {
                Segment::Inline { end } => end.saturating_sub(self.inline_at),
                Segment::Shared(bytes) => bytes.len().saturating_sub(self.shared_at),
            };
            let taken = size.min(left);
            left -= taken;
            match front {
                Segment::Inline { .. } => self.inline_at += taken,
                Segment::Shared(_) => self.shared_at += taken,
            }
            if taken == size {
                self.shared_at = 0;
                self.segments.pop_front();
            }
        }
        if self.segments.is_empty() {
            self.inline.clear();
            self.inline_at = 0;
        }
    }

    /// Drops everything unwritten; keeps the memory.
    pub fn clear(&mut self) {
        self.advance(self.len);
    }

    /// Unwritten bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left to write.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the queue holds its limit or more. A machine that fills it stops then; one frame may overshoot.
    pub const fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    /// Heap bytes this queue keeps when idle.
    pub const fn capacity(&self) -> usize {
        self.inline.capacity()
    }

    /// Gives memory beyond `keep` bytes back if the queue is empty: an idle connection shall cost little.
    pub fn shrink(&mut self, keep: usize) {
        if self.is_empty() {
            self.inline.shrink_to(keep);
            self.segments.shrink_to(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn contents(queue: &SendQueue) -> Vec<u8> {
        let mut slices = [&[][..]; 16];
        let used = queue.slices(&mut slices);
        slices[..used].concat()
    }

    fn mixed() -> (SendQueue, Vec<u8>) {
        let mut queue = SendQueue::new(1 << 20);
        let large = Bytes::from(vec![7; 5000]);
        queue.push(b"head");
        queue.push(b"more");
        queue.push_payload(&large, 0..5000);
        queue.push_payload(&Bytes::from_static(b"not small at all"), 4..9);
        queue.push_payload(&large, 0..5000);
        queue.push(b"tail");
        let expected = [b"headmore".as_slice(), &large, b"small", &large, b"tail"].concat();
        (queue, expected)
    }

    #[test]
    fn neighbouring_small_pieces_share_one_slice_and_large_ones_keep_their_own() {
        let (queue, expected) = mixed();
        let mut slices = [&[][..]; 16];
        assert_eq!(queue.slices(&mut slices), 5);
        assert_eq!(contents(&queue), expected);
        assert_eq!(queue.len(), expected.len());
    }

    #[test]
    fn a_large_payload_at_the_front_can_be_had_by_reference_and_only_what_is_left_of_it() {
        let (mut queue, expected) = mixed();
        assert_eq!(queue.front_payload(), None, "small pieces come first");
        queue.advance(8);
        assert_eq!(queue.front_payload().unwrap(), expected[8..5008]);
        queue.advance(1000);
        assert_eq!(queue.front_payload().unwrap(), expected[1008..5008]);
        queue.advance(4000);
        assert_eq!(queue.front_payload(), None);
    }

    #[test]
    fn any_sequence_of_partial_writes_yields_the_same_bytes() {
        for step in [1, 3, 7, 4096, 5000, 5001, 9999, 20_000] {
            let (mut queue, expected) = mixed();
            let mut written = Vec::new();
            while !queue.is_empty() {
                let all = contents(&queue);
                let portion = step.min(all.len());
                written.extend_from_slice(&all[..portion]);
                queue.advance(portion);
            }
            assert_eq!(written, expected, "step {step}");
        }
    }

    #[test]
    fn pushing_between_partial_writes_keeps_the_order() {
        let mut queue = SendQueue::new(10);
        queue.push(b"abc");
        queue.advance(2);
        queue.push(b"def");
        assert_eq!(contents(&queue), b"cdef");
        queue.advance(4);
        queue.push(b"ghi");
        assert_eq!(contents(&queue), b"ghi");
    }

    #[test]
    fn the_queue_is_full_at_its_limit_and_writable_again_after_progress() {
        let mut queue = SendQueue::new(4);
        queue.push(b"abc");
        assert!(!queue.is_full());
        queue.push(b"d");
        assert!(queue.is_full());
        queue.advance(1);
        assert!(!queue.is_full());
    }
}
