//! What requests ask for, and contents that both sides can make and check without telling each other.

use bytes::Bytes;

/// What a request asks for; its first bytes, little endian. The rest of a request is [`Pattern::piece`] number
/// [`REQUEST`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Decides the contents of request and answer.
    pub seed: u64,
    /// Items to answer with.
    pub items: u32,
    /// Bytes of each.
    pub item_bytes: u32,
    /// Microseconds from one item to the next; 0: no pause.
    pub gap_us: u32,
    /// Whether the server is to check the request's contents.
    pub check: bool,
}

/// The piece of the pattern that fills a request.
pub const REQUEST: u32 = u32::MAX;

impl Ask {
    /// Bytes at the start of a request.
    pub const LEN: usize = 24;

    /// A request of `size` bytes, at least [`Ask::LEN`].
    pub fn request(&self, size: usize, pattern: Pattern) -> Bytes {
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        bytes.extend_from_slice(&self.items.to_le_bytes());
        bytes.extend_from_slice(&self.item_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.gap_us.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.check).to_le_bytes());
        bytes.extend_from_slice(pattern.piece(self.seed, REQUEST, size - Self::LEN));
        bytes.into()
    }

    /// What a request asks for; `None` if it is too short to ask.
    pub fn read(request: &[u8]) -> Option<Self> {
        let (seed, rest) = request.split_first_chunk::<8>()?;
        let (items, rest) = rest.split_first_chunk::<4>()?;
        let (item_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (gap_us, rest) = rest.split_first_chunk::<4>()?;
        let (check, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            seed: u64::from_le_bytes(*seed),
            items: u32::from_le_bytes(*items),
            item_bytes: u32::from_le_bytes(*item_bytes),
            gap_us: u32::from_le_bytes(*gap_us),
            check: u32::from_le_bytes(*check) != 0,
        })
    }

    /// What a whole request asks for, checked if it wants to be: what a server does with a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(request: &[u8], pattern: Pattern) -> Result<Self, &'static str> {
        let ask = Self::read(request).ok_or("a request is too short")?;
        let rest = request.get(Self::LEN..).unwrap_or_default();
        if ask.check && rest != pattern.piece(ask.seed, REQUEST, rest.len()) {
            return Err("a request's contents are wrong");
        }
        Ok(ask)
    }
}

/// A run of bytes without a pattern a checksum could profit from; the same in every process. Lives as long as the
/// process, so that its pieces can be sent without a copy or a count.
#[derive(Copy, Clone, Debug)]
pub struct Pattern(&'static [u8]);

/// Where pieces start: anywhere in the first 64 KiB, which stay in the cache.
const STARTS: usize = 64 << 10;

impl Pattern {
    /// A pattern with pieces of up to `largest` bytes. Its memory is never freed.
    pub fn new(largest: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let words = (STARTS + largest) / 8 + 1;
        let mut bytes = Vec::with_capacity(words * 8);
        for _ in 0..words {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        Self(bytes.leak())
    }

    /// Item `index` of the answer to `seed`, with `len` bytes.
    ///
    /// # Panics
    /// If `len` exceeds what the pattern was made for.
    pub fn piece(self, seed: u64, index: u32, len: usize) -> &'static [u8] {
        let mixed = (seed ^ u64::from(index).wrapping_mul(0xD6E8_FEB8_6659_FD93)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let start = (mixed >> 48) as usize;
        &self.0[start..start + len]
    }

    /// As [`piece`](Self::piece), as an item to send.
    pub fn item(self, ask: &Ask, index: u32) -> Bytes {
        Bytes::from_static(self.piece(ask.seed, index, ask.item_bytes as usize))
    }
}

/// Checks an answer as it comes.
#[derive(Copy, Clone, Debug)]
pub struct Checker {
    ask: Ask,
    next: u32,
    /// Whether contents are compared; lengths and counts always are.
    deep: bool,
}

impl Checker {
    /// For the answer to `ask`.
    pub const fn new(ask: Ask, deep: bool) -> Self {
        Self { ask, next: 0, deep }
    }

    /// Takes the next item.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn item(&mut self, item: &[u8], pattern: Pattern) -> Result<(), &'static str> {
        if self.next >= self.ask.items {
            return Err("an answer has too many items");
        }
        if item.len() != self.ask.item_bytes as usize {
            return Err("an item has the wrong length");
        }
        if self.deep && item != pattern.piece(self.ask.seed, self.next, item.len()) {
            return Err("an item has the wrong contents");
        }
        self.next += 1;
        Ok(())
    }

    /// Takes the end.
    ///
    /// # Errors
    /// If items are missing.
    pub const fn end(&self) -> Result<(), &'static str> {
        if self.next == self.ask.items { Ok(()) } else { Err("an answer ends too early") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: Ask = Ask { seed: 7, items: 2, item_bytes: 100, gap_us: 3, check: true };

    #[test]
    fn a_request_says_what_it_asks_and_a_changed_byte_is_noticed() {
        let pattern = Pattern::new(256);
        let request = ASK.request(256, pattern);
        assert_eq!(request.len(), 256);
        assert_eq!(Ask::receive(&request, pattern), Ok(ASK));
        let mut changed = request.to_vec();
        changed[255] ^= 1;
        assert!(Ask::receive(&changed, pattern).is_err());
        assert!(Ask::receive(&request[..20], pattern).is_err());
    }

    #[test]
    fn an_answer_out_of_order_or_of_wrong_length_or_number_is_noticed() {
        let pattern = Pattern::new(256);
        let (first, second) = (pattern.item(&ASK, 0), pattern.item(&ASK, 1));
        let mut checker = Checker::new(ASK, true);
        assert!(checker.item(&second, pattern).is_err());
        assert!(checker.item(&first[..99], pattern).is_err());
        assert_eq!(checker.item(&first, pattern), Ok(()));
        assert!(checker.end().is_err());
        assert_eq!(checker.item(&second, pattern), Ok(()));
        assert_eq!(checker.end(), Ok(()));
        assert!(checker.item(&second, pattern).is_err());
    }
}
