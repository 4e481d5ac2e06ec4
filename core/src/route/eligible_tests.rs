//! Which candidates are eligible, and who is picked when nobody is up, by every policy.

use std::vec::Vec;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::down;
use crate::route::eligible::{Ask, Candidate, Slate};
use crate::route::policy::any::{ALL, AnyPolicy};
use crate::route::policy::pick::{NoPick, Pick};
use crate::time::Instant;

const A: InstanceId = InstanceId(1);
const B: InstanceId = InstanceId(2);
const C: InstanceId = InstanceId(3);

/// A, B and C, struck at these nanoseconds if at all; each mark lasts a second.
fn candidates(struck: [Option<u64>; 3]) -> [Candidate; 3] {
    let mut candidates = [A, B, C].map(Candidate::new);
    for (candidate, nanos) in candidates.iter_mut().zip(struck) {
        if let Some(nanos) = nanos {
            candidate.down.struck(Instant::from_nanos(nanos), &down::Config::default());
        }
    }
    candidates
}

/// Everybody each policy but `direct` picks in a hundred tries.
fn picked(candidates: &[Candidate], avoid: &[InstanceId]) -> Vec<Vec<InstanceId>> {
    let slate = Slate { ask: Ask::default(), candidates, avoid, now: Instant::from_nanos(100) };
    let general = ALL.iter().filter(|row| row.argument.is_none());
    let picked = general.map(|row| {
        let (mut policy, mut rng) = (AnyPolicy::from_name(row.name).unwrap(), Rng::new(1));
        let mut seen: Vec<_> = (0..100).map(|_| candidates[policy.pick(&slate, &mut rng).unwrap()].id).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    });
    picked.collect()
}

#[test]
fn those_who_are_down_or_already_tried_are_left_out_while_others_are_up() {
    for seen in picked(&candidates([None; 3]), &[]) {
        assert_eq!(seen, [A, B, C]);
    }
    for seen in picked(&candidates([None, Some(5), None]), &[]) {
        assert_eq!(seen, [A, C]);
    }
    for seen in picked(&candidates([None, Some(5), None]), &[A]) {
        assert_eq!(seen, [C]);
    }
}

#[test]
fn one_who_is_up_is_tried_again_before_one_who_is_down() {
    for seen in picked(&candidates([Some(1), Some(2), None]), &[C]) {
        assert_eq!(seen, [C]);
    }
}

#[test]
fn when_all_are_down_the_one_whose_mark_ends_soonest_is_picked() {
    for seen in picked(&candidates([Some(7), Some(5), Some(9)]), &[]) {
        assert_eq!(seen, [B]);
    }
    for seen in picked(&candidates([Some(7), Some(5), Some(9)]), &[B]) {
        assert_eq!(seen, [A]);
    }
    for seen in picked(&candidates([Some(7), Some(5), Some(9)]), &[A, B, C]) {
        assert_eq!(seen, [B]);
    }
}

#[test]
fn failing_probes_of_an_endpoint_that_is_all_down_reach_everybody_in_turn() {
    let config = down::Config::default();
    let mut candidates = candidates([Some(7), Some(5), Some(9)]);
    let mut policy = AnyPolicy::from_name("random").unwrap();
    let mut reached = Vec::new();
    for nanos in 10..16 {
        let now = Instant::from_nanos(nanos);
        let slate = Slate { ask: Ask::default(), candidates: &candidates, avoid: &[], now };
        let index = policy.pick(&slate, &mut Rng::new(nanos)).unwrap();
        candidates[index].down.began(now, &config);
        candidates[index].down.struck(now, &config);
        reached.push(candidates[index].id);
    }
    assert_eq!(reached, [B, A, C, B, A, C]);
}

#[test]
fn an_empty_slate_is_a_typed_failure() {
    let slate = Slate { ask: Ask::default(), candidates: &[], avoid: &[], now: Instant::ZERO };
    let mut policy = AnyPolicy::from_name("round-robin").unwrap();
    assert_eq!(policy.pick(&slate, &mut Rng::new(1)), Err(NoPick::Empty));
}
