//! Very many timers at constant cost: a hashed wheel of intrusive lists.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::buf::slab::{Key, Slab};
use crate::time::{Deadline, Instant, Reason};

/// Names one armed timer. Stale once the timer has fired or been cancelled.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct TimerId(Key);

/// Timers in slots of one granularity each. Arming, moving and cancelling are O(1); finding the next deadline reads one bit
/// per slot. Allocates only when more timers are armed at once than ever before.
///
/// ```text
///   tick    cursor                                  cursor + slots
///             v                                            v
///           [ A ][   ][ B C ][   ] ... [ D (due much later) ]      `occupied` holds one bit per slot
///   due     [ popped by expire() ]
/// ```
/// A timer stands in the slot of its instant rounded *up* to the granularity: it never fires early and fires at most one
/// granularity late. A timer beyond the horizon (granularity × slots) stands in the last slot and is moved on when that
/// slot's time comes; until then [`Wheel::next`] may name that earlier moment.
///
/// Invariant: every timer in a slot has a tick in `cursor .. cursor + slots`, so a slot never mixes two ticks.
#[derive(Clone, Debug)]
pub struct Wheel {
    granularity: u64,
    /// Slots minus one; slots are a power of two.
    mask: u64,
    /// The first tick whose slot may hold timers; only grows.
    cursor: u64,
    timers: Slab<Timer>,
    /// Rings of list links: one sentinel per slot, the sentinel of the due list, then one per timer.
    links: Vec<Links>,
    occupied: Vec<u64>,
}

#[derive(Copy, Clone, Debug)]
struct Timer {
    token: u64,
    why: Reason,
    at: Instant,
}

#[derive(Copy, Clone, Debug)]
struct Links {
    previous: u32,
    next: u32,
}

impl Default for Wheel {
    /// 1024 slots of 8 ms: a horizon of 8.192 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(8), 1024)
    }
}

impl Wheel {
    /// A wheel of `slots` slots, rounded up to a power of two between 64 and 65 536, of `granularity` each, at least 1 ns.
    pub fn new(granularity: Duration, slots: usize) -> Self {
        let slots = slots.clamp(64, 1 << 16).next_power_of_two();
        let sentinels = (0u32..).take(slots + 1).map(|index| Links { previous: index, next: index });
        Self {
            granularity: u64::try_from(granularity.as_nanos()).unwrap_or(u64::MAX).max(1),
            mask: slots as u64 - 1,
            cursor: 0,
            timers: Slab::new(),
            links: sentinels.collect(),
            occupied: vec![0; slots / 64],
        }
    }

    /// Arms a timer that gives `token` and `why` back at `at`. An instant in the past is due at once;
    /// [`Instant::FAR`] parks the timer: it keeps its id and never fires.
    pub fn arm(&mut self, token: u64, why: Reason, at: Instant) -> TimerId {
        let key = self.timers.insert(Timer { token, why, at });
        let link = self.link_of(key);
        if link as usize == self.links.len() {
            self.links.push(Links { previous: link, next: link });
        }
        self.place(link, at);
        TimerId(key)
    }

    /// Moves a timer to another instant and reason. Does nothing and says so (`false`) if the id is stale.
    pub fn rearm(&mut self, id: TimerId, why: Reason, at: Instant) -> bool {
        let Some(timer) = self.timers.get_mut(id.0) else { return false };
        timer.why = why;
        timer.at = at;
        let link = self.link_of(id.0);
        self.unlink(link);
        self.place(link, at);
        true
    }

