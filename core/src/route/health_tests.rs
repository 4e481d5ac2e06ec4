//! The health of one instance, in virtual time.

use core::time::Duration;

use crate::rng::Rng;
use crate::route::health::{Health, State, Why};
use crate::route::rules::Config;
use crate::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
/// Terms without chance.
const EXACT: Config = Config { jitter: 0, ..Config::DEFAULT };

fn at(seconds: u64) -> Instant {
    Instant::ZERO + SECOND * u32::try_from(seconds).unwrap()
}

fn lost(health: &mut Health, now: Instant) -> bool {
    health.lost(now, &EXACT, &mut Rng::new(1))
}

#[test]
fn it_fits_half_a_line_of_the_cache() {
    assert_eq!(size_of::<Health>(), 32);
}

#[test]
fn terms_double_from_probe_to_probe_up_to_the_cap() {
    let (mut health, mut now) = (Health::CLEAR, Instant::from_nanos(5));
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        assert!(lost(&mut health, now));
        assert_eq!(health.avoided_until(), now + SECOND * seconds);
        assert_eq!(health.state(now), (State::Suspect, Some(now + SECOND * seconds)));
        now = health.avoided_until();
        assert_eq!((health.is_down(now), health.state(now)), (false, (State::HalfOpen, None)));
        assert!(health.began(now, &EXACT).is_some());
        assert_eq!(health.state(now).0, State::Probed);
    }
}

#[test]
fn an_answer_readmits_at_once_and_marks_are_forgotten_one_by_one_in_health() {
    let mut health = Health::CLEAR;
    let mut now = at(100);
    for _ in 0..3 {
        lost(&mut health, now);
        now = health.avoided_until();
        health.began(now, &EXACT);
    }
    assert!(health.answered(None, now, &EXACT) && !health.is_down(now));
    // Two intervals forgive two of three marks: the next is the second.
    let later = now + EXACT.interval * 2;
    lost(&mut health, later);
    assert_eq!(health.avoided_until(), later + SECOND * 2);
    health.answered(None, later, &EXACT);
    let much_later = later + EXACT.interval * 1000;
    lost(&mut health, much_later);
    assert_eq!(health.avoided_until(), much_later + SECOND, "all is forgotten in the end");
}

#[test]
fn a_worker_that_flaps_is_asked_far_less_often_than_by_a_fixed_term() {
    let (mut health, mut now, mut probes) = (Health::CLEAR, at(1), 0);
    // It answers one call whenever it is asked again, and is lost right after: an answer alone does not prove it.
    while now < at(301) {
        lost(&mut health, now);
        now = health.avoided_until();
        health.began(now, &EXACT);
        health.answered(None, now, &EXACT);
        probes += 1;
    }
    assert!(probes < 20, "{probes} times in five minutes; a fixed term of 5 s makes 60");
}

#[test]
fn many_calls_that_lose_one_connection_count_once() {
    let mut health = Health::CLEAR;
    let news = (0..100).filter(|nanos| lost(&mut health, Instant::from_nanos(*nanos))).count();
    assert_eq!((news, health.avoided_until()), (1, at(1)));
}

#[test]
fn terms_are_spread_by_chance_within_their_bounds() {
    let (mut rng, config, now) = (Rng::new(4), Config::default(), at(1));
    let mut terms: std::vec::Vec<_> = (0..500)
        .map(|_| {
            let mut health = Health::CLEAR;
            health.lost(now, &config, &mut rng);
            health.avoided_until().since(now).as_millis()
        })
        .collect();
    terms.sort_unstable();
    assert!(terms[0] >= 800 && terms[499] <= 1200 && terms[499] - terms[0] > 350, "{} {}", terms[0], terms[499]);
}

#[test]
fn the_place_of_a_probe_is_free_again_whatever_becomes_of_it() {
    let mut fresh = Health::CLEAR;
    lost(&mut fresh, at(0));
    let probe = fresh.began(at(1), &EXACT).unwrap();
    assert!(fresh.is_down(at(1)), "others stay away from an instance that is being probed");
    // Cancelled, expired, dropped: nothing was learned.
    let mut health = fresh;
    health.ended(probe, at(1));
    assert_eq!(health.state(at(1)), (State::HalfOpen, None));
    // Refused: alive, and without room.
    let mut health = fresh;
    health.refused(None, at(1), &EXACT);
    assert_eq!(health.state(at(1)), (State::Overloaded, Some(at(2))));
    assert_eq!(health.state(at(2)), (State::HalfOpen, None));
    // Lost and silent: out for longer.
    let mut health = fresh;
    lost(&mut health, at(1));
    health.ended(probe, at(1));
    assert_eq!(health.state(at(1)), (State::Suspect, Some(at(3))), "its end changes nothing any more");
    let mut health = fresh;
    assert!(!health.silent(at(1), &EXACT, &mut Rng::new(1)));
    assert_eq!(health.state(at(1)), (State::Suspect, Some(at(3))));
    // Without any word of it the term of the probe ends.
    assert_eq!(fresh.state(at(2)), (State::HalfOpen, None));
}

