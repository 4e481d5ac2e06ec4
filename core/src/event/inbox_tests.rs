//! Tests of the inbox: what fits comes out, and what does not is told.

use std::collections::BTreeMap;
use std::vec::Vec;

use bytes::Bytes;

use super::inbox::{Config, Delivery, Inbox, Pushed, Slow};
use super::message::Message;
use super::tracker::Gap;
use crate::discovery::event::PublisherId;
use crate::rng::Rng;
use crate::wire::parse::{Error, ErrorKind};

const P: PublisherId = PublisherId(5);
const Q: PublisherId = PublisherId(6);

fn message(publisher: PublisherId, sequence: u64) -> Message {
    let envelope = Bytes::from_static(&[0; 10]);
    Message { publisher, sequence, published_at: 1, payload: envelope.slice(5..), envelope }
}

fn event(publisher: PublisherId, sequence: u64) -> Delivery {
    Delivery::Event(message(publisher, sequence))
}

fn gap(publisher: PublisherId, first: u64, last: u64) -> Delivery {
    Delivery::Gap(Gap { publisher, first, last, missing: last - first + 1 })
}

fn inbox(slow: Slow, max_events: usize) -> Inbox {
    Inbox::new(Config { max_events, slow, ..Config::default() })
}

fn fill(inbox: &mut Inbox, publisher: PublisherId, sequences: core::ops::Range<u64>) {
    sequences.for_each(|sequence| assert_eq!(inbox.push(message(publisher, sequence)), Pushed::Taken));
}

fn all(inbox: &mut Inbox) -> Vec<Delivery> {
    let all = core::iter::from_fn(|| inbox.pop()).collect();
    assert!(inbox.is_empty());
    assert_eq!((inbox.len(), inbox.bytes()), (0, 0));
    all
}

#[test]
fn the_oldest_go_and_are_told_before_the_next_of_their_publisher() {
    let mut inbox = inbox(Slow::DropOldest, 3);
    fill(&mut inbox, P, 0..2);
    fill(&mut inbox, Q, 0..1);
    fill(&mut inbox, P, 2..4);
    assert_eq!(all(&mut inbox), [event(Q, 0), gap(P, 0, 1), event(P, 2), event(P, 3)]);
    let stats = inbox.stats();
    assert_eq!((stats.queued.received, stats.queued.dropped, stats.told.missing), (5, 2, 2));
}

#[test]
fn the_newest_go_and_are_told_where_they_would_have_been_or_at_the_end() {
    let mut inbox = inbox(Slow::DropNewest, 2);
    fill(&mut inbox, P, 0..5);
    assert_eq!(inbox.pop(), Some(event(P, 0)));
    fill(&mut inbox, P, 5..6);
    fill(&mut inbox, Q, 0..3);
    assert_eq!(all(&mut inbox), [event(P, 1), gap(P, 2, 4), event(P, 5), gap(Q, 0, 2)]);
    fill(&mut inbox, Q, 3..4);
    assert_eq!(all(&mut inbox), [event(Q, 3)]);
}

#[test]
fn the_oldest_go_also_when_nothing_of_their_publisher_follows() {
    let mut inbox = inbox(Slow::DropOldest, 2);
    fill(&mut inbox, P, 0..1);
    fill(&mut inbox, Q, 0..2);
    assert_eq!(all(&mut inbox), [event(Q, 0), event(Q, 1), gap(P, 0, 0)]);
}

#[test]
fn one_that_waits_outside_comes_in_once_there_is_room_and_bytes_count_too() {
    let mut inbox = inbox(Slow::Wait, 2);
    fill(&mut inbox, P, 0..2);
    let Pushed::Full(outside) = inbox.push(message(P, 2)) else { panic!("there is no room") };
    assert_eq!(inbox.pop(), Some(event(P, 0)));
    assert_eq!(inbox.push(outside), Pushed::Taken);
    assert_eq!(all(&mut inbox), [event(P, 1), event(P, 2)]);
    let mut inbox = Inbox::new(Config { max_bytes: 15, slow: Slow::DropNewest, ..Config::default() });
    fill(&mut inbox, P, 0..2);
    assert_eq!(all(&mut inbox), [event(P, 0), gap(P, 1, 1)]);
    let mut inbox = Inbox::new(Config { max_bytes: 9, ..Config::default() });
    fill(&mut inbox, P, 0..1);
    assert_eq!(all(&mut inbox), [event(P, 0)], "a large one waits alone");
}

