//! Numbers that nobody else can guess: the one source of secrets, ids and seeds.

use std::cell::RefCell;

/// Numbers that a thread draws at once, for those who need many.
const DRAWN: usize = 32;

/// 64 random bits of the operating system.
pub fn random_u64() -> u64 {
    random::<8>().map_or_else(seed, u64::from_ne_bytes)
}

/// The same, drawn many at a time by each thread: for the ids of calls. Each number is used once.
pub fn drawn_u64() -> u64 {
    thread_local! {
        static LEFT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    let draw = |left: &RefCell<Vec<u64>>| {
        let mut left = left.borrow_mut();
        if left.is_empty() {
            let bytes = random::<{ 8 * DRAWN }>()?;
            left.extend(bytes.as_chunks().0.iter().map(|number| u64::from_ne_bytes(*number)));
        }
        left.pop()
    };
    // A thread that is being torn down has no thread-locals.
    LEFT.try_with(draw).ok().flatten().unwrap_or_else(random_u64)
}

fn random<const LEN: usize>() -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    (read == Ok(LEN)).then_some(bytes)
}

/// Before Linux 3.17. The standard library seeds its maps in other ways there.
fn seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::time::Instant::now())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_number_comes_twice_and_every_bit_is_used() {
        for number in [random_u64, drawn_u64] {
            let drawn: BTreeSet<u64> = (0..1000).map(|_| number()).collect();
            assert_eq!(drawn.len(), 1000);
            assert_eq!(drawn.iter().fold(0, |seen, one| seen | one), u64::MAX);
            assert_eq!(drawn.iter().fold(u64::MAX, |seen, one| seen & one), 0);
        }
    }
}