    /// Takes a timer back. Does nothing and says so (`false`) if the id is stale.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        if self.timers.remove(id.0).is_none() {
            return false;
        }
        self.unlink(self.link_of(id.0));
        true
    }

    /// The next timer that is due, with its token; call until `None`. Ticks fire in order and within a tick what was armed
    /// first; only a timer that was beyond the horizon when it was placed, or armed in the past, may come out of turn. A
    /// timer armed for `now` or earlier between two calls fires in the same round.
    pub fn expire(&mut self, now: Instant) -> Option<(u64, Reason)> {
        self.advance(now.as_nanos() / self.granularity);
        loop {
            let link = self.links_at(self.due()).next;
            if link == self.due() {
                return None;
            }
            self.unlink(link);
            let key = self.timers.key_at(link - self.due() - 1).expect("a linked timer is armed");
            let timer = *self.timers.get(key).expect("a linked timer is armed");
            if self.tick_of(timer.at) <= self.cursor {
                self.timers.remove(key);
                return Some((timer.token, timer.why));
            }
            self.place(link, timer.at);
        }
    }

    /// When to call [`Wheel::expire`] next, and the reason of the first timer found there. Never later than the earliest
    /// timer rounded up to the granularity (for a timer armed in the past: than the time last told to `expire`). Earlier
    /// than that only on behalf of a timer that was beyond the horizon when it was placed: `expire` then yields nothing
    /// and places it anew.
    pub fn next(&self) -> Option<Deadline> {
        let due = self.links_at(self.due()).next;
        let (tick, link) = if due == self.due() {
            let tick = self.first_occupied()?;
            (tick, self.links_at(self.slot_of(tick)).next)
        } else {
            (self.cursor, due)
        };
        let timer = self.timers.key_at(link - self.due() - 1).and_then(|key| self.timers.get(key))?;
        Some(Deadline { at: Instant::from_nanos(tick.saturating_mul(self.granularity)), why: timer.why })
    }

    /// What a timer is armed for; `None` if the id is stale.
    pub fn armed(&self, id: TimerId) -> Option<Deadline> {
        self.timers.get(id.0).map(|timer| Deadline { at: timer.at, why: timer.why })
    }

    /// Timers armed, parked ones included.
    pub const fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is armed.
    pub const fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Moves the cursor to `tick` and everything on the way to the due list, whole slots at a time.
    fn advance(&mut self, tick: u64) {
        while let Some(first) = self.first_occupied()
            && first <= tick
        {
            self.splice_to_due(self.slot_of(first));
        }
        self.cursor = self.cursor.max(tick);
    }

    /// The earliest tick whose slot holds a timer.
    fn first_occupied(&self) -> Option<u64> {
        let start = self.cursor & self.mask;
        let words = self.occupied.len();
        let (start_word, start_bit) = ((start / 64) as usize, start % 64);
        for step in 0..=words {
            let at = (start_word + step) % words;
            let mut word = self.occupied.get(at).copied().unwrap_or_default();
            if step == 0 {
                word &= u64::MAX << start_bit; // what lies before comes last, in one more look at this word
            }
            if word != 0 {
                let slot = at as u64 * 64 + u64::from(word.trailing_zeros());
                return Some(self.cursor.saturating_add(slot.wrapping_sub(start) & self.mask));
            }
        }
        None
    }

    /// Puts a timer that is in no list into the slot for `at`, or nowhere if it is parked.
    fn place(&mut self, link: u32, at: Instant) {
        if at == Instant::FAR {
            return;
        }
        let tick = self.tick_of(at).clamp(self.cursor, self.cursor.saturating_add(self.mask));
        let slot = self.slot_of(tick);
        let last = self.links_at(slot).previous;
        *self.links_at_mut(link) = Links { previous: last, next: slot };
        self.links_at_mut(last).next = link;
        self.links_at_mut(slot).previous = link;
        self.mark(slot, true);
    }

    /// Takes a timer out of the list it is in, if any.
    fn unlink(&mut self, link: u32) {
        let Links { previous, next } = *self.links_at(link);
        self.links_at_mut(previous).next = next;
        self.links_at_mut(next).previous = previous;
        *self.links_at_mut(link) = Links { previous: link, next: link };
        if previous == next && next < self.due() {
            self.mark(next, false);
        }
    }

    /// Appends a slot's whole list to the due list.
    fn splice_to_due(&mut self, slot: u32) {
        let due = self.due();
        let Links { previous: last, next: first } = *self.links_at(slot);
        let tail = self.links_at(due).previous;
        *self.links_at_mut(slot) = Links { previous: slot, next: slot };
        self.mark(slot, false);
        self.links_at_mut(tail).next = first;
        self.links_at_mut(first).previous = tail;
        self.links_at_mut(last).next = due;
        self.links_at_mut(due).previous = last;
    }

    fn mark(&mut self, slot: u32, occupied: bool) {
        if let Some(word) = self.occupied.get_mut(slot as usize / 64) {
            let bit = 1 << (slot % 64);
            *word = if occupied { *word | bit } else { *word & !bit };
        }
    }

    /// The tick a timer for `at` fires in: rounded up.
    const fn tick_of(&self, at: Instant) -> u64 {
        at.as_nanos().div_ceil(self.granularity)
    }

    const fn slot_of(&self, tick: u64) -> u32 {
        (tick & self.mask) as u32
    }

    /// The sentinel of the due list; those of the slots are below it, the links of timers above.
    const fn due(&self) -> u32 {
        self.mask as u32 + 1
    }

    const fn link_of(&self, key: Key) -> u32 {
        self.due() + 1 + key.index
    }

    fn links_at(&self, index: u32) -> &Links {
        self.links.get(index as usize).expect("a link names a sentinel or a timer's place")
    }

    fn links_at_mut(&mut self, index: u32) -> &mut Links {
        self.links.get_mut(index as usize).expect("a link names a sentinel or a timer's place")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Rng;

    const GRANULARITY: u64 = 8;

    fn wheel() -> Wheel {
        Wheel::new(Duration::from_nanos(GRANULARITY), 64)
    }

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn drain(wheel: &mut Wheel, now: u64) -> Vec<u64> {
        core::iter::from_fn(|| wheel.expire(at(now))).map(|(token, _)| token).collect()
    }

    #[test]
    fn a_timer_fires_once_and_not_before_its_instant() {
        let mut wheel = wheel();
        wheel.arm(1, Reason::Ping, at(20));
        assert_eq!(wheel.next(), Some(Deadline { at: at(24), why: Reason::Ping }));
        assert_eq!(drain(&mut wheel, 19), [0_u64; 0]);
        assert_eq!(drain(&mut wheel, 24), [1]);
        assert_eq!(drain(&mut wheel, 1000), [0_u64; 0]);
        assert_eq!((wheel.next(), wheel.len()), (None, 0));
    }

    #[test]
    fn timers_fire_in_order_of_ticks_after_a_long_silence() {
        let mut wheel = wheel();
        for (token, nanos) in [(1, 4000), (2, 100), (3, 101), (4, 40), (5, 9000)] {
            wheel.arm(token, Reason::Idle, at(nanos));
        }
        assert_eq!(drain(&mut wheel, 8000), [4, 2, 3, 1]);
        assert_eq!(drain(&mut wheel, 9000), [5]);
    }

    #[test]
    fn a_timer_armed_in_the_past_is_due_at_once() {
        let mut wheel = wheel();
        assert_eq!(drain(&mut wheel, 5000), [0_u64; 0]);
        wheel.arm(1, Reason::Retry, at(7));
        assert!(wheel.next().is_some_and(|deadline| deadline.at <= at(5000)));
        assert_eq!(drain(&mut wheel, 5000), [1]);
    }

    #[test]
    fn stale_ids_touch_nobody_even_when_their_place_is_taken_again() {
        let mut wheel = wheel();
        let first = wheel.arm(1, Reason::Ping, at(10));
        assert!(wheel.cancel(first));
        let second = wheel.arm(2, Reason::Pong, at(10));
        assert!(!wheel.cancel(first) && !wheel.rearm(first, Reason::Idle, at(900)));
        assert_eq!(wheel.armed(second), Some(Deadline { at: at(10), why: Reason::Pong }));
        assert_eq!(drain(&mut wheel, 16), [2]);
    }

    #[test]
    fn a_parked_timer_keeps_its_id_and_asks_for_nothing() {
        let mut wheel = wheel();
        let id = wheel.arm(1, Reason::Idle, Instant::FAR);
        assert_eq!((wheel.next(), wheel.len()), (None, 1));
        assert_eq!(drain(&mut wheel, 1 << 40), [0_u64; 0]);
        assert!(wheel.rearm(id, Reason::Drain, at(1 << 41)));
        assert_eq!(wheel.expire(at(1 << 42)), Some((1, Reason::Drain)));
    }

    #[test]
    fn a_timer_cancelled_while_due_does_not_fire() {
        let mut wheel = wheel();
        wheel.arm(1, Reason::Ping, at(8));
        let second = wheel.arm(2, Reason::Ping, at(8));
        wheel.arm(3, Reason::Ping, at(8));
        assert_eq!(wheel.expire(at(8)).map(|(token, _)| token), Some(1));
        assert!(wheel.cancel(second));
        assert_eq!(drain(&mut wheel, 8), [3]);
    }

    #[test]
    fn arming_again_and_again_allocates_nothing_new() {
        let mut wheel = wheel();
        for round in 0..100 {
            let ids: Vec<_> = (0..10).map(|n| wheel.arm(n, Reason::Accept, at(round * 50 + n))).collect();
            ids.into_iter().take(5).for_each(|id| assert!(wheel.cancel(id)));
            drain(&mut wheel, round * 50 + 16);
        }
        assert_eq!(wheel.links.len(), 64 + 1 + 10);
    }

    /// What the wheel should do, done slowly.
    struct Model {
        armed: BTreeMap<u64, (TimerId, Instant, Reason)>,
        now: u64,
        /// The time of the expiry before this one.
        previous: u64,
        /// Whether timers beyond the horizon are armed.
        far: bool,
    }

    impl Model {
        fn check_next(&self, wheel: &Wheel, seed: u64) {
            let earliest = self.armed.values().map(|(_, at, _)| at.as_nanos()).filter(|at| *at != u64::MAX).min();
            let next = wheel.next().map(|deadline| deadline.at.as_nanos());
            let Some(earliest) = earliest else { return assert_eq!(next, None, "seed {seed}") };
            let next = next.unwrap_or_else(|| panic!("seed {seed}: a timer at {earliest} and no deadline"));
            let rounded = earliest.next_multiple_of(GRANULARITY);
            assert!(next <= rounded.max(self.now), "seed {seed}: next {next}, earliest {earliest}, now {}", self.now);
            assert!(self.far || next + GRANULARITY > earliest, "seed {seed}: {next} is early for {earliest}");
        }

        fn check_expire(&mut self, wheel: &mut Wheel, seed: u64) {
            let mut last_tick = 0;
            while let Some((token, why)) = wheel.expire(at(self.now)) {
                let (_, at, expected) = self.armed.remove(&token).unwrap_or_else(|| panic!("seed {seed}: {token}"));
                assert_eq!(why, expected, "seed {seed}");
                assert!(at.as_nanos() <= self.now, "seed {seed}: {token} fired early");
                let tick = at.as_nanos().div_ceil(GRANULARITY).max(self.previous / GRANULARITY);
                assert!(self.far || tick >= last_tick, "seed {seed}: {token} out of order");
                last_tick = tick;
            }
            self.previous = self.now;
            for (token, (_, at, _)) in &self.armed {
                assert!(at.as_nanos().saturating_add(GRANULARITY) > self.now, "seed {seed}: {token} late");
            }
        }
    }

    fn random_instant(rng: &mut Rng, model: &Model) -> Instant {
        match rng.below(20) {
            0 => Instant::FAR,
            1 => at(model.now - rng.below(model.now.min(1000) + 1)),
            2..6 if model.far => at(model.now + rng.below(100 * 64 * GRANULARITY)),
            _ => at(model.now + rng.below(62 * GRANULARITY)),
        }
    }

    fn run(seed: u64) {
        let mut rng = Rng::new(seed);
        let mut wheel = wheel();
        let now = rng.below(2) * (rng.next_u64() / 4);
        let mut model = Model { armed: BTreeMap::new(), now, previous: 0, far: seed.is_multiple_of(2) };
        model.check_expire(&mut wheel, seed);
        let mut stale = Vec::new();
        for token in 0..2000 {
            let when = random_instant(&mut rng, &model);
            let why = Reason::ALL[usize::try_from(rng.below(13)).unwrap()];
            let picked = rng.below(token + 1);
            match rng.below(8) {
                0..4 => {
                    let id = wheel.arm(token, why, when);
                    model.armed.insert(token, (id, when, why));
                }
                4 => {
                    if let Some((_, entry)) = model.armed.range_mut(picked..).next() {
                        *entry = (entry.0, when, why);
                        assert!(wheel.rearm(entry.0, why, when), "seed {seed}");
                    }
                }
                5 => {
                    if let Some((&token, &(id, ..))) = model.armed.range(picked..).next() {
                        assert!(wheel.cancel(id), "seed {seed}");
                        model.armed.remove(&token);
                        stale.push(id);
                    }
                }
                _ => {
                    let horizon = 64 * GRANULARITY;
                    model.now += [rng.below(GRANULARITY), rng.below(horizon), rng.below(50 * horizon)]
                        [usize::try_from(rng.below(12) / 5).unwrap()];
                    model.check_expire(&mut wheel, seed);
                }
            }
            assert!(stale.iter().all(|id| wheel.armed(*id).is_none()), "seed {seed}");
            assert_eq!(wheel.len(), model.armed.len(), "seed {seed}");
            model.check_next(&wheel, seed);
        }
    }

    #[test]
    fn random_operations_and_jumps_agree_with_an_ordered_map() {
        for seed in 0..100 {
            run(seed);
        }
    }
}
