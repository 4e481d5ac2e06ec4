//! A copy that is followed: what the owner hears, what a registry may get wrong, and what is skipped.

use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::discovery::trouble::Cause;
use crate::discovery::watch::{Action, Config, Event, Lost, Raw, Record, State, Watch};
use crate::rng::Rng;
use crate::time::Instant;

impl Record for u32 {
    fn read(_: &str, value: &[u8]) -> Option<Self> {
        core::str::from_utf8(value).ok()?.parse().ok()
    }
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn entries(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(key, value)| ((*key).to_string(), value.as_bytes().to_vec())).collect()
}

fn actions(watch: &mut Watch<u32>) -> Vec<Action> {
    core::iter::from_fn(|| watch.poll_action()).collect()
}

/// What became of the set.
fn told(watch: &mut Watch<u32>) -> Vec<String> {
    everything(watch).into_iter().filter(|line| !line.starts_with('!')).collect()
}

/// That, and how the registry is.
fn everything(watch: &mut Watch<u32>) -> Vec<String> {
    let tell = |event| match event {
        Event::Put { key, record } => format!("+{key}={record}"),
        Event::Removed { key, .. } => format!("-{key}"),
        Event::Resync => "sync".to_string(),
        Event::Failing(cause) => format!("!{cause}"),
        Event::Recovered => "!well".to_string(),
    };
    core::iter::from_fn(|| watch.poll_event()).map(tell).collect()
}

fn set(watch: &Watch<u32>) -> String {
    watch.iter().map(|(key, value)| format!("{key}={value} ")).collect()
}

/// Following at revision 5 with a=1 and b=2; attempts 1 (snapshot) and 2 (stream).
fn following() -> Watch<u32> {
    let mut watch = Watch::new(Config::default(), Rng::new(7), at(0));
    assert_eq!(actions(&mut watch), [Action::Snapshot { attempt: 1 }]);
    watch.handle_snapshot(1, 5, entries(&[("a", "1"), ("b", "2")]), at(1));
    assert_eq!(told(&mut watch), ["+a=1", "+b=2", "sync"]);
    assert_eq!(actions(&mut watch), [Action::Follow { attempt: 2, from: 6 }]);
    watch.handle_opened(2, 5, at(2));
    assert_eq!(watch.state(), State::Following);
    watch
}

/// Lets the pause pass.
fn wake(watch: &mut Watch<u32>) -> Vec<Action> {
    let deadline = watch.poll_timeout().unwrap();
    watch.handle_timeout(deadline.at);
    actions(watch)
}

#[test]
fn changes_follow_the_snapshot_without_a_gap() {
    let mut watch = following();
    let put = |key: &str, value: &str| Raw::Put { key: key.to_string(), value: value.into() };
    let delete = Raw::Delete { key: "a".to_string() };
    watch.handle_changes(2, 6, vec![put("c", "3"), delete.clone(), delete, put("b", "2"), put("b", "4")], at(3));
    assert_eq!(told(&mut watch), ["+c=3", "-a", "+b=4"]);
    assert_eq!(set(&watch), "b=4 c=3 ");
}

#[test]
fn a_stream_that_ends_is_resumed_after_the_last_revision_heard_of() {
    let mut watch = following();
    watch.handle_progress(2, 9, at(3));
    watch.handle_lost(2, Lost::Stream, at(4));
    assert_eq!(actions(&mut watch), [Action::Drop]);
    assert_eq!(wake(&mut watch), [Action::Follow { attempt: 3, from: 10 }]);
    watch.handle_opened(3, 12, at(200));
    assert_eq!((watch.state(), watch.stats().snapshots), (State::Following, 1));
}

#[test]
fn compaction_and_cancel_lead_to_a_resync_that_tells_the_difference() {
    let mut watch = following();
    watch.handle_lost(2, Lost::History, at(4));
    actions(&mut watch);
    assert_eq!(wake(&mut watch), [Action::Snapshot { attempt: 3 }]);
    watch.handle_snapshot(3, 20, entries(&[("b", "5"), ("c", "3")]), at(100));
    assert_eq!(told(&mut watch), ["-a", "+b=5", "+c=3", "sync"]);
    assert_eq!(actions(&mut watch), [Action::Follow { attempt: 4, from: 21 }]);
}

#[test]
fn a_silent_watch_is_asked_and_then_given_up() {
    let mut watch = following();
    assert_eq!(wake(&mut watch), [Action::Ask { attempt: 2 }]);
    watch.handle_progress(2, 6, at(11_000));
    assert_eq!(watch.state(), State::Following);
    assert_eq!(wake(&mut watch), [Action::Ask { attempt: 2 }]);
    assert_eq!(wake(&mut watch), [Action::Drop]);
    assert_eq!((watch.state(), watch.stats().silent), (State::WaitingToRead, 1));
    assert_eq!(wake(&mut watch), [Action::Snapshot { attempt: 3 }]);
}

#[test]
fn an_unreachable_registry_never_empties_the_set() {
    let mut watch = following();
    watch.handle_lost(2, Lost::Registry, at(10));
    let mut now = at(10);
    let mut reads = 0;
    while now < at(120_000) {
        now = watch.poll_timeout().unwrap().at;
        watch.handle_timeout(now);
        reads += actions(&mut watch).iter().filter(|action| matches!(action, Action::Snapshot { .. })).count();
        watch.handle_lost(watch.attempt, Lost::Registry, now);
    }
    assert_eq!((told(&mut watch), set(&watch)), (vec![], "a=1 b=2 ".to_string()));
    assert!((60..1000).contains(&reads), "{reads} tries in two minutes");
}

