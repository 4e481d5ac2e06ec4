//! Which seeds a test runs, and how a failing one is run again.

use std::ops::Range;

/// The seeds `0..count`, or the one in `RINGPLANE_SEED` (decimal, or hexadecimal after `0x`) if it is set, or the first
/// `RINGPLANE_SEEDS` of them if that is set.
///
/// # Panics
/// If either variable is set to something that is no number: a replay must not silently run something else.
pub fn seeds(count: u64) -> Range<u64> {
    let one = std::env::var("RINGPLANE_SEED").ok().map(|text| number(&text));
    let many = std::env::var("RINGPLANE_SEEDS").ok().map(|text| number(&text));
    choose(one, many, count)
}

fn choose(one: Option<u64>, many: Option<u64>, count: u64) -> Range<u64> {
    match (one, many) {
        (Some(seed), _) => seed..seed + 1,
        (None, many) => 0..many.unwrap_or(count),
    }
}

fn number(text: &str) -> u64 {
    let read = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    read.unwrap_or_else(|error| panic!("`{text}` is no seed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_seed_runs_alone_and_a_named_count_wins_over_the_tests_own() {
        assert_eq!(choose(Some(9), Some(5), 100), 9..10);
        assert_eq!(choose(None, Some(5), 100), 0..5);
        assert_eq!(choose(None, None, 100), 0..100);
    }

    #[test]
    fn seeds_read_as_decimal_and_as_hexadecimal() {
        assert_eq!(number("26"), 26);
        assert_eq!(number("0x1a"), 26);
    }

    #[test]
    #[should_panic(expected = "is no seed")]
    fn a_seed_that_is_no_number_is_refused() {
        number("twelve");
    }
}
