//! Items on their way to the reader of one stream: small ones share growing blocks, large ones own their memory.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use crate::buf::fifo::Fifo;
use crate::buf::hold::{NoMemory, room_for};
use crate::wire::mux::frame::ITEM_COST;

/// Items up to this many bytes share a block; no allocation per item in the steady state.
const SHARE_BELOW: usize = 4096;
/// Largest shared block, in bytes. Blocks belong to one stream, so a reader that keeps one item pins no other's.
const MAX_BLOCK: usize = 64 << 10;
const FIRST_BLOCK: usize = 2048;

/// Complete items, and the one that is arriving.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Complete small items, back to back, then the arriving one's bytes.
    shared: BytesMut,
    block: usize,
    /// The stream has had an item.
    begun: bool,
    items: Fifo<Entry>,
    arriving: Arriving,
}

#[derive(Debug)]
enum Entry {
    Shared { len: usize },
    Owned { item: Bytes, reserved: bool },
}

#[derive(Debug, Default)]
enum Arriving {
    #[default]
    Nothing,
    Shared {
        len: usize,
        total: usize,
    },
    Owned {
        buffer: Vec<u8>,
        total: usize,
        reserved: bool,
        /// The pool has been charged for it.
        granted: bool,
    },
}

/// Why bytes of an item are not taken.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// There are more than it declared, or none is arriving.
    Overlong,
    /// There is no memory for it.
    NoMemory,
}

/// An item handed to the reader, and what it had cost.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) item: Bytes,
    /// Credit to give back, stream and connection alike.
    pub(super) cost: u64,
    /// Bytes to give back to the reserve pool.
    pub(super) reserved: u64,
}

impl Inbox {
    /// An item of `total` bytes begins. `reserved`: its bytes come from the reserve pool.
    ///
    /// # Errors
    /// [`NoMemory`]: it has not begun.
    pub(super) fn begin(&mut self, total: usize, reserved: bool) -> Result<(), NoMemory> {
        // The first item of a stream gets memory of just its length: most calls have one.
        let first = !core::mem::replace(&mut self.begun, true);
        if first && total <= SHARE_BELOW && !reserved {
            self.arriving = Arriving::Owned { buffer: room_for(total)?, total, reserved, granted: false };
        } else if total <= SHARE_BELOW && !reserved {
            self.reserve(total);
            self.arriving = Arriving::Shared { len: 0, total };
        } else {
            // Paid for by the peer's credit or the pool, so the whole length may be allocated at once; an announced item
            // waits for its reservation and allocates with its first byte.
            let buffer = if reserved { Vec::new() } else { room_for(total)? };
            self.arriving = Arriving::Owned { buffer, total, reserved, granted: false };
        }
        Ok(())
    }

    /// A whole item at once, paid from the windows.
    pub(super) fn push(&mut self, item: &[u8]) {
        let first = !core::mem::replace(&mut self.begun, true);
        if first || item.len() > SHARE_BELOW {
            self.items.push_back(Entry::Owned { item: Bytes::copy_from_slice(item), reserved: false });
        } else {
            self.reserve(item.len());
            self.shared.extend_from_slice(item);
            self.items.push_back(Entry::Shared { len: item.len() });
        }
    }

