//! How many calls an instance takes at once, as far as that is known.

use core::time::Duration;

use crate::time::Instant;

/// How long a report's word on the calls of others is believed.
pub const FRESH: Duration = Duration::from_secs(1);

/// How long an instance is held to what it refused at.
pub const HELD: Duration = Duration::from_secs(10);

/// The places of one instance. It has no free one if this core has as many calls there as it takes, less those that others had
/// there when it reported lately; or as many as when it last refused one. Nothing is known of one that says nothing and refuses
/// nothing: it has a place for everybody.
///
/// What it refused at is believed for [`HELD`], and grows by one with each call that it answers while all of it is used, as a
/// sender's window after a loss: a worker that neither reports nor has a record of ours is found out by that alone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// How many calls it takes; 0: unknown.
    limit: u32,
    /// The calls of others when it reported last.
    others: u32,
    /// How many of this core's it may have, by what it refused.
    ceiling: u32,
    /// Until when the report is believed on others; zero: there was none.
    fresh_until: Instant,
    /// Until when the ceiling holds.
    held_until: Instant,
}

impl Places {
    /// Nothing is known.
    pub const UNKNOWN: Self =
        Self { limit: 0, others: 0, ceiling: 0, fresh_until: Instant::ZERO, held_until: Instant::ZERO };

    /// Its record says how many calls it takes; 0: nothing. What it has reported itself counts for more.
    pub fn recorded(&mut self, limit: u32) {
        if self.fresh_until == Instant::ZERO {
            self.limit = limit;
        }
    }

    /// It has reported how many calls it takes, 0 for unknown, and how many it has, of which this core had `own`.
    pub fn reported(&mut self, limit: u32, calls: u32, own: u32, now: Instant) {
        if limit > 0 {
            (self.limit, self.others, self.fresh_until) = (limit, calls.saturating_sub(own), now + FRESH);
        }
    }

    /// It refused a call for want of room, besides which it has `others` of this core. It takes one in any case: another one
    /// has to find out when there is room again.
    pub fn refused(&mut self, others: u32, now: Instant) {
        let before = if now < self.held_until { self.ceiling } else { u32::MAX };
        (self.ceiling, self.held_until) = (before.min(others.max(1)), now + HELD);
    }

    /// It has answered one of the `own` calls of this core there.
    pub const fn answered(&mut self, own: u32) {
        if own >= self.ceiling {
            self.ceiling = self.ceiling.saturating_add(1);
        }
    }

    /// How many calls it takes, as it has reported or as its record says; 0: unknown.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Whether there is a place beside the `own` calls of this core.
    pub fn has_free(&self, own: u32, now: Instant) -> bool {
        self.free_at(own) <= now
    }

    /// When there is, if nothing happens but that time passes; [`Instant::FAR`] if that does not help.
    pub fn free_at(&self, own: u32) -> Instant {
        let by_ceiling = if own < self.ceiling { Instant::ZERO } else { self.held_until };
        let by_limit = match self.limit {
            0 => Instant::ZERO,
            limit if own >= limit => Instant::FAR,
            limit if own.saturating_add(self.others) >= limit => self.fresh_until,
            _ => Instant::ZERO,
        };
        by_ceiling.max(by_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_nanos(5);

    #[test]
    fn places_are_those_of_the_record_until_a_report_says_more_and_others_count_while_it_is_fresh() {
        let mut places = Places::UNKNOWN;
        assert!(places.has_free(u32::MAX, T0));
        places.recorded(8);
        assert_eq!((places.has_free(7, T0), places.has_free(8, T0), places.free_at(8)), (true, false, Instant::FAR));
        places.reported(8, 6, 2, T0);
        assert!(places.has_free(3, T0) && !places.has_free(4, T0), "four are of others");
        assert_eq!(places.free_at(4), T0 + FRESH);
        assert!(places.has_free(4, T0 + FRESH) && !places.has_free(8, T0 + FRESH));
        places.recorded(99);
        places.reported(0, 5, 5, T0);
        assert_eq!(places.limit(), 8, "it has said itself, and a report without a limit says nothing");
    }

    #[test]
    fn what_it_refused_at_holds_for_a_while_and_answers_raise_it_one_by_one() {
        let mut places = Places::UNKNOWN;
        for others in [9, 8, 7] {
            places.refused(others, T0);
        }
        assert!(places.has_free(6, T0) && !places.has_free(7, T0));
        places.answered(6);
        assert!(!places.has_free(7, T0), "not all of it was used");
        places.answered(7);
        assert!(places.has_free(7, T0) && !places.has_free(8, T0));
        places.refused(0, T0);
        assert!(places.has_free(0, T0) && !places.has_free(1, T0), "one finds out");
        assert_eq!(places.free_at(1), T0 + HELD);
        places.refused(5, T0 + HELD);
        assert!(places.has_free(4, T0 + HELD) && !places.has_free(5, T0 + HELD), "what was is forgotten");
    }
}
