//! Tests of the lease: every way a registry can forget, refuse or keep silent, in virtual time.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::discovery::lease::{Config, Lease};
use crate::discovery::lease_event::{Action, Claimed, Event, Found, LeaseId, Written};
use crate::discovery::trouble::Cause;
use crate::rng::Rng;
use crate::time::Instant;

const LEASE: LeaseId = LeaseId(0x1234);
const TTL: Duration = Duration::from_secs(6);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn actions(lease: &mut Lease) -> Vec<Action> {
    core::iter::from_fn(|| lease.poll_action()).collect()
}

fn events(lease: &mut Lease) -> Vec<Event> {
    core::iter::from_fn(|| lease.poll_event()).collect()
}

/// The rule of these tests: the first letter counts.
fn serves(_: &str, ours: &[u8], found: &[u8]) -> bool {
    ours.first() == found.first()
}

fn claim(lease: &mut Lease, value: &[u8], now: Instant) -> Claimed {
    lease.register("k".to_string(), value.to_vec(), serves, now)
}

fn registered(again: bool) -> Event {
    Event::Registered { key: "k".to_string(), again }
}

fn found(value: &[u8], lease: LeaseId) -> Written {
    Written::Exists(Found { value: value.to_vec(), lease: Some(lease), revision: 77 })
}

/// With a lease and one record that is there, at 10 ms.
fn serving() -> Lease {
    let mut lease = Lease::new(Config { ttl: TTL, ..Config::default() }, None, Rng::new(3), at(0));
    assert_eq!(claim(&mut lease, b"v", at(0)), Claimed::New);
    assert_eq!(claim(&mut lease, b"w", at(0)), Claimed::Taken);
    assert_eq!(actions(&mut lease), [Action::Grant { attempt: 1, wish: None, ttl: TTL }]);
    lease.handle_granted(1, LEASE, TTL, at(5));
    let create = Action::Create { attempt: 2, key: "k".to_string(), value: b"v".to_vec(), lease: LEASE };
    assert_eq!(actions(&mut lease), [create]);
    lease.handle_written(2, Written::Done, at(10));
    assert_eq!(events(&mut lease), [Event::Granted(LEASE), registered(false)]);
    lease
}

/// Goes on to the next action, answering none.
fn next(lease: &mut Lease) -> (Instant, Action) {
    for _ in 0..1000 {
        if let Some(action) = lease.poll_action() {
            return (lease.poll_timeout().unwrap().at, action);
        }
        let deadline = lease.poll_timeout().unwrap();
        lease.handle_timeout(deadline.at);
    }
    panic!("nothing to do any more");
}

