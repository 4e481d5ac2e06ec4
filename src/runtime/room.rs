//! How much a call may have on the way between a core and another thread: a number of items, and their bytes.

/// Bytes of items on the way between a core and another thread, per call and direction; one larger item goes alone.
const BYTES: usize = 256 << 10;
/// What an item counts for beside its bytes.
const COST: usize = 64;
/// Items that a reader takes at once, at most.
const BATCH: usize = 128;

/// Room for items.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    /// No room.
    pub(crate) const NONE: Self = Self { items: 0, bytes: 0 };

    /// The room of a direction in which `items` may be on the way.
    pub(crate) const fn of(items: usize) -> Self {
        Self { items, bytes: BYTES }
    }

    /// What a reader takes of it at once, at most: half, so that there is room for more while it reads.
    pub(crate) fn part(self) -> Self {
        Self { items: (self.items / 2).clamp(1, BATCH), bytes: BYTES / 2 }
    }

    /// Whether an item of `len` bytes fits.
    pub(crate) fn fits(&self, len: usize) -> bool {
        self.items > 0 && self.bytes >= weight(len)
    }

    /// An item takes room, as far as there is some.
    pub(crate) fn take(&mut self, len: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(weight(len));
    }

    /// An item gives its room back.
    pub(crate) fn give(&mut self, len: usize) {
        self.add(Self { items: 1, bytes: weight(len) });
    }

    /// More room.
    pub(crate) fn add(&mut self, other: Self) {
        self.items += other.items;
        self.bytes += other.bytes;
    }
}

fn weight(len: usize) -> usize {
    len.saturating_add(COST).min(BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_item_goes_alone_and_gives_back_what_it_took() {
        let mut room = Room::of(3);
        assert!(room.fits(64 << 20));
        room.take(64 << 20);
        assert!(!room.fits(0));
        room.give(64 << 20);
        assert_eq!(room, Room::of(3));
    }

    #[test]
    fn items_and_bytes_are_both_bounded() {
        let mut room = Room::of(2);
        room.take(0);
        assert!(room.fits(BYTES - 2 * COST) && !room.fits(BYTES - 2 * COST + 1));
        room.take(0);
        assert!(!room.fits(0));
        let few = Room::of(1).part();
        assert!(few.fits(BYTES / 2 - COST) && !few.fits(BYTES / 2));
    }
}