    /// Bytes of the arriving item.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut self.arriving {
            Arriving::Shared { len, total } if *len + bytes.len() <= *total => {
                self.shared.extend_from_slice(bytes);
                *len += bytes.len();
                Ok(())
            }
            Arriving::Owned { buffer, total, .. } if buffer.len() + bytes.len() <= *total => {
                if buffer.capacity() == 0 {
                    *buffer = room_for(*total).map_err(|NoMemory| Refused::NoMemory)?;
                }
                buffer.extend_from_slice(bytes);
                Ok(())
            }
            _ => Err(Refused::Overlong),
        }
    }

    /// The arriving item is complete. `Err` if it is shorter than declared.
    pub(super) fn finish(&mut self) -> Result<(), ()> {
        match core::mem::take(&mut self.arriving) {
            Arriving::Shared { len, total } if len == total => self.items.push_back(Entry::Shared { len }),
            Arriving::Owned { buffer, total, reserved, .. } if buffer.len() == total => {
                self.items.push_back(Entry::Owned { item: buffer.into(), reserved });
            }
            _ => return Err(()),
        }
        Ok(())
    }

    /// Whether an item has begun and is not complete.
    pub(super) const fn is_arriving(&self) -> bool {
        !matches!(self.arriving, Arriving::Nothing)
    }

    /// The length of the arriving item; 0 without one.
    pub(super) const fn arriving(&self) -> usize {
        match self.arriving {
            Arriving::Nothing => 0,
            Arriving::Shared { total, .. } | Arriving::Owned { total, .. } => total,
        }
    }

    /// Whether the arriving item is paid from the reserve pool.
    pub(super) const fn is_reserved(&self) -> bool {
        matches!(self.arriving, Arriving::Owned { reserved: true, .. })
    }

    /// Bytes of pool the arriving item waits for.
    pub(super) const fn awaited(&self) -> Option<u64> {
        match self.arriving {
            Arriving::Owned { total, reserved: true, granted: false, .. } => Some(total as u64),
            _ => None,
        }
    }

    /// The pool has been charged for the arriving item.
    pub(super) const fn grant(&mut self) {
        if let Arriving::Owned { granted, .. } = &mut self.arriving {
            *granted = true;
        }
    }

    /// Drops the arriving item, which will never be complete; the credit and the bytes of pool to give back.
    pub(super) fn abandon(&mut self) -> (u64, u64) {
        match core::mem::take(&mut self.arriving) {
            Arriving::Nothing => (0, 0),
            Arriving::Shared { len, total } => {
                self.shared.truncate(self.shared.len().saturating_sub(len));
                (cost(total as u64), 0)
            }
            Arriving::Owned { total, reserved: true, granted, .. } => {
                (ITEM_COST.into(), if granted { total as u64 } else { 0 })
            }
            Arriving::Owned { total, .. } => (cost(total as u64), 0),
        }
    }

    /// The oldest complete item.
    pub(super) fn take(&mut self) -> Option<Taken> {
        Some(match self.items.pop_front()? {
            Entry::Shared { len } => {
                Taken { item: self.shared.split_to(len).freeze(), cost: cost(len as u64), reserved: 0 }
            }
            Entry::Owned { item, reserved } => {
                let len = item.len() as u64;
                if reserved {
                    Taken { item, cost: ITEM_COST.into(), reserved: len }
                } else {
                    Taken { item, cost: cost(len), reserved: 0 }
                }
            }
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn reserve(&mut self, len: usize) {
        if self.shared.try_reclaim(len) {
            return;
        }
        self.block = (self.block * 2).clamp(FIRST_BLOCK, MAX_BLOCK).max(len);
        self.shared.reserve(self.block);
    }
}

/// Credit an item of `len` bytes costs.
pub(super) const fn cost(len: u64) -> u64 {
    len + ITEM_COST as u64
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn put(inbox: &mut Inbox, item: &[u8]) {
        inbox.begin(item.len(), false).unwrap();
        for piece in item.chunks(3) {
            inbox.append(piece).unwrap();
        }
        inbox.finish().unwrap();
    }

    #[test]
    fn items_come_out_as_they_went_in_whatever_their_size() {
        let mut inbox = Inbox::default();
        let items = [vec![1; 5], vec![], vec![2; 4096], vec![3; 4097], vec![4; 1]];
        items.iter().for_each(|item| put(&mut inbox, item));
        for item in &items {
            let taken = inbox.take().unwrap();
            assert_eq!((&taken.item[..], taken.cost), (&item[..], cost(item.len() as u64)));
        }
        assert!(inbox.take().is_none());
    }

    #[test]
    fn small_items_reuse_their_block_once_the_reader_let_go() {
        let mut inbox = Inbox::default();
        for _ in 0..3 {
            put(&mut inbox, &[7; 128]);
        }
        while inbox.take().is_some() {}
        let before = inbox.block;
        for _ in 0..10_000 {
            put(&mut inbox, &[7; 128]);
            inbox.take().unwrap();
        }
        assert!(inbox.block <= before * 8 && inbox.block <= MAX_BLOCK, "block is {}", inbox.block);
    }

    #[test]
    fn an_abandoned_item_leaves_the_complete_ones_alone() {
        let mut inbox = Inbox::default();
        put(&mut inbox, b"whole");
        inbox.begin(9, false).unwrap();
        inbox.append(b"par").unwrap();
        assert_eq!(inbox.abandon(), (cost(9), 0));
        put(&mut inbox, b"next");
        inbox.begin(9000, true).unwrap();
        assert_eq!((inbox.awaited(), inbox.abandon()), (Some(9000), (ITEM_COST.into(), 0)));
        inbox.begin(9000, true).unwrap();
        inbox.grant();
        assert_eq!((inbox.awaited(), inbox.abandon()), (None, (ITEM_COST.into(), 9000)));
        assert_eq!(inbox.take().unwrap().item, "whole");
        assert_eq!(inbox.take().unwrap().item, "next");
        assert_eq!(inbox.abandon(), (0, 0));
    }

    #[test]
    fn an_item_that_cannot_be_held_is_refused_and_its_reservation_given_back() {
        let (mut inbox, len) = (Inbox::default(), isize::MAX as usize);
        assert_eq!((inbox.begin(len, false), inbox.is_arriving()), (Err(NoMemory), false));
        inbox.begin(len, true).unwrap();
        inbox.grant();
        assert_eq!(inbox.append(b"a"), Err(Refused::NoMemory));
        assert_eq!(inbox.abandon(), (ITEM_COST.into(), len as u64));
    }

    #[test]
    fn an_item_longer_or_shorter_than_declared_is_refused() {
        let mut inbox = Inbox::default();
        inbox.begin(2, false).unwrap();
        assert_eq!(inbox.append(b"abc"), Err(Refused::Overlong));
        inbox.append(b"a").unwrap();
        assert_eq!(inbox.finish(), Err(()));
        assert_eq!(inbox.append(b"b"), Err(Refused::Overlong), "nothing is arriving any more");
    }
}
