//! The batches a publisher keeps, newest last, bounded by count and bytes.

use alloc::collections::VecDeque;

use bytes::Bytes;

/// Batches without a hole between them: what is added takes the next number.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    max_batches: usize,
    max_bytes: usize,
    kept: VecDeque<Bytes>,
    bytes: usize,
    first: u64,
}

impl Ring {
    pub(super) const fn new(max_batches: usize, max_bytes: usize) -> Self {
        Self { max_batches, max_bytes, kept: VecDeque::new(), bytes: 0, first: 0 }
    }

    /// Keeps a batch under the next number and lets go of the oldest until the bounds hold. The newest is always kept.
    pub(super) fn push(&mut self, batch: Bytes) {
        self.bytes += batch.len();
        self.kept.push_back(batch);
        while self.kept.len() > 1 && (self.kept.len() > self.max_batches || self.bytes > self.max_bytes) {
            let oldest = self.kept.pop_front().map_or(0, |batch| batch.len());
            self.bytes -= oldest;
            self.first += 1;
        }
    }

    /// The number of the oldest batch kept.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The number the next batch will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// The batch of this number, if it is kept.
    pub(super) fn get(&self, seq: u64) -> Option<&Bytes> {
        self.kept.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Bytes kept.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
