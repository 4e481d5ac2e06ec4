//! The health of many instances together, in virtual time, against the bounds that hold whatever happens.

use core::time::Duration;
use std::vec::Vec;

use crate::id::InstanceId;
use crate::rng::Rng;
use crate::route::eligible::{Ask, Candidate};
use crate::route::health::{Outcome, Probe, State};
use crate::route::instances::{Instances, Wish};
use crate::route::policy::any::AnyPolicy;
use crate::route::rules::Config;
use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn instances(count: u64, config: Config) -> Instances<()> {
    let mut instances = Instances::new(config);
    instances.update((1..=count).map(|id| (InstanceId(id), ())), |_, ()| {});
    instances
}

fn told(instances: &mut Instances<()>, id: u64, outcome: Outcome, now: Instant) {
    instances.on_outcome(InstanceId(id), outcome, None, now, &mut Rng::new(id));
}

fn states(instances: &Instances<()>, now: Instant) -> Vec<State> {
    instances.candidates().iter().map(|one| one.health.state(now).0).collect()
}

#[test]
fn silence_ejects_no_more_than_the_share_that_may_be_and_never_the_only_one() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (9, 4), (10, 4), (100, 49)] {
        let mut instances = instances(count, Config::default());
        for _ in 0..3 {
            (1..=count).for_each(|id| told(&mut instances, id, Outcome::Silent, Instant::ZERO));
        }
        assert_eq!(instances.sizes(Instant::ZERO).ejected, most, "of {count}");
        assert_eq!(instances.stats().spared, count - most);
    }
}

#[test]
fn one_that_loses_far_more_than_the_others_is_ejected_at_the_next_comparison_and_one_that_hardly_loses_any_is_not() {
    for (every, ejected) in [(2, true), (100, false)] {
        let (mut instances, mut now) = (instances(10, Config::default()), Instant::ZERO);
        // Losses of one connection each, far enough apart for marks to have ended.
        for step in 1..=4000u64 {
            now = now + Duration::from_millis(6);
            let id = step % 10 + 1;
            let fails = id == 3 && (step / 10).is_multiple_of(every);
            told(&mut instances, id, if fails { Outcome::Silent } else { Outcome::Answered }, now);
        }
        assert_eq!(instances.stats().ejected_failing > 0, ejected, "one in {every} is lost: {:?}", instances.stats());
        assert_eq!(instances.stats().ejected_silent, 0);
    }
}

#[test]
fn too_few_left_take_ejections_back_and_what_was_lost_stays_out() {
    let mut instances = instances(5, Config::default());
    let now = Instant::ZERO;
    (0..3).for_each(|_| told(&mut instances, 1, Outcome::Silent, now));
    assert_eq!(states(&instances, now)[0], State::Silent);
    told(&mut instances, 2, Outcome::Lost, now);
    assert_eq!(states(&instances, now)[0], State::Silent, "three of five are enough");
    told(&mut instances, 3, Outcome::Lost, now);
    assert_eq!(states(&instances, now)[..3], [State::Routable, State::Suspect, State::Suspect]);
    assert_eq!(instances.stats().panics, 1);
    (0..3).for_each(|_| told(&mut instances, 1, Outcome::Silent, now));
    assert_eq!((states(&instances, now)[0], instances.stats().spared), (State::Routable, 1));
}

#[test]
fn by_dynamos_rule_all_come_back_together_after_a_fixed_time_or_with_any_change() {
    let config = Config { inhibited: Some(SECOND * 5), ..Config::default() };
    let (mut instances, start) = (instances(3, config), Instant::ZERO + SECOND);
    told(&mut instances, 1, Outcome::Silent, start);
    told(&mut instances, 2, Outcome::Lost, start + SECOND * 4);
    let out =
        |instances: &Instances<()>, now| instances.candidates().iter().filter(|one| one.health.is_out(now)).count();
    assert_eq!([4, 5].map(|seconds| out(&instances, start + SECOND * seconds)), [2, 0]);
    assert_eq!(instances.began(InstanceId(1), start + SECOND * 5), None, "nobody probes");
    told(&mut instances, 1, Outcome::Lost, start + SECOND * 6);
    assert_eq!(out(&instances, start + SECOND * 6), 1);
    instances.insert((InstanceId(9), ()));
    assert_eq!(out(&instances, start + SECOND * 6), 0);
    let mut never = self::instances(3, Config { inhibited: Some(Duration::ZERO), ..Config::default() });
    told(&mut never, 1, Outcome::Lost, start);
    assert_eq!(out(&never, start), 0);
}

