//! Which of many instances belong to a key: each has a rank for it.

/// A hash of key and id (SplitMix64's finish), as good as random and the same everywhere.
pub(super) const fn rank(key: u64, id: u64) -> u64 {
    let mut z = key ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
