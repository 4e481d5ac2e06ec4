//! Tests of the tracker: numbers in, verdicts out.

use std::vec::Vec;

use super::tracker::{Counters, Gap, Tracker, Verdict};
use crate::discovery::event::PublisherId;
use crate::rng::Rng;

const P: PublisherId = PublisherId(5);
const FRESH: Verdict = Verdict { restarted: false, gap: None, fresh: true };
const OLD: Verdict = Verdict { restarted: false, gap: None, fresh: false };

fn gap(first: u64, last: u64) -> Gap {
    Gap { publisher: P, first, last, missing: last - first + 1 }
}

#[test]
fn the_first_event_of_a_publisher_is_no_gap_and_every_number_left_out_after_it_is() {
    let mut tracker = Tracker::new(9, true);
    assert_eq!(tracker.handle_event(P, 40, 1), FRESH);
    assert_eq!(tracker.handle_event(P, 41, 1), FRESH);
    assert_eq!(tracker.handle_event(P, 45, 1), Verdict { gap: Some(gap(42, 44)), ..FRESH });
    assert_eq!(tracker.handle_event(PublisherId(6), 0, 1), FRESH);
    assert_eq!(tracker.handle_event(P, 45, 1), OLD);
    let expected = Counters { events: 3, duplicates: 1, gaps: 1, missing: 3, ..Counters::default() };
    assert_eq!(tracker.counters_of(P), Some(expected));
    assert_eq!(tracker.counters(), Counters { events: 4, ..expected });
}

#[test]
fn an_event_that_comes_late_is_handed_on_once() {
    let mut tracker = Tracker::new(9, true);
    tracker.handle_event(P, 0, 1);
    assert_eq!(tracker.handle_event(P, 3, 4), Verdict { gap: Some(gap(1, 2)), ..FRESH });
    // Also one that says that it was published last: its publisher has several hands.
    assert_eq!(tracker.handle_event(P, 2, 5), FRESH);
    assert_eq!(tracker.handle_event(P, 2, 5), OLD);
    assert_eq!(tracker.handle_event(P, 1, 2), FRESH);
    assert_eq!(tracker.handle_event(P, 4, 5), FRESH);
    let counted = tracker.counters();
    assert_eq!((counted.events, counted.missing, counted.late, counted.duplicates), (5, 2, 2, 1));
}

#[test]
fn a_restart_is_told_apart_from_a_gap_and_from_a_duplicate() {
    let mut tracker = Tracker::new(9, true);
    (0..100).for_each(|sequence| assert_eq!(tracker.handle_event(P, sequence, 10 + sequence), FRESH));
    // The same event by another way.
    assert_eq!(tracker.handle_event(P, 0, 10), OLD);
    assert_eq!(tracker.handle_event(P, 99, 109), OLD);
    assert_eq!(tracker.handle_event(P, 0, 500), Verdict { restarted: true, ..FRESH });
    // What the first run has published comes no more.
    assert_eq!(tracker.handle_event(P, 99, 109), OLD);
    assert_eq!(tracker.handle_event(P, 1, 501), FRESH);
    assert_eq!(tracker.handle_event(P, 3, 503), Verdict { gap: Some(gap(2, 2)), ..FRESH });
    // A run whose first events are lost.
    assert_eq!(tracker.handle_event(P, 2, 900), FRESH, "it may be the one that is missing");
    assert_eq!(tracker.handle_event(P, 2, 901), Verdict { restarted: true, gap: Some(gap(0, 1)), fresh: true });
    assert_eq!(tracker.counters().restarts, 2);
}

#[test]
fn what_is_known_to_be_lost_is_a_gap_also_when_nothing_follows() {
    let mut tracker = Tracker::new(9, true);
    tracker.handle_first_lost(P, 7);
    assert_eq!(tracker.handle_lost_up_to(P, 9), Some(gap(7, 9)));
    assert_eq!(tracker.handle_lost_up_to(P, 9), None);
    assert_eq!(tracker.handle_event(P, 10, 1), FRESH);
    assert_eq!(tracker.handle_event(P, 8, 1), OLD, "it is gone for good");
    assert_eq!((tracker.counters().missing, tracker.counters().late), (3, 0));
    assert_eq!(tracker.handle_event(P, 8, 2), Verdict { restarted: true, gap: Some(gap(0, 7)), fresh: true });
}

#[test]
fn members_of_a_group_miss_nothing_that_went_to_others() {
    let mut tracker = Tracker::new(9, false);
    assert_eq!([0, 3, 9, 7].map(|sequence| tracker.handle_event(P, sequence, 1)), [FRESH; 4]);
    assert_eq!(tracker.handle_event(P, 9, 1), OLD);
    assert_eq!(tracker.handle_event(P, 0, 2), Verdict { restarted: true, ..FRESH });
    assert_eq!((tracker.counters().gaps, tracker.counters().late), (0, 0));
}

#[test]
fn of_too_many_publishers_those_heard_longest_ago_are_forgotten() {
    let mut tracker = Tracker::new(8, true);
    for round in 0..1000 {
        assert_eq!(tracker.handle_event(PublisherId(1000 + round), 7, 1), FRESH);
        assert_eq!(tracker.handle_event(P, round, round), FRESH, "it is heard all the time");
        assert!(tracker.publishers().count() <= 8);
    }
    assert_eq!(tracker.forgotten() + tracker.publishers().count() as u64, 1001);
    assert_eq!(tracker.counters().events, 2000);
    // Room for one only.
    let mut tracker = Tracker::new(0, true);
    assert_eq!([1, 2, 2].map(|id| tracker.handle_event(PublisherId(id), 0, 1).fresh), [true, true, false]);
}

#[test]
fn numbers_at_the_very_end_do_not_trip() {
    let mut tracker = Tracker::new(9, true);
    tracker.handle_event(P, 0, 0);
    for sequence in [u64::MAX - 1, u64::MAX, u64::MAX, 0, u64::MAX] {
        tracker.handle_event(P, sequence, u64::MAX);
        tracker.handle_lost_up_to(P, sequence);
    }
}

/// Whatever is lost, doubled or late by a few: each event is handed on at most once, and those that were not are those missing.
#[test]
fn what_is_not_handed_on_is_told_as_missing_in_any_order() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut tracker = Tracker::new(9, true);
        let mut sent: Vec<u64> = (0..400).collect();
        let lost: Vec<u64> = sent.extract_if(1..399, |_| rng.below(8) == 0).collect();
        let doubled: Vec<u64> = sent.iter().copied().filter(|_| rng.below(6) == 0).collect();
        // Each up to about thirty places from its own; the ends stand still, so that all between is accounted for.
        let mut order: Vec<(u64, u64)> = sent
            .iter()
            .chain(&doubled)
            .map(|n| (n * 16 + rng.below(400), *n))
            .filter(|(_, n)| *n != 0 && *n != 399)
            .collect();
        order.sort_unstable();
        let (mut handed, mut missing) = (Vec::new(), 0);
        for sequence in core::iter::once(0).chain(order.into_iter().map(|(_, n)| n)).chain([399]) {
            let verdict = tracker.handle_event(P, sequence, 1);
            missing += verdict.gap.map_or(0, |gap| gap.missing);
            if verdict.fresh {
                handed.push(sequence);
            }
            assert!(!verdict.restarted, "seed {seed}");
        }
        handed.sort_unstable();
        assert_eq!(handed, sent, "seed {seed}");
        let counted = tracker.counters();
        assert_eq!((missing, missing - counted.late), (counted.missing, lost.len() as u64), "seed {seed}");
    }
}
