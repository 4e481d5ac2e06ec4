//! The last errors of a process: a bounded list, in which the same one in a row is counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::status::view::ErrorView;

/// The longest text of one that is kept, in bytes.
const TEXT: usize = 512;
/// Errors of calls that are written down in one second; of more the number is kept.
const A_SECOND: u32 = 50;

/// The last errors.
pub(super) struct Errors {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    all: VecDeque<ErrorView>,
    total: u64,
    /// The second, since 1970, and how many errors of calls were written down in it.
    second: (u64, u32),
}

impl Errors {
    pub(super) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// One more. `place` is an endpoint, or whatever else it is about.
    pub(super) fn note(&self, place: &str, text: &str) {
        self.lock().total += 1;
        self.keep(place, text);
    }

    /// One more of a call, whose text is made only if it is written down.
    pub(super) fn note_with(&self, place: &str, text: impl FnOnce() -> String) {
        let mut kept = self.lock();
        kept.total += 1;
        let second = now() / 1000;
        let written = if kept.second.0 == second { kept.second.1 } else { 0 };
        if written >= A_SECOND {
            return;
        }
        kept.second = (second, written + 1);
        drop(kept);
        self.keep(place, &text());
    }

    fn keep(&self, place: &str, text: &str) {
        let mut kept = self.lock();
        let (at_ms, text) = (now(), cut(text));
        if let Some(last) = kept.all.back_mut()
            && last.place == place
            && last.text == text
        {
            last.count += 1;
            last.at_ms = at_ms;
            return;
        }
        if kept.all.len() >= self.most {
            kept.all.pop_front();
        }
        if self.most > 0 {
            let (place, text) = (cut(place).to_owned(), text.to_owned());
            kept.all.push_back(ErrorView { at_ms, place, text, count: 1 });
        }
    }

    /// The newest first, and how many there have been.
    pub(super) fn list(&self) -> (Vec<ErrorView>, u64) {
        let kept = self.lock();
        (kept.all.iter().rev().cloned().collect(), kept.total)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT)).unwrap_or_default()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_repeated_ones_counted() {
        let errors = Errors::new(2);
        for (place, text) in [("a", "x"), ("a", "y"), ("b", "y"), ("b", "y")] {
            errors.note(place, text);
        }
        errors.note("c", &"\u{FC}".repeat(TEXT));
        let (kept, total) = errors.list();
        let shown: Vec<_> = kept.iter().map(|error| (error.place.as_str(), error.text.len(), error.count)).collect();
        assert_eq!((shown, total), (vec![("c", TEXT, 1), ("b", 1, 2)], 5));
        (0..1000).for_each(|_| errors.note_with("d", || "z".to_owned()));
        let (kept, total) = errors.list();
        assert!(kept[0].count < 1000 && total == 1005, "no more are written down than a second has room for");
        let none = Errors::new(0);
        none.note("a", "x");
        assert_eq!((none.list().0.len(), none.list().1), (0, 1));
    }
}