fn renewal(lease: &mut Lease) -> (Instant, u64) {
    loop {
        let deadline = lease.poll_timeout().unwrap().at;
        lease.handle_timeout(deadline);
        for action in actions(lease) {
            match action {
                Action::Renew { attempt, lease: LEASE } => return (deadline, attempt),
                Action::Create { attempt, .. } => lease.handle_written(attempt, found(b"v", LEASE), deadline),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Goes on to the next write, renewing on the way.
fn creation(lease: &mut Lease) -> (Instant, u64) {
    loop {
        let (now, action) = next(lease);
        match action {
            Action::Renew { attempt, .. } => lease.handle_renewed(attempt, TTL, now),
            Action::Create { attempt, .. } => return (now, attempt),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_lease_is_renewed_within_a_third_of_its_life() {
    let mut lease = serving();
    let mut last = at(5);
    for _ in 0..50 {
        let (now, attempt) = renewal(&mut lease);
        let pause = now.since(last);
        assert!(pause <= TTL / 3 && pause >= TTL / 4, "{pause:?}");
        lease.handle_renewed(attempt, TTL, now);
        last = now;
    }
    assert_eq!((lease.stats().renewals, lease.stats().writes), (50, 1));
    assert!(events(&mut lease).is_empty());
}

#[test]
fn a_lost_lease_leads_to_a_new_one_of_the_same_id_and_the_same_records() {
    let mut lease = serving();
    let (now, attempt) = renewal(&mut lease);
    lease.handle_renewed(attempt, Duration::ZERO, now);
    assert_eq!(events(&mut lease), [Event::Lost(LEASE)]);
    let Some(Action::Grant { attempt, wish: Some(LEASE), .. }) = lease.poll_action() else { panic!() };
    lease.handle_granted(attempt, LEASE, TTL, now);
    let Some(Action::Create { attempt, key, .. }) = lease.poll_action() else { panic!() };
    assert_eq!(key, "k");
    lease.handle_written(attempt, Written::Done, now);
    assert_eq!(events(&mut lease), [Event::Granted(LEASE), registered(true)]);
}

#[test]
fn a_refused_id_is_not_wished_for_twice() {
    let mut lease = serving();
    let (now, attempt) = renewal(&mut lease);
    lease.handle_renewed(attempt, Duration::ZERO, now);
    let Some(Action::Grant { attempt, wish: Some(LEASE), .. }) = lease.poll_action() else { panic!() };
    lease.handle_failed(attempt, Cause::late(), now);
    let (now, action) = next(&mut lease);
    let Action::Grant { attempt, wish: Some(LEASE), .. } = action else { panic!("{action:?}") };
    lease.handle_refused(attempt, now);
    let told = [Event::Lost(LEASE), Event::Failing(Cause::late())];
    assert_eq!(events(&mut lease), told, "of the attempt before: a refused id is nobody's trouble");
    let (now, action) = next(&mut lease);
    let Action::Grant { attempt, wish: None, .. } = action else { panic!("{action:?}") };
    lease.handle_granted(attempt, LeaseId(9), TTL, now);
    // The old lease had lived on: the record is there under it.
    let Some(Action::Create { attempt, .. }) = lease.poll_action() else { panic!() };
    lease.handle_written(attempt, found(b"v", LEASE), now);
    let adopt = lease.poll_action().unwrap();
    assert!(matches!(&adopt, Action::Adopt { lease: LeaseId(9), revision: 77, .. }), "{adopt:?}");
}

#[test]
fn an_outage_of_any_length_loses_nothing_and_is_not_a_busy_loop() {
    let mut lease = serving();
    let (mut now, mut tried) = (at(0), 0);
    while now < at(120_000) {
        now = lease.poll_timeout().unwrap().at;
        lease.handle_timeout(now);
        tried += actions(&mut lease).len();
    }
    assert_eq!(events(&mut lease), [Event::Failing(Cause::late())], "told once");
    assert_eq!(lease.lease(), Some(LEASE));
    assert!((40..400).contains(&tried), "{tried} actions in two minutes");
    // The registry is back, and has kept the lease.
    let (now, attempt) = loop {
        now = lease.poll_timeout().unwrap().at;
        lease.handle_timeout(now);
        let renews = |action: &Action| matches!(action, Action::Renew { .. });
        if let Some(Action::Renew { attempt, .. }) = actions(&mut lease).into_iter().find(renews) {
            break (now, attempt);
        }
    };
    lease.handle_renewed(attempt, TTL, now);
    assert!(events(&mut lease).is_empty(), "the record has not been seen yet");
    let (now, attempt) = creation(&mut lease);
    lease.handle_written(attempt, found(b"v", LEASE), now);
    assert_eq!(events(&mut lease), [Event::Recovered]);
}

#[test]
fn a_record_removed_by_somebody_is_written_again_at_the_next_check() {
    let mut lease = serving();
    lease.recheck("k", at(100));
    let Some(Action::Create { attempt, .. }) = lease.poll_action() else { panic!() };
    lease.handle_written(attempt, Written::Done, at(110));
    assert_eq!(events(&mut lease), [registered(true)]);
    let mut checks = 0;
    for _ in 0..20 {
        let (now, attempt) = renewal(&mut lease);
        lease.handle_renewed(attempt, TTL, now);
        checks += 1;
    }
    assert!(checks == 20 && lease.is_registered("k"));
    assert_eq!(lease.stats().writes, 2, "a check that finds the record writes nothing");
}

#[test]
fn a_foreign_value_is_told_once_left_alone_and_followed_by_ours_when_it_goes() {
    let mut lease = serving();
    lease.recheck("k", at(100));
    for now in [at(110), at(5_200)] {
        lease.handle_timeout(now);
        let create = actions(&mut lease).into_iter().find_map(|action| match action {
            Action::Create { attempt, .. } => Some(attempt),
            _ => None,
        });
        lease.handle_written(create.unwrap(), found(b"theirs", LeaseId(5)), now);
    }
    assert_eq!(events(&mut lease), [Event::Foreign { key: "k".to_string() }]);
    assert!(!lease.is_registered("k"));
    lease.handle_timeout(at(10_300));
    let create = actions(&mut lease).into_iter().find_map(|action| match action {
        Action::Create { attempt, .. } => Some(attempt),
        _ => None,
    });
    lease.handle_written(create.unwrap(), Written::Done, at(10_301));
    assert_eq!(events(&mut lease), [Event::Failing(Cause::late()), registered(true)], "nobody answers the renewals");
}

#[test]
fn our_own_record_under_another_lease_is_adopted() {
    let mut lease = serving();
    lease.recheck("k", at(100));
    let Some(Action::Create { attempt, .. }) = lease.poll_action() else { panic!() };
    lease.handle_written(attempt, found(b"v", LeaseId(5)), at(101));
    let Some(Action::Adopt { attempt, revision: 77, lease: LEASE, .. }) = lease.poll_action() else { panic!() };
    lease.handle_written(attempt, Written::Changed, at(102));
    let Some(Action::Create { attempt, .. }) = lease.poll_action() else { panic!("looks again") };
    lease.handle_written(attempt, found(b"v", LEASE), at(103));
    assert!(lease.is_registered("k"));
}

#[test]
fn a_write_that_finds_no_lease_begins_anew() {
    let mut lease = serving();
    lease.recheck("k", at(100));
    let Some(Action::Create { attempt, .. }) = lease.poll_action() else { panic!() };
    lease.handle_written(attempt, Written::NoLease, at(101));
    assert_eq!(events(&mut lease), [Event::Lost(LEASE)]);
    assert!(matches!(actions(&mut lease)[..], [Action::Grant { wish: Some(LEASE), .. }]));
}

#[test]
fn a_removal_is_tried_until_it_is_done() {
    let mut lease = serving();
    assert!(lease.unregister("k", at(100)));
    let Some(Action::Remove { attempt, value, .. }) = lease.poll_action() else { panic!() };
    assert_eq!(value, b"v");
    lease.handle_failed(attempt, Cause::late(), at(101));
    let now = lease.poll_timeout().unwrap().at;
    lease.handle_timeout(now);
    let Some(Action::Remove { attempt: again, .. }) = lease.poll_action() else { panic!() };
    lease.handle_removed(attempt);
    assert_eq!(events(&mut lease), [Event::Failing(Cause::late())], "late answers count for nothing");
    lease.handle_removed(again);
    assert_eq!(events(&mut lease), vec![Event::Removed { key: "k".to_string() }, Event::Recovered]);
    assert_eq!(claim(&mut lease, b"w", now), Claimed::New, "the name is free again");
}

#[test]
fn a_removal_during_a_write_comes_after_it() {
    let mut lease = serving();
    lease.recheck("k", at(100));
    let Some(Action::Create { attempt, .. }) = lease.poll_action() else { panic!() };
    assert!(lease.unregister("k", at(101)));
    lease.handle_written(attempt, Written::Done, at(102));
    assert!(events(&mut lease).is_empty());
    assert!(matches!(actions(&mut lease)[..], [Action::Remove { .. }]));
}

#[test]
fn a_twin_of_ours_that_was_there_first_is_put_under_our_lease() {
    let mut lease = Lease::new(Config::default(), None, Rng::new(3), at(0));
    claim(&mut lease, b"v", at(0));
    actions(&mut lease);
    lease.handle_granted(1, LEASE, TTL, at(5));
    actions(&mut lease);
    lease.handle_written(2, found(b"v2", LeaseId(5)), at(10));
    let Some(Action::Adopt { attempt, value, revision: 77, lease: LEASE, .. }) = lease.poll_action() else { panic!() };
    assert_eq!(value, b"v2", "as it stands there");
    lease.handle_written(attempt, Written::Done, at(11));
    assert_eq!(events(&mut lease), [Event::Granted(LEASE), registered(false)]);
    assert_eq!(lease.value("k"), Some(&b"v2"[..]));
}

#[test]
fn a_foreign_value_that_was_there_first_is_not_removed() {
    let mut lease = Lease::new(Config::default(), None, Rng::new(3), at(0));
    claim(&mut lease, b"v", at(0));
    actions(&mut lease);
    lease.handle_granted(1, LEASE, TTL, at(5));
    actions(&mut lease);
    lease.handle_written(2, found(b"theirs", LeaseId(5)), at(10));
    assert_eq!(events(&mut lease), [Event::Granted(LEASE), Event::Foreign { key: "k".to_string() }]);
    assert!(lease.unregister("k", at(11)));
    assert!(actions(&mut lease).is_empty());
    assert_eq!(events(&mut lease), [Event::Removed { key: "k".to_string() }]);
}

#[test]
fn a_record_stays_until_everybody_who_wanted_it_has_taken_it_back() {
    let mut lease = serving();
    assert_eq!(claim(&mut lease, b"v", at(20)), Claimed::Shared);
    assert!(!lease.unregister("k", at(30)));
    assert!(actions(&mut lease).is_empty() && lease.is_registered("k"));
    assert!(lease.unregister("k", at(40)));
    assert!(matches!(actions(&mut lease)[..], [Action::Remove { .. }]));
    assert_eq!(claim(&mut lease, b"v", at(41)), Claimed::Taken, "it is on its way out");
}

#[test]
fn a_value_replaced_by_its_owner_is_the_one_that_is_written_again() {
    let mut lease = serving();
    lease.replace("k", b"v2".to_vec());
    lease.recheck("k", at(100));
    let Some(Action::Create { value, .. }) = lease.poll_action() else { panic!() };
    assert_eq!(value, b"v2");
}

/// Fails whatever is tried next, for this reason.
fn refuse(lease: &mut Lease, cause: &Cause) -> Vec<Event> {
    let (now, action) = next(lease);
    let (Action::Grant { attempt, .. } | Action::Renew { attempt, .. } | Action::Create { attempt, .. }) = action
    else {
        panic!("{action:?}")
    };
    lease.handle_failed(attempt, cause.clone(), now);
    events(lease)
}

#[test]
fn a_registry_that_gives_no_lease_says_why_once_and_a_refusal_ends_the_wish_to_register() {
    let full = Cause::Unable("no room".to_string());
    let refused = Cause::Refused("no rights".to_string());
    let mut lease = Lease::new(Config::default(), None, Rng::new(3), at(0));
    claim(&mut lease, b"v", at(0));
    assert_eq!(refuse(&mut lease, &full), [Event::Failing(full.clone())]);
    assert_eq!(refuse(&mut lease, &full), []);
    assert_eq!(lease.cause(), Some(&full));
    let told = Event::Refused { key: "k".to_string(), cause: refused.clone() };
    assert_eq!(refuse(&mut lease, &refused), [told, Event::Failing(refused.clone())]);
    assert_eq!(refuse(&mut lease, &refused), [], "once");
    // It was never written: there is nothing to remove.
    assert!(lease.unregister("k", at(60_000)));
    assert_eq!(events(&mut lease), [Event::Removed { key: "k".to_string() }]);
    assert_eq!(claim(&mut lease, b"w", at(60_000)), Claimed::New);
}

#[test]
fn a_refused_record_is_told_as_such_only_if_it_was_never_there() {
    let refused = Cause::Refused("no rights".to_string());
    let mut lease = Lease::new(Config::default(), None, Rng::new(3), at(0));
    claim(&mut lease, b"v", at(0));
    actions(&mut lease);
    lease.handle_granted(1, LEASE, TTL, at(5));
    events(&mut lease);
    let told = Event::Refused { key: "k".to_string(), cause: refused.clone() };
    assert_eq!(refuse(&mut lease, &refused), [told, Event::Failing(refused.clone())]);
    // A worker that serves already only hears of it, and its record is seen to for as long as it takes.
    let mut lease = serving();
    lease.recheck("k", at(100));
    assert_eq!(refuse(&mut lease, &refused), [Event::Failing(refused)]);
    let (now, attempt) = creation(&mut lease);
    lease.handle_written(attempt, Written::Done, now);
    assert_eq!(events(&mut lease), [registered(true), Event::Recovered]);
}

#[test]
fn a_renewal_that_works_does_not_end_the_trouble_of_a_record_that_cannot_be_written() {
    let full = Cause::Unable("no room".to_string());
    let (mut lease, mut told) = (serving(), Vec::new());
    lease.recheck("k", at(100));
    for _ in 0..50 {
        let (now, action) = next(&mut lease);
        match action {
            Action::Renew { attempt, .. } => lease.handle_renewed(attempt, TTL, now),
            Action::Create { attempt, .. } => lease.handle_failed(attempt, full.clone(), now),
            other => panic!("{other:?}"),
        }
        told.extend(events(&mut lease));
    }
    assert!(lease.stats().renewals > 0);
    assert_eq!(told, [Event::Failing(full)]);
}