#[test]
fn a_base_of_zero_never_puts_anybody_out() {
    let mut instances = instances(3, Config { base: Duration::ZERO, ..Config::default() });
    for outcome in [Outcome::Lost, Outcome::Silent, Outcome::Silent, Outcome::Silent] {
        told(&mut instances, 1, outcome, Instant::ZERO);
    }
    assert_eq!(states(&instances, Instant::ZERO), [State::Routable; 3]);
}

/// A call that is under way.
struct Going {
    id: InstanceId,
    probe: Option<Probe>,
}

/// Random calls, outcomes, joins and leaves. What has to hold is checked after each of them.
#[test]
fn whatever_happens_somebody_is_picked_and_nobody_is_out_without_an_outcome_of_its_own() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let (config, mut now) = (Config { min_tries: 5, ..Config::default() }, Instant::ZERO + SECOND);
        let mut instances = instances(rng.below(12) + 1, config);
        let mut going: Vec<Going> = Vec::new();
        let mut policy = AnyPolicy::from_name(["random", "round-robin"][(seed % 2) as usize]).unwrap();
        for step in 0..2000 {
            let context = std::format!("seed {seed} step {step}");
            now = now + Duration::from_millis(rng.below(400));
            let before: Vec<Candidate> = instances.candidates().to_vec();
            let mut of = None;
            match rng.below(20) {
                0 => {
                    let ids: Vec<u64> = (1..=12).filter(|_| rng.below(3) > 0).chain([5]).collect();
                    instances.update(ids.iter().map(|id| (InstanceId(*id), ())), |_, ()| {});
                    for old in &before {
                        let kept = instances.get(old.id).is_none_or(|(one, ())| one.health == old.health);
                        assert!(kept, "{context}: news of others changed {}", old.id);
                    }
                }
                1..9 => {
                    let avoid: Vec<InstanceId> = (0..rng.below(3)).map(|_| InstanceId(rng.below(12) + 1)).collect();
                    let wish = Wish { ask: Ask::default(), allow: &[], avoid: &avoid, now };
                    let (picked, ()) = instances.pick(&mut policy, wish, &mut rng).expect("nobody is ever turned away");
                    let (id, away) = (picked.id, picked.health.is_avoided(now));
                    let up = |one: &&Candidate| !one.health.is_avoided(now);
                    let better = before.iter().filter(up).any(|one| !avoid.contains(&one.id));
                    assert!(!better || (!away && !avoid.contains(&id)), "{context}: {id} of {before:?}");
                    assert!(!away || !before.iter().any(|one| up(&one)), "{context}: somebody is up");
                    going.push(Going { id, probe: instances.began(id, now) });
                    of = Some(id);
                }
                _ if going.is_empty() => {}
                _ => {
                    let Going { id, probe } = going.swap_remove(rng.below(going.len() as u64) as usize);
                    let retry_after = (rng.below(2) == 0).then(|| Duration::from_millis(rng.below(3000)));
                    let outcome = match rng.below(8) {
                        0..3 => Some(Outcome::Answered),
                        3 => Some(Outcome::Refused { retry_after }),
                        4 => Some(Outcome::Lost),
                        5 => Some(Outcome::Silent),
                        6 => Some(Outcome::Leaving),
                        _ => None,
                    };
                    if let Some(outcome) = outcome {
                        instances.on_outcome(id, outcome, probe, now, &mut rng);
                    }
                    instances.ended(id, probe, now);
                    of = Some(id);
                }
            }
            check(&instances, &before, of, now, &context);
        }
        // Once all calls are over, no place of a probe is taken.
        going.drain(..).for_each(|Going { id, probe }| instances.ended(id, probe, now));
        assert!(!states(&instances, now).contains(&State::Probed), "seed {seed}: a place was never freed");
    }
}

fn check(instances: &Instances<()>, before: &[Candidate], of: Option<InstanceId>, now: Instant, context: &str) {
    let ejected = |all: &[Candidate]| all.iter().filter(|one| one.health.is_ejected()).count();
    let (count, were, are) = (instances.len(), ejected(before), ejected(instances.candidates()));
    let most = (count.saturating_sub(1) / 2).max(1);
    assert!(are <= were.max(most), "{context}: {are} of {count} are ejected");
    for old in before {
        let Some((one, ())) = instances.get(old.id) else { continue };
        // A comparison may eject one by outcomes that it had before.
        let judged = one.health.is_ejected() && !old.health.is_ejected();
        let put_out = one.health.is_avoided(now) && !old.health.is_avoided(now);
        assert!(!put_out || judged || of == Some(old.id), "{context}: {} is out by what another did", old.id);
    }
}
