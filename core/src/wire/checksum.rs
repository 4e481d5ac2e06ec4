//! The two checksums: CRC-32C of our own frames as a function the driver may replace, and XXH3-64 of Dynamo's.

use core::fmt;

use crc::{CRC_32_ISCSI, Crc, Table};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

static TABLE: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// XXH3-64 (seed 0, default secret) of `header` followed by `body`, as field 3 of a two-part frame.
pub fn xxh3(header: &[u8], body: &[u8]) -> u64 {
    match (header.is_empty(), body.is_empty()) {
        (_, true) => xxh3_64(header),
        (true, false) => xxh3_64(body),
        (false, false) => {
            let mut state = Xxh3::new();
            state.update(header);
            state.update(body);
            state.digest()
        }
    }
}

/// CRC-32C (Castagnoli) as an appending function: it takes the checksum of what came before (0 at the start) and more
/// bytes, and returns the checksum of both. A crate that has `std` passes `ringplane_crc32c::append`, which uses what the processor
/// has for it.
#[derive(Copy, Clone)]
pub struct Crc32c(fn(u32, &[u8]) -> u32);

impl Crc32c {
    /// Table driven, for every target.
    pub const PORTABLE: Self = Self(append_portable);

    /// A checksum computed by `append`, which must agree with [`Crc32c::PORTABLE`] on every input.
    pub const fn new(append: fn(u32, &[u8]) -> u32) -> Self {
        Self(append)
    }

    /// The checksum of everything `crc` covers, followed by `bytes`.
    pub fn append(self, crc: u32, bytes: &[u8]) -> u32 {
        // Most headers of items are empty, and the call alone costs as much as a dozen bytes.
        if bytes.is_empty() { crc } else { (self.0)(crc, bytes) }
    }

    /// The checksum of `bytes` alone.
    pub fn of(self, bytes: &[u8]) -> u32 {
        self.append(0, bytes)
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::PORTABLE
    }
}

impl PartialEq for Crc32c {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Crc32c {}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::PORTABLE { "Crc32c::PORTABLE" } else { "Crc32c(given)" })
    }
}

fn append_portable(crc: u32, bytes: &[u8]) -> u32 {
    // The crate takes an initial register before reflection; the register is the inverted checksum.
    let mut digest = TABLE.digest_with_initial((!crc).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn crc32c_matches_the_vectors_of_rfc_3720() {
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let mut read10 = [0u8; 48];
        for (at, byte) in [(0, 0x01), (1, 0xC0), (16, 0x14), (22, 0x04), (27, 0x14), (31, 0x18), (32, 0x28), (40, 0x02)]
        {
            read10[at] = byte;
        }
        assert_eq!(Crc32c::PORTABLE.of(&[0; 32]), 0x8A91_36AA);
        assert_eq!(Crc32c::PORTABLE.of(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(Crc32c::PORTABLE.of(&up), 0x46DD_794E);
        assert_eq!(Crc32c::PORTABLE.of(&down), 0x113F_DB5C);
        assert_eq!(Crc32c::PORTABLE.of(&read10), 0xD996_3A56);
        assert_eq!(Crc32c::PORTABLE.of(b"123456789"), 0xE306_9283);
        assert_eq!(Crc32c::PORTABLE.of(b""), 0);
    }

    #[test]
    fn appending_at_every_cut_gives_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..100u8).map(|at| at.wrapping_mul(37)).collect();
        let whole = Crc32c::PORTABLE.of(&bytes);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(Crc32c::PORTABLE.append(Crc32c::PORTABLE.of(head), tail), whole, "cut at {cut}");
        }
    }

    #[test]
    fn xxh3_is_over_header_then_body_wherever_the_border_is() {
        let bytes: Vec<u8> = (0..700u16).map(|at| (at % 251) as u8).collect();
        for cut in [0, 1, 16, 17, 240, 241, 512, 699, 700] {
            let (header, body) = bytes.split_at(cut);
            assert_eq!(xxh3(header, body), xxh3_64(&bytes), "cut at {cut}");
        }
        assert_eq!(xxh3(b"", b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(xxh3(b"\"stop\"", b""), 0x7319_77e5_b1d5_daae);
    }
}