#[test]
fn gaps_of_the_way_are_told_like_those_of_the_inbox_and_what_is_no_event_is_told_by_number() {
    let mut inbox = inbox(Slow::DropOldest, 9);
    fill(&mut inbox, P, 0..1);
    let error = Error::new(ErrorKind::Missing, 3);
    inbox.push_malformed(Error::new(ErrorKind::BadMsgpack, 0));
    inbox.push_malformed(error);
    fill(&mut inbox, P, 4..5);
    fill(&mut inbox, P, 4..5);
    let told = all(&mut inbox);
    assert_eq!(told, [Delivery::Malformed(error, 2), event(P, 0), gap(P, 1, 3), event(P, 4)]);
    let stats = inbox.stats();
    assert_eq!((stats.told.duplicates, stats.queued.malformed, stats.told.events), (1, 2, 2));
}

#[test]
fn a_restart_among_what_was_dropped_is_told_with_what_is_missing_of_both_runs() {
    for slow in [Slow::DropOldest, Slow::DropNewest] {
        let mut inbox = inbox(slow, 1);
        fill(&mut inbox, P, 0..1);
        assert_eq!(inbox.pop(), Some(event(P, 0)));
        if slow == Slow::DropNewest {
            // Something that is in the way.
            fill(&mut inbox, Q, 0..1);
        }
        fill(&mut inbox, P, 1..4);
        let anew = |sequence| Message { published_at: 9, ..message(P, sequence) };
        (0..2).for_each(|sequence| assert_eq!(inbox.push(anew(sequence)), Pushed::Taken));
        if slow == Slow::DropNewest {
            assert_eq!(inbox.pop(), Some(event(Q, 0)));
        }
        assert_eq!(inbox.push(anew(2)), Pushed::Taken);
        let expected = [gap(P, 1, 3), Delivery::Restart(P), gap(P, 0, 1), Delivery::Event(anew(2))];
        assert_eq!(all(&mut inbox), expected, "{slow:?}");
    }
}

#[test]
fn a_member_of_a_group_is_told_of_what_it_dropped_itself_and_of_nothing_else() {
    let config = Config { max_events: 1, slow: Slow::DropNewest, ..Config::default() };
    let mut inbox = Inbox::of_group(config);
    for sequence in [0, 4, 9, 12] {
        inbox.push(message(P, sequence));
    }
    let lost = Delivery::Gap(Gap { publisher: P, first: 4, last: 12, missing: 3 });
    assert_eq!(all(&mut inbox), [event(P, 0), lost]);
    assert_eq!(inbox.stats().told.missing, 3);
}

#[test]
fn memory_is_bounded_by_publishers_too_and_what_cannot_be_told_is_counted() {
    let config = Config { max_events: 1, max_publishers: 2, slow: Slow::DropNewest, ..Config::default() };
    let mut inbox = Inbox::new(config);
    (0..10).for_each(|id| assert_eq!(inbox.push(message(PublisherId(id), 0)), Pushed::Taken));
    assert_eq!((inbox.stats().queued.dropped, inbox.stats().queued.untold), (9, 7));
}