#[test]
fn the_end_of_an_earlier_probe_does_not_free_the_place_of_a_later_one() {
    let mut health = Health::CLEAR;
    lost(&mut health, at(0));
    let early = health.began(at(1), &EXACT).unwrap();
    let late = health.began(at(2), &EXACT).unwrap();
    health.ended(early, at(2));
    assert_eq!(health.state(at(2)).0, State::Probed);
    health.ended(late, at(2));
    assert_eq!(health.state(at(2)).0, State::HalfOpen);
}

#[test]
fn silence_in_a_row_ejects_and_an_answer_in_between_starts_the_row_anew() {
    let (mut health, mut rng) = (Health::CLEAR, Rng::new(1));
    let mut silent = |health: &mut Health| health.silent(at(1), &EXACT, &mut rng);
    assert!(!silent(&mut health) && !silent(&mut health));
    health.answered(None, at(1), &EXACT);
    assert!(!silent(&mut health) && !silent(&mut health) && silent(&mut health));
    let never = Config { silences: 0, ..EXACT };
    assert!((0..1000).all(|_| !health.silent(at(1), &never, &mut Rng::new(1))));
}

#[test]
fn a_lease_lasts_as_long_as_the_instance_asks_within_a_bound_and_only_a_newer_sign_of_room_ends_it() {
    let mut health = Health::CLEAR;
    let old = health.began(at(0), &EXACT);
    assert!(health.refused(Some(SECOND * 7), at(0), &EXACT));
    assert!(!health.refused(Some(SECOND), at(0), &EXACT), "a shorter wish does not shorten it");
    assert_eq!(health.state(at(0)), (State::Overloaded, Some(at(7))));
    health.answered(old, at(1), &EXACT);
    assert!(health.is_avoided(at(1)), "a call that it took before says nothing of its room");
    let asked = health.began(at(2), &EXACT);
    health.answered(asked, at(3), &EXACT);
    assert_eq!(health.state(at(3)), (State::Routable, None), "one that it took in spite of the lease does");
    health.refused(Some(Duration::MAX), at(4), &EXACT);
    assert_eq!(health.avoided_until(), at(34));
    assert!(!health.is_down(at(5)), "it is alive");
}

#[test]
fn an_instance_that_leaves_is_asked_again_after_a_while() {
    let mut health = Health::CLEAR;
    assert!(health.leaving(at(0), &EXACT) && !health.leaving(at(1), &EXACT) && !lost(&mut health, at(1)));
    assert_eq!(health.state(at(1)), (State::Leaving, Some(at(5))));
    assert!(!health.is_down(at(1)), "calls are not to wait for it to come back");
    assert!(health.began(at(5), &EXACT).is_some() && health.leaving(at(5), &EXACT));
    assert_eq!(health.state(at(5)), (State::Leaving, Some(at(10))));
}

#[test]
fn after_a_longer_absence_its_weight_grows_and_after_a_first_mark_it_has_all_of_it() {
    let mut health = Health::CLEAR;
    lost(&mut health, at(0));
    health.answered(None, at(1), &EXACT);
    assert_eq!((health.weight(at(1)), health.state(at(1)).0), (100, State::Routable));
    lost(&mut health, at(1));
    health.answered(None, at(3), &EXACT);
    assert_eq!(health.state(at(3)), (State::Warming, Some(at(13))));
    assert_eq!([3, 4, 8, 12, 13, 99].map(|seconds| health.weight(at(seconds))), [10, 10, 50, 90, 100, 100]);
    assert!(!health.is_avoided(at(3)), "nobody stays away from it altogether");
}

#[test]
fn an_ejection_that_is_taken_back_counts_for_the_next_one() {
    let (mut health, mut rng) = (Health::CLEAR, Rng::new(1));
    health.ejected(Why::Failing, at(0), &EXACT, &mut rng);
    assert_eq!((health.state(at(0)), health.is_ejected()), ((State::Failing, Some(at(1))), true));
    assert!(health.lift(at(0)) && !health.is_avoided(at(0)) && !health.lift(at(0)));
    health.ejected(Why::Silent, at(0), &EXACT, &mut rng);
    assert_eq!(health.state(at(0)), (State::Silent, Some(at(2))));
    let mut suspect = Health::CLEAR;
    lost(&mut suspect, at(0));
    assert!(!suspect.lift(at(0)), "what rests on a fact is not taken back");
}

#[test]
fn marks_without_end_saturate() {
    let config = Config { base: Duration::MAX, cap: Duration::MAX, ..Config::default() };
    let (mut health, mut rng) = (Health::CLEAR, Rng::new(1));
    for _ in 0..300 {
        health.lost(Instant::ZERO, &config, &mut rng);
        health.began(Instant::ZERO, &config);
    }
    assert_eq!(health.avoided_until(), Instant::FAR);
}
