//! Numbers that nobody else can guess: the one source of secrets, ids and seeds.

/// 64 random bits of the operating system.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Before Linux 3.17. The standard library seeds its maps in other ways there.
        _ => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::time::Instant::now()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_number_comes_twice_and_every_bit_is_used() {
        let drawn: BTreeSet<u64> = (0..1000).map(|_| random_u64()).collect();
        assert_eq!(drawn.len(), 1000);
        assert_eq!(drawn.iter().fold(0, |seen, one| seen | one), u64::MAX);
        assert_eq!(drawn.iter().fold(u64::MAX, |seen, one| seen & one), 0);
    }
}