#[test]
fn what_a_registry_lost_over_an_outage_is_kept_for_the_grace_time() {
    let mut watch = following();
    watch.handle_lost(2, Lost::Registry, at(10));
    actions(&mut watch);
    wake(&mut watch);
    watch.handle_snapshot(3, 1, entries(&[]), at(1000));
    assert_eq!((told(&mut watch), set(&watch)), (vec!["sync".to_string()], "a=1 b=2 ".to_string()));
    watch.handle_opened(4, 1, at(1001));
    let back = Raw::Put { key: "a".to_string(), value: b"1".to_vec() };
    watch.handle_changes(4, 2, vec![back], at(3000));
    assert!(told(&mut watch).is_empty(), "the same record is no news");
    watch.handle_timeout(at(15_999));
    assert_eq!(set(&watch), "a=1 b=2 ");
    watch.handle_timeout(at(16_000));
    assert_eq!(told(&mut watch), ["-b", "sync"]);
}

#[test]
fn an_explicit_delete_ends_the_grace_of_its_key() {
    let mut watch = following();
    watch.handle_lost(2, Lost::Registry, at(10));
    actions(&mut watch);
    wake(&mut watch);
    watch.handle_snapshot(3, 1, entries(&[]), at(1000));
    told(&mut watch);
    watch.handle_changes(4, 2, vec![Raw::Delete { key: "a".to_string() }], at(1001));
    assert_eq!(told(&mut watch), ["-a"]);
}

#[test]
fn a_registry_younger_than_what_is_known_of_it_is_read_anew() {
    let mut watch = following();
    watch.handle_lost(2, Lost::Stream, at(4));
    actions(&mut watch);
    wake(&mut watch);
    watch.handle_opened(3, 1, at(200));
    assert_eq!((watch.state(), actions(&mut watch)), (State::WaitingToRead, vec![Action::Drop]));
    assert_eq!(set(&watch), "a=1 b=2 ");
}

#[test]
fn late_answers_of_earlier_attempts_are_not_believed() {
    let mut watch = following();
    watch.handle_snapshot(1, 50, entries(&[]), at(5));
    watch.handle_opened(2, 0, at(5));
    watch.handle_lost(1, Lost::Registry, at(5));
    watch.handle_changes(1, 50, vec![Raw::Delete { key: "a".to_string() }], at(5));
    assert_eq!((watch.state(), set(&watch).as_str()), (State::Following, "a=1 b=2 "));
    watch.handle_lost(2, Lost::Stream, at(6));
    actions(&mut watch);
    watch.handle_changes(2, 50, vec![Raw::Delete { key: "a".to_string() }], at(7));
    watch.handle_lost(2, Lost::Registry, at(7));
    assert_eq!((watch.state(), set(&watch).as_str()), (State::WaitingToResume, "a=1 b=2 "));
}

#[test]
fn a_snapshot_or_stream_that_does_not_come_is_asked_for_again() {
    let mut watch = Watch::<u32>::new(Config::default(), Rng::new(1), at(0));
    actions(&mut watch);
    watch.handle_timeout(at(4_999));
    assert_eq!(watch.state(), State::Reading);
    watch.handle_timeout(at(5_000));
    assert_eq!(watch.state(), State::WaitingToRead);
    actions(&mut watch);
    assert_eq!(wake(&mut watch), [Action::Snapshot { attempt: 2 }]);
    watch.handle_snapshot(2, 5, entries(&[]), at(5_200));
    actions(&mut watch);
    watch.handle_timeout(at(10_200));
    assert_eq!(watch.state(), State::WaitingToRead, "the registry is in doubt: not resumed blindly");
}

#[test]
fn why_a_registry_is_not_followed_is_told_when_that_begins_and_when_it_changes() {
    let mut watch = following();
    watch.handle_lost(2, Lost::Stream, at(3));
    assert_eq!(everything(&mut watch), [""; 0], "a stream that ends is nobody's trouble");
    wake(&mut watch);
    let (away, refused) = (Cause::Away("x".to_string()), Cause::Refused("no rights".to_string()));
    let mut heard = Vec::new();
    for cause in [&away, &away, &refused, &refused] {
        let now = watch.poll_timeout().unwrap().at;
        watch.handle_failed(watch.attempt, cause.clone(), now);
        heard.extend(everything(&mut watch));
        wake(&mut watch);
    }
    assert_eq!((heard, watch.cause()), (vec!["!x".to_string(), "!no rights".to_string()], Some(&refused)));
    let now = watch.poll_timeout().unwrap().at;
    watch.handle_snapshot(watch.attempt, 7, entries(&[("a", "1"), ("b", "2")]), now);
    assert_eq!(everything(&mut watch), ["sync"], "not followed yet");
    watch.handle_opened(watch.attempt, 7, now);
    assert_eq!((everything(&mut watch), watch.cause()), (vec!["!well".to_string()], None));
}

#[test]
fn an_unusable_value_leaves_the_last_good_record() {
    let mut watch = following();
    let junk = |key: &str| Raw::Put { key: key.to_string(), value: b"junk".to_vec() };
    watch.handle_changes(2, 6, vec![junk("a"), junk("z")], at(3));
    assert_eq!((told(&mut watch), set(&watch)), (vec![], "a=1 b=2 ".to_string()));
    watch.handle_lost(2, Lost::History, at(4));
    actions(&mut watch);
    wake(&mut watch);
    watch.handle_snapshot(3, 9, entries(&[("a", "junk"), ("b", "2")]), at(100));
    assert_eq!((told(&mut watch), set(&watch)), (vec!["sync".to_string()], "a=1 b=2 ".to_string()));
    assert_eq!(watch.stats().ignored, 3);
}
