//! Which candidates are eligible, and who is picked when nobody is up, by every policy.

use core::time::Duration;
use std::vec::Vec;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate, Slate};
use crate::route::policy::any::{ALL, AnyPolicy};
use crate::route::policy::pick::{NoPick, Pick};
use crate::route::rules::Config;
use crate::time::Instant;

const A: InstanceId = InstanceId(1);
const B: InstanceId = InstanceId(2);
const C: InstanceId = InstanceId(3);

/// Marks of equal length.
const EXACT: Config = Config { jitter: 0, ..Config::DEFAULT };

/// A, B and C, lost at these nanoseconds if at all; each mark lasts a second.
fn candidates(lost: [Option<u64>; 3]) -> [Candidate; 3] {
    let mut candidates = [A, B, C].map(Candidate::new);
    for (candidate, nanos) in candidates.iter_mut().zip(lost) {
        if let Some(nanos) = nanos {
            candidate.health.lost(Instant::from_nanos(nanos), &EXACT, &mut Rng::new(1));
        }
    }
    candidates
}

/// Everybody each policy but `direct` picks in a hundred tries.
fn picked(candidates: &[Candidate], avoid: &[InstanceId]) -> Vec<Vec<InstanceId>> {
    let slate = Slate { ask: Ask::default(), candidates, allow: &[], avoid, now: Instant::from_nanos(100) };
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
    let mut candidates = candidates([Some(7), Some(5), Some(9)]);
    let mut policy = AnyPolicy::from_name("random").unwrap();
    let mut reached = Vec::new();
    for nanos in 10..16 {
        let now = Instant::from_nanos(nanos);
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now };
        let index = policy.pick(&slate, &mut Rng::new(nanos)).unwrap();
        candidates[index].health.began(now, &EXACT);
        candidates[index].health.lost(now, &EXACT, &mut Rng::new(1));
        reached.push(candidates[index].id);
    }
    assert_eq!(reached, [B, A, C, B, A, C]);
}

#[test]
fn an_empty_slate_is_a_typed_failure() {
    let slate = Slate { ask: Ask::default(), candidates: &[], allow: &[], avoid: &[], now: Instant::ZERO };
    let mut policy = AnyPolicy::from_name("round-robin").unwrap();
    assert_eq!(policy.pick(&slate, &mut Rng::new(1)), Err(NoPick::Empty));
}

#[test]
fn an_instance_without_room_is_left_out_until_its_wish_is_over_and_is_picked_if_nobody_else_is_left() {
    let mut candidates = candidates([None; 3]);
    for candidate in &mut candidates[..2] {
        candidate.health.refused(Some(Duration::from_secs(2)), Instant::ZERO, &EXACT);
    }
    assert!(picked(&candidates, &[]).into_iter().all(|seen| seen == [C]));
    assert!(picked(&candidates, &[C]).into_iter().all(|seen| seen == [C]), "up and tried before one without room");
    candidates[2].health.refused(Some(Duration::from_secs(3)), Instant::ZERO, &EXACT);
    assert!(picked(&candidates, &[]).into_iter().all(|seen| seen == [A]), "the one that has room soonest");
}

#[test]
fn only_what_is_allowed_is_picked_by_every_policy_even_as_the_last_resort() {
    let candidates = candidates([None, Some(5), None]);
    for (allow, expected) in [(&[B, C][..], Some(C)), (&[B], Some(B)), (&[InstanceId(9)], None)] {
        for row in ALL.iter().filter(|row| row.argument.is_none()) {
            let mut policy = AnyPolicy::from_name(row.name).unwrap();
            let now = Instant::from_nanos(100);
            let slate = Slate { ask: Ask::default(), candidates: &candidates, allow, avoid: &[], now };
            let picked = policy.pick(&slate, &mut Rng::new(3)).ok().map(|index| candidates[index].id);
            assert_eq!(picked, expected, "{} of {allow:?}", row.name);
        }
    }
}

#[test]
fn an_instance_that_warms_up_gets_a_tenth_of_its_part_at_first_and_all_of_it_in_the_end() {
    let (mut candidates, mut rng) = (candidates([None; 3]), Rng::new(9));
    let start = Instant::ZERO + Duration::from_secs(100);
    for at in [start, start + EXACT.base] {
        candidates[1].health.lost(at, &EXACT, &mut rng);
        candidates[1].health.began(at + EXACT.base, &EXACT);
    }
    let back = start + Duration::from_secs(3);
    assert!(candidates[1].health.answered(None, back, &EXACT));
    let mut shares = Vec::new();
    for tenth in 0..11 {
        let mut policy = AnyPolicy::from_name("random").unwrap();
        let picks = (0..3000u32).filter(|step| {
            let now = back + EXACT.slow_start * tenth / 10 + Duration::from_micros(u64::from(*step) * 300);
            let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid: &[], now };
            policy.pick(&slate, &mut rng) == Ok(1)
        });
        shares.push(picks.count());
    }
    assert!((60..250).contains(&shares[0]), "{shares:?}");
    assert!((900..1100).contains(&shares[10]), "{shares:?}");
    assert!(shares.windows(2).all(|pair| pair[1] + 60 > pair[0]), "{shares:?}");
    // With nobody else to go to it gets everything.
    let slate = Slate { ask: Ask::default(), candidates: &candidates[1..2], allow: &[], avoid: &[], now: back };
    assert_eq!(AnyPolicy::default().pick(&slate, &mut rng), Ok(0));
}

#[cfg(feature = "alloc")]
#[test]
fn device_and_weight_come_from_labels_and_what_they_do_not_say_is_as_before() {
    use crate::route::eligible::Device;
    use crate::route::labels::Labels;

    let mut candidate = Candidate::new(A);
    for (labels, device, weight) in [
        (Labels::new([("device", "cpu"), ("weight", "7")]), Device::Processor, 7),
        (Labels::new([("device", "cuda"), ("weight", "0")]), Device::Accelerator, 0),
        (Labels::new([("weight", "70000")]), Device::Accelerator, 1),
        (Labels::NONE, Device::Accelerator, 1),
    ] {
        candidate.set_labels(labels.clone());
        assert_eq!((candidate.device, candidate.weight, &candidate.labels), (device, weight, &labels));
    }
}

#[test]
fn a_call_that_has_failed_once_probes_nobody_while_somebody_proven_is_left() {
    let candidates = candidates([Some(1), None, None]);
    let at = |nanos: u64, avoid: &'static [InstanceId]| {
        let now = Instant::from_nanos(nanos);
        let slate = Slate { ask: Ask::default(), candidates: &candidates, allow: &[], avoid, now };
        let mut policy = AnyPolicy::from_name("random").unwrap();
        let mut seen: Vec<_> =
            (0..100).map(|seed| candidates[policy.pick(&slate, &mut Rng::new(seed)).unwrap()].id).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    };
    let later = 2_000_000_000;
    assert_eq!(at(later, &[]), [A, B, C], "the mark of A has ended");
    assert_eq!(at(later, &[B]), [C]);
    assert_eq!(at(later, &[B, C]), [A], "before one that was tried already");
}
