//! The seeded generator behind every random decision.

/// xoshiro256++ (Blackman and Vigna 2019), its state filled by SplitMix64 from one seed. Equal seeds give equal runs. Fast
/// and statistically sound; not for secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of `seed`. Every seed is good, 0 included.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: [split_mix(&mut mixer), split_mix(&mut mixer), split_mix(&mut mixer), split_mix(&mut mixer)] }
    }

    /// An independent generator, for a part that must not disturb this one's sequence afterwards. Takes one number.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// The next 64 uniform bits.
    pub const fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let out = s0.wrapping_add(s3).rotate_left(23).wrapping_add(s0);
        let (mixed2, mixed3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ mixed3, s1 ^ mixed2, mixed2 ^ (s1 << 17), mixed3.rotate_left(45)];
        out
    }

    /// A uniform number in `0..n`, without the bias of a remainder; 0 for `n` = 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        // Lemire 2019: the high half of a product is uniform once the few low halves that over-represent some results are
        // thrown away. The threshold's division is only paid when it can matter.
        let mut product = self.next_u64() as u128 * n as u128;
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = self.next_u64() as u128 * n as u128;
            }
        }
        (product >> 64) as u64
    }
}

const fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_that_of_the_published_xoshiro256_plus_plus() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
        ];
        for value in expected {
            assert_eq!(rng.next_u64(), value);
        }
    }

    #[test]
    fn the_state_comes_from_the_published_splitmix64() {
        let expected = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec];
        assert_eq!(Rng::new(0).state, expected);
    }

    #[test]
    fn below_is_even_over_a_range_that_does_not_divide_the_word() {
        let mut rng = Rng::new(7);
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[usize::try_from(rng.below(7)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (9_600..10_400).contains(count)), "{seen:?}");
    }

    #[test]
    fn below_rejects_what_would_favour_small_numbers() {
        // Three quarters of the words: a plain product would give every third result twice the weight.
        let n = 3 << 62;
        let mut rng = Rng::new(1);
        let mut residues = [0u32; 3];
        for _ in 0..30_000 {
            let value = rng.below(n);
            assert!(value < n);
            residues[usize::try_from(value % 3).unwrap()] += 1;
        }
        assert!(residues.iter().all(|count| (9_600..10_400).contains(count)), "{residues:?}");
    }

    #[test]
    fn below_of_nothing_and_of_one_is_zero() {
        let mut rng = Rng::new(3);
        assert_eq!([rng.below(0), rng.below(1), rng.below(1)], [0; 3]);
    }

    #[test]
    fn a_fork_follows_its_own_sequence_and_is_repeatable() {
        let (mut first, mut second) = (Rng::new(5), Rng::new(5));
        let (mut a, mut b) = (first.fork(), second.fork());
        assert_eq!(a.next_u64(), b.next_u64());
        assert_eq!(first, second);
        assert_ne!(a.next_u64(), first.next_u64());
    }
}
