//! Why a registry does not do what it is asked for, and when that is worth telling.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::time::Instant;

/// Causes that are told of one subject in a row, and the time after which one more may be.
const BURST: u32 = 4;
const PACE: Duration = Duration::from_secs(10);

/// Subjects whose troubles are kept at a time. More are not told until one is over.
const SUBJECTS: usize = 64;

/// Why a registry did not do it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It cannot be reached, or does not answer: how that showed, which may be another way each time.
    Away(String),
    /// It answers that it cannot now: what it says.
    Unable(String),
    /// It answers that we may not, for want of a login or of rights: what it says. Waiting helps only if somebody gives us
    /// some.
    Refused(String),
}

impl Cause {
    /// An answer that did not come.
    pub fn late() -> Self {
        Self::Away("no answer in time".to_owned())
    }

    /// Whether we may not.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether who has heard `self` hears nothing new in `other`.
    fn covers(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Away(_), Self::Away(_))) || self == other
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Away(what) | Self::Unable(what) | Self::Refused(what)) = self;
        f.write_str(what)
    }
}

/// One trouble, which is told when it begins and when its cause changes: 4 times in a row, and then every 10 s at most.
///
/// ```text
///         fail: told                     fail with another cause: told
///  Well ───────────▶ Troubled(cause) ──────────────────────────────────▶ Troubled(other)
///    ▲                 │ settle                                             │ settle
///    └─────────────────┴────────────────────────────────────────────────────┘
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Trouble {
    told: Option<Cause>,
    last: Option<Cause>,
    /// How many of the latest were told, and since when that counts.
    spent: u32,
    since: Instant,
}

impl Trouble {
    /// It failed. `true` if that is to be told.
    pub fn fail(&mut self, cause: Cause, now: Instant) -> bool {
        let news = self.told.as_ref().is_none_or(|told| !told.covers(&cause)) && self.may_speak(now);
        if news {
            self.told = Some(cause.clone());
        }
        self.last = Some(cause);
        news
    }

    /// It works. `true` if it was told that it did not.
    pub fn settle(&mut self) -> bool {
        self.last = None;
        self.told.take().is_some()
    }

    /// Why it failed the last time, unless it has worked since.
    pub const fn cause(&self) -> Option<&Cause> {
        self.last.as_ref()
    }

    fn may_speak(&mut self, now: Instant) -> bool {
        while self.spent > 0 && now.since(self.since) >= PACE {
            self.spent -= 1;
            self.since = self.since + PACE;
        }
        if self.spent == 0 {
            self.since = now;
        }
        let may = self.spent < BURST;
        self.spent += u32::from(may);
        may
    }

    /// Nothing would be forgotten with it.
    fn is_over(&mut self, now: Instant) -> bool {
        self.told.is_none() && now.since(self.since) >= PACE * BURST
    }
}

/// The troubles of many subjects, 64 at most.
#[derive(Debug, Default)]
pub struct Troubles {
    all: BTreeMap<String, Trouble>,
}

impl Troubles {
    /// The subject failed. `true` if that is to be told.
    pub fn fail(&mut self, subject: &str, cause: Cause, now: Instant) -> bool {
        if let Some(trouble) = self.all.get_mut(subject) {
            return trouble.fail(cause, now);
        }
        if self.all.len() >= SUBJECTS {
            self.all.retain(|_, trouble| !trouble.is_over(now));
        }
        self.all.len() < SUBJECTS && self.all.entry(subject.to_owned()).or_default().fail(cause, now)
    }

    /// The subject works, or is no more.
    pub fn settle(&mut self, subject: &str) {
        if let Some(trouble) = self.all.get_mut(subject) {
            trouble.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn unable(what: &str) -> Cause {
        Cause::Unable(what.to_owned())
    }

    #[test]
    fn a_trouble_is_told_when_it_begins_and_when_its_cause_changes() {
        let mut trouble = Trouble::default();
        let away = |what: &str| Cause::Away(what.to_owned());
        assert!(trouble.fail(away("refused"), at(1)));
        assert!(!trouble.fail(away("no answer in time"), at(2)), "away in another way is no news");
        assert!(trouble.fail(unable("no room"), at(3)) && !trouble.fail(unable("no room"), at(900)));
        assert_eq!(trouble.cause(), Some(&unable("no room")));
        assert!(trouble.settle() && !trouble.settle());
        assert_eq!(trouble.cause(), None);
        assert!(trouble.fail(unable("no room"), at(901)), "it begins anew");
    }

    #[test]
    fn causes_that_change_all_the_time_are_told_every_ten_seconds() {
        let mut trouble = Trouble::default();
        let told = (0..1000u64).filter(|tenth| {
            let now = Instant::ZERO + Duration::from_millis(tenth * 100);
            if tenth % 3 == 0 {
                trouble.settle();
            }
            trouble.fail(unable(&format!("{}", tenth % 2)), now)
        });
        assert_eq!(told.count(), 4 + 9, "four at once and one more every ten of the hundred seconds");
    }

    #[test]
    fn more_troubles_than_anybody_reads_are_not_kept() {
        let mut troubles = Troubles::default();
        let told = (0..1000).filter(|number| troubles.fail(&format!("{number}"), unable("x"), at(0)));
        assert_eq!(told.count(), SUBJECTS);
        troubles.settle("0");
        assert!(!troubles.fail("new", unable("x"), at(1)));
        assert!(troubles.fail("new", unable("x"), at(60)) && !troubles.fail("newer", unable("x"), at(60)));
    }
}
