//! One instruction for 8 bytes where that is quickest; folding by carry-less multiplication, a library's work, elsewhere.
#![expect(unsafe_code, reason = "an instruction not every x86-64 processor has")]

use crc_fast::{CrcAlgorithm, Digest};

/// From this many bytes on folding is faster: between 256 and 512 on a processor with AVX-512, which folds fastest.
#[cfg(target_arch = "x86_64")]
const LONG: usize = 384;

/// CRC-32C (Castagnoli; RFC 3720, section 12.1) of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    append(0, bytes)
}

/// The checksum of everything that `crc` covers (0 at the start), followed by `bytes`.
#[inline]
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG && std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { short(crc, bytes) };
    }
    fold(crc, bytes)
}

/// Wherever the bytes lie: on a processor with this instruction a load that is not aligned costs nothing.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn short(crc: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(u64::from(!crc), |state, word| _mm_crc32_u64(state, u64::from_le_bytes(*word)));
    let (halves, rest) = rest.as_chunks::<4>();
    // The upper half is zero: the instruction leaves 32 bits.
    let state = halves.iter().fold(state as u32, |state, half| _mm_crc32_u32(state, u32::from_le_bytes(*half)));
    !rest.iter().fold(state, |state, byte| _mm_crc32_u8(state, *byte))
}

fn fold(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use crc::{CRC_32_ISCSI, Crc, Table};

    use super::*;

    #[test]
    fn every_length_cut_anywhere_agrees_with_the_table() {
        let table = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
        let bytes: Vec<u8> = (0..70_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        let lengths = (0..600).chain([1023, 1024, 1025, 4096, 16_385, 65_535, 65_536]);
        for (start, len) in lengths.enumerate().map(|(number, len)| (number % 67, len)) {
            let piece = &bytes[start..start + len];
            let expected = table.checksum(piece);
            assert_eq!(crc32c(piece), expected, "{len} bytes from {start}");
            assert_eq!(fold(0, piece), expected, "{len} bytes from {start}, folded");
            for cut in [0, 1, 7, 8, len / 2, len.saturating_sub(3)].map(|cut| cut.min(len)) {
                let (head, tail) = piece.split_at(cut);
                assert_eq!(append(crc32c(head), tail), expected, "{len} bytes from {start} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_check_value_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