/// With any policy and any rhythm: what came is what was handed on and what was told as missing, in the order of each publisher.
#[test]
fn every_event_is_handed_on_or_told_as_missing() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let slow = [Slow::DropOldest, Slow::DropNewest][(seed % 2) as usize];
        let mut inbox = inbox(slow, 1 + rng.below(9) as usize);
        let mut sent: BTreeMap<PublisherId, u64> = BTreeMap::new();
        let mut next: BTreeMap<PublisherId, u64> = BTreeMap::new();
        let mut take = |delivery: Delivery| {
            let (publisher, first, last) = match delivery {
                Delivery::Event(message) => (message.publisher, message.sequence, message.sequence),
                Delivery::Gap(gap) => (gap.publisher, gap.first, gap.last),
                other => panic!("seed {seed}: {other:?}"),
            };
            let expected = next.entry(publisher).or_default();
            assert_eq!(first, *expected, "seed {seed}");
            *expected = last + 1;
        };
        for _ in 0..500 {
            if rng.below(3) > 0 {
                let publisher = PublisherId(rng.below(3));
                let sequence = sent.entry(publisher).or_default();
                assert_eq!(inbox.push(message(publisher, *sequence)), Pushed::Taken);
                *sequence += 1;
            } else {
                inbox.pop().into_iter().for_each(&mut take);
            }
        }
        all(&mut inbox).into_iter().for_each(&mut take);
        assert_eq!(next, sent, "seed {seed}");
    }
}

#[test]
fn what_is_missing_is_asked_for_and_nothing_passes_it() {
    let mut inbox = Inbox::new(Config::default()).asking();
    fill(&mut inbox, P, 0..1);
    fill(&mut inbox, P, 3..4);
    assert_eq!(inbox.pop(), Some(event(P, 0)));
    fill(&mut inbox, Q, 0..1);
    assert_eq!((inbox.pop(), inbox.is_empty()), (None, false));
    assert_eq!(inbox.wants().map(|gap| (gap.publisher, gap.first, gap.last)), Some((P, 1, 2)));
    inbox.handle_found([message(P, 2), message(P, 2), message(Q, 1)]);
    assert_eq!(inbox.wants(), None);
    assert_eq!(all(&mut inbox), [gap(P, 1, 1), event(P, 2), event(P, 3), event(Q, 0)]);
    let told = inbox.stats().told;
    assert_eq!((told.events, told.replayed, told.gaps, told.missing, told.duplicates), (4, 1, 1, 1, 0));
    // What is found comes once, whichever way.
    fill(&mut inbox, P, 2..3);
    assert_eq!(all(&mut inbox), []);
}

#[test]
fn what_it_dropped_itself_is_told_at_once() {
    let mut inbox = Inbox::new(Config { max_events: 1, ..Config::default() }).asking();
    fill(&mut inbox, P, 0..1);
    assert_eq!(inbox.pop(), Some(event(P, 0)));
    fill(&mut inbox, P, 1..4);
    assert_eq!(all(&mut inbox), [gap(P, 1, 2), event(P, 3)]);
    assert_eq!(inbox.stats().told.missing, 2);
}

#[test]
fn a_word_about_where_numbers_stand_tells_what_is_missing_at_the_end() {
    for asks in [false, true] {
        let mut inbox = Inbox::new(Config::default());
        if asks {
            inbox = inbox.asking();
        }
        fill(&mut inbox, P, 0..2);
        inbox.push_head(P, 5);
        // One of a publisher that was not heard yet says where to count from.
        inbox.push_head(Q, 9);
        assert_eq!([inbox.pop(), inbox.pop()], [Some(event(P, 0)), Some(event(P, 1))]);
        if asks {
            assert_eq!(inbox.pop(), None);
            inbox.handle_found([]);
        }
        assert_eq!(all(&mut inbox), [gap(P, 2, 5)]);
        inbox.push_head(P, 5);
        inbox.push_head(P, 1);
        assert_eq!(all(&mut inbox), []);
        fill(&mut inbox, Q, 10..11);
        assert_eq!(all(&mut inbox), [event(Q, 10)]);
        assert_eq!(inbox.stats().told.missing, 4);
    }
    let mut inbox = Inbox::new(Config::default());
    inbox.push_head(Q, 9);
    fill(&mut inbox, Q, 12..13);
    assert_eq!(all(&mut inbox), [gap(Q, 10, 11), event(Q, 12)]);
    // What waits of a publisher that is not known yet is not passed over.
    let mut inbox = Inbox::new(Config::default());
    fill(&mut inbox, P, 3..4);
    inbox.push_head(P, 4);
    assert_eq!(all(&mut inbox), [event(P, 3), gap(P, 4, 4)]);
}
