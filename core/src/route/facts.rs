//! What an application knows of an instance and tells its policies.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Instant;

/// How many facts of one instance are kept at once.
pub const MAX_FACTS: usize = 32;

/// The longest name of a fact, in bytes.
pub const MAX_NAME: usize = 64;

/// Numbers by name, each until its time ends. Bounded by [`MAX_FACTS`] and [`MAX_NAME`]; what has ended makes room for others.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Facts {
    /// In order of names.
    facts: Vec<Fact>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Fact {
    name: Box<str>,
    value: i64,
    until: Instant,
}

impl Facts {
    /// Nothing is known.
    pub const NONE: Self = Self { facts: Vec::new() };

    /// From now on `name` is `value`, for `lasting`. Whether it is kept: not if the name is too long or the room is taken.
    pub fn set(&mut self, name: &str, value: i64, lasting: Duration, now: Instant) -> bool {
        let until = now + lasting;
        match self.facts.binary_search_by(|fact| (*fact.name).cmp(name)) {
            Ok(index) => {
                if let Some(fact) = self.facts.get_mut(index) {
                    (fact.value, fact.until) = (value, until);
                }
                true
            }
            Err(_) if name.len() > MAX_NAME => false,
            Err(_) => {
                if self.facts.len() >= MAX_FACTS {
                    self.facts.retain(|fact| now < fact.until);
                }
                let index = self.facts.partition_point(|fact| *fact.name < *name);
                let fits = self.facts.len() < MAX_FACTS;
                if fits {
                    self.facts.insert(index, Fact { name: name.into(), value, until });
                }
                fits
            }
        }
    }

    /// The value of a name, as long as it lasts.
    pub fn get(&self, name: &str, now: Instant) -> Option<i64> {
        let index = self.facts.binary_search_by(|fact| (*fact.name).cmp(name)).ok()?;
        self.facts.get(index).filter(|fact| now < fact.until).map(|fact| fact.value)
    }

    /// All that last, in order of names.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (&str, i64)> {
        self.facts.iter().filter(move |fact| now < fact.until).map(|fact| (&*fact.name, fact.value))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fact_is_known_until_its_time_ends_and_the_last_word_counts() {
        let (mut facts, now) = (Facts::NONE, Instant::from_nanos(7));
        assert!(facts.set("kv", 10, SECOND, now) && facts.set("a", -1, SECOND * 3, now));
        assert!(facts.set("kv", 20, SECOND * 2, now));
        assert!(facts.iter(now).eq([("a", -1), ("kv", 20)]));
        assert_eq!((facts.get("kv", now + SECOND), facts.get("b", now)), (Some(20), None));
        assert_eq!((facts.get("kv", now + SECOND * 2), facts.get("a", now + SECOND * 2)), (None, Some(-1)));
    }

    #[test]
    fn room_is_bounded_and_what_has_ended_makes_some() {
        let (mut facts, now) = (Facts::NONE, Instant::ZERO);
        for n in 0..MAX_FACTS {
            assert!(facts.set(&format!("fact {n}"), 0, if n == 3 { SECOND } else { SECOND * 9 }, now));
        }
        assert!(!facts.set("one more", 1, SECOND, now));
        assert!(facts.set("one more", 1, SECOND, now + SECOND), "another one has ended");
        assert_eq!(facts.facts.len(), MAX_FACTS);
        assert!(facts.facts.is_sorted_by(|a, b| a.name < b.name));
        assert!(!Facts::default().set(&"x".repeat(MAX_NAME + 1), 0, SECOND, now));
    }
}
