//! Room for items that wait to be written: which writer may take some, which one waits, and what is taken until it is
//! written.

use crate::buf::fifo::Fifo;
use crate::buf::send_queue::SendQueue;

/// Bytes a connection may have queued whatever the others hold: however much slow readers keep, each of the others gets on.
pub const FLOOR: usize = 16 << 10;

/// Whether `weight` fits beside `held` within `limit`. What weighs more than half of the limit counts as half of it: a
/// larger item goes once that much is free, or it would never go.
pub(crate) const fn fits(held: usize, weight: usize, limit: usize) -> bool {
    let half = limit / 2;
    held.saturating_add(if weight < half { weight } else { half }) <= limit
}

/// Where a writer stands that wants room which others share.
///
/// ```text
///  None ──turned away──▶ Waiting ──its turn──▶ Granted ──the item is queued──▶ None
///    ▲                      └──the stream ends, the writer gives up──┐ │
///    └──────────────────────────────────────────────────────────────┴─┘
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Turn {
    /// It wants none.
    #[default]
    None,
    /// It stands in line for so many bytes.
    Waiting(usize),
    /// It has been told to try again; so many bytes are kept for it.
    Granted(usize),
}

impl Turn {
    /// Bytes kept for the writer.
    pub(crate) const fn granted(self) -> usize {
        match self {
            Self::Granted(weight) => weight,
            Self::None | Self::Waiting(_) => 0,
        }
    }

    /// The bytes it stands in line for.
    pub(crate) const fn awaited(self) -> Option<usize> {
        match self {
            Self::Waiting(weight) => Some(weight),
            Self::None | Self::Granted(_) => None,
        }
    }
}

/// Payloads that were handed to the driver by reference. Each takes its memory until the last byte of it is written, so it
/// is counted for as long.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    handed: u64,
    written: u64,
    /// Weight of what has been handed out since the last batch ended.
    fresh: usize,
    /// Where each batch with such payloads ends, and what they weigh.
    batches: Fifo<(u64, usize)>,
}

impl Flight {
    /// Bytes up to this many are copied when they are handed out, and not counted here.
    pub(crate) const COPIED: usize = SendQueue::COPY_BELOW;

    /// A payload of this weight is part of the batch at hand.
    pub(crate) const fn add(&mut self, weight: usize) {
        self.fresh += weight;
    }

    /// The batch is handed out: so many bytes.
    pub(crate) fn on_handed_out(&mut self, bytes: usize) {
        self.handed += bytes as u64;
        let fresh = core::mem::take(&mut self.fresh);
        if fresh > 0 {
            self.batches.push_back((self.handed, fresh));
        }
    }

    /// So many bytes more are written; the weight that is free now.
    pub(crate) fn on_written(&mut self, bytes: usize) -> usize {
        self.written += bytes as u64;
        let mut free = 0;
        while let Some((_, weight)) = self.batches.front().copied().filter(|(end, _)| *end <= self.written) {
            self.batches.pop_front();
            free += weight;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_than_half_of_the_room_goes_once_half_is_free() {
        assert!(fits(60, 40, 100) && !fits(61, 40, 100));
        assert!(fits(50, 1000, 100) && !fits(51, 1000, 100));
        assert!(fits(0, 1000, 0) && !fits(1, 1000, 0));
    }

    #[test]
    fn a_payload_counts_until_the_last_byte_of_its_batch_is_written() {
        let mut flight = Flight::default();
        flight.add(70);
        flight.add(30);
        flight.on_handed_out(120);
        flight.on_handed_out(5);
        flight.add(9);
        flight.on_handed_out(10);
        assert_eq!(
            (flight.on_written(119), flight.on_written(1), flight.on_written(14), flight.on_written(1)),
            (0, 100, 0, 9)
        );
    }
}
