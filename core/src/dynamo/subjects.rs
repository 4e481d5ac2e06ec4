//! Which call each subject belongs to: single use, bounded, with a memory of those that are over.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use core::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// The name of one call's response stream: the 128 bits of a version 4 UUID.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subject(u128);

impl Subject {
    const fn of(bits: u128) -> Self {
        let version = bits & !(0xf << 76) | (4 << 76);
        Self(version & !(3 << 62) | (2 << 62))
    }

    /// The usual text, lower case with four dashes.
    pub fn text(self) -> String {
        let bits = self.0;
        let group = |shift: u32, digits: u32| (bits >> shift) & ((1 << (4 * digits)) - 1);
        let (a, b, c, d, e) = (group(96, 8), group(80, 4), group(64, 4), group(48, 4), group(0, 12));
        format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }

    /// Reads exactly what [`text`](Self::text) writes.
    pub fn read(text: &str) -> Option<Self> {
        let mut bits = 0;
        for (at, byte) in text.bytes().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
            } else {
                let digit = char::from(byte).to_digit(16)?;
                bits = bits << 4 | u128::from(digit);
            }
        }
        (text.len() == 36).then_some(Self(bits))
    }
}

/// Why a subject leads nowhere.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Unclaimed {
    /// Nobody here ever asked for it, or so long ago that it is forgotten.
    Unknown,
    /// It has been used, or its call is over.
    Spent,
}

/// The subjects of the calls that wait for their response stream.
///
/// ```text
///  (none) ──insert──▶ waiting ──claim, withdraw──▶ spent ──pushed out by later ones──▶ (none)
/// ```
/// As many subjects wait as there are calls, which their owner bounds. Spent ones are remembered only to tell a late
/// stream from a forged one; the oldest is forgotten first.
///
/// A stranger that knows a subject can bring its response, so the next one must not follow from those before: they are SipHash-2-4
/// (Aumasson and Bernstein 2012) of a counter under the subjects's key.
#[derive(Debug)]
pub struct Subjects {
    keyed: SipHasher24,
    next: u64,
    waiting: BTreeMap<Subject, u64>,
    spent: VecDeque<Subject>,
    max_spent: usize,
}

impl Subjects {
    /// An empty one that remembers up to `max_spent` subjects that are over. `key` is secret.
    pub fn new(max_spent: usize, key: [u64; 2]) -> Self {
        let keyed = SipHasher24::new_with_keys(key[0], key[1]);
        Self { keyed, next: 0, waiting: BTreeMap::new(), spent: VecDeque::new(), max_spent }
    }

    /// A subject for the call `tag`.
    pub fn insert(&mut self, tag: u64) -> Subject {
        loop {
            let mut hasher = self.keyed;
            hasher.write_u64(self.next);
            self.next += 1;
            let subject = Subject::of(hasher.finish128().as_u128());
            if let alloc::collections::btree_map::Entry::Vacant(entry) = self.waiting.entry(subject) {
                entry.insert(tag);
                return subject;
            }
        }
    }

    /// Uses up a subject that a worker names; whose it is.
    ///
    /// # Errors
    /// See [`Unclaimed`].
    pub fn claim(&mut self, text: &str) -> Result<u64, Unclaimed> {
        let subject = Subject::read(text).ok_or(Unclaimed::Unknown)?;
        match self.waiting.remove(&subject) {
            Some(tag) => {
                self.bury(subject);
                Ok(tag)
            }
            None if self.spent.contains(&subject) => Err(Unclaimed::Spent),
            None => Err(Unclaimed::Unknown),
        }
    }

    /// The call is over: a worker that brings its response comes too late.
    pub fn withdraw(&mut self, subject: Subject) {
        if self.waiting.remove(&subject).is_some() {
            self.bury(subject);
        }
    }

    fn bury(&mut self, subject: Subject) {
        while self.spent.len() >= self.max_spent {
            if self.spent.pop_front().is_none() {
                return;
            }
        }
        self.spent.push_back(subject);
    }

    /// Calls that wait for their stream.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no call waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_as_it_was_written_and_says_that_it_is_random() {
        let mut subjects = Subjects::new(0, [1, 2]);
        for tag in 0..100 {
            let subject = subjects.insert(tag);
            let text = subject.text();
            assert_eq!(Subject::read(&text), Some(subject));
            assert_eq!(text.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&text.as_bytes()[19]));
        }
        for bad in ["", "x", "e28a2fb1-ce9f-4c44-b324-4c357816aa2", "e28a2fb1xce9f-4c44-b324-4c357816aa2d"] {
            assert_eq!(Subject::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_subject_is_used_once_and_one_that_is_over_is_told_from_one_that_never_was() {
        let mut subjects = Subjects::new(2, [1, 2]);
        let [first, second, third] = [5, 6, 7].map(|tag| subjects.insert(tag));
        assert_eq!(subjects.claim(&first.text()), Ok(5));
        assert_eq!(subjects.claim(&first.text()), Err(Unclaimed::Spent));
        subjects.withdraw(second);
        assert_eq!(subjects.claim(&second.text()), Err(Unclaimed::Spent));
        assert_eq!(subjects.claim("00000000-0000-4000-8000-000000000000"), Err(Unclaimed::Unknown));
        assert_eq!(subjects.claim(&third.text()), Ok(7));
        assert!(subjects.is_empty());
        assert_eq!(subjects.claim(&first.text()), Err(Unclaimed::Unknown), "only two are remembered");
    }

    #[test]
    fn a_registry_without_memory_still_works() {
        let mut subjects = Subjects::new(0, [1, 2]);
        let subject = subjects.insert(1);
        subjects.withdraw(subject);
        assert_eq!(subjects.claim(&subject.text()), Err(Unclaimed::Unknown));
    }

    #[test]
    fn another_key_gives_other_subjects_and_the_same_one_the_same() {
        let subjects = |key| {
            let mut subjects = Subjects::new(0, key);
            [subjects.insert(0), subjects.insert(1)]
        };
        assert_eq!(subjects([1, 2]), subjects([1, 2]));
        let all: alloc::collections::BTreeSet<_> = [[1, 2], [2, 1], [1, 3]].into_iter().flat_map(subjects).collect();
        assert_eq!(all.len(), 6);
    }
}
