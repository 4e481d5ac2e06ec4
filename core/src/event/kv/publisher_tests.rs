//! The checklist of a publisher that every reader of this stream can use.

use alloc::vec::Vec;
use core::time::Duration;
use std::vec;

use bytes::Bytes;

use crate::event::kv::batch::Batch;
use crate::event::kv::event::{Event, Removed, Stored, Tokens, Unsound};
use crate::event::kv::frames::{self, Answer, FrameError};
use crate::event::kv::limits::Limits;
use crate::event::kv::publisher::{Config, Outcome, PublishError, Publisher, Refused};
use crate::event::kv::write::{Form, Hashes, Layout, Style};
use crate::rng::Rng;
use crate::time::{Deadline, Instant, Reason};
use crate::wire::msgpack::{self, Token};
use crate::wire::parse::Reader;

fn removed(hash: u64) -> Vec<Event> {
    vec![Event::Removed(Removed { block_hashes: vec![hash], ..Removed::default() })]
}

fn stored(hashes: &[u64]) -> Stored {
    let token_ids = Tokens::Plain(vec![3; hashes.len() * 2]);
    Stored { block_hashes: hashes.to_vec(), token_ids, block_size: 2, ..Stored::default() }
}

fn events(batch: &[u8]) -> Vec<Event> {
    Batch::read(batch, &Limits::DEFAULT).unwrap().map(Result::unwrap).collect()
}

fn client(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

fn ask(publisher: &mut Publisher, name: &'static str, start: u64, now: Instant) -> Result<(), Refused> {
    publisher.handle_request(client(name), &frames::request(start), now)
}

/// Answers until nobody waits: who got which batch, `None` for an end.
fn answers(publisher: &mut Publisher, now: Instant) -> Vec<(Bytes, Option<u64>)> {
    let mut all = Vec::new();
    while let Some((client, answer)) = publisher.poll_answer(now) {
        let seq = if let Answer::Batch { seq, .. } = answer { Some(seq) } else { None };
        publisher.handle_answered(&client, Outcome::Sent, now);
        all.push((client, seq));
    }
    all
}

#[test]
fn numbers_count_from_0_at_the_time_of_publishing_and_are_used_by_what_is_dropped() {
    let mut publisher = Publisher::new(Config { max_batches: 3, ..Config::default() }, 1.0);
    for seq in 1..6 {
        assert_eq!(publisher.publish(1.0, &removed(seq)), Ok(seq));
    }
    let sent: Vec<u64> = core::iter::from_fn(|| publisher.poll_live()).map(|(seq, _)| seq).collect();
    assert_eq!(sent, [3, 4, 5], "the socket was too slow, and readers see it");
    assert_eq!((publisher.stats().dropped, publisher.stats().sent), (3, 3));
    assert_eq!(publisher.publish(1.0, &[]), Err(PublishError::Empty));
    assert_eq!(publisher.next_seq(), 6, "what was refused used no number");
}

#[test]
fn a_batch_is_three_elements_of_maps_or_of_arrays_filled_to_their_length() {
    let heads = |form| {
        let style = Style { form, hashes: Hashes::Integers };
        let mut publisher = Publisher::new(Config { rank: 5, style, ..Config::default() }, 1.0);
        publisher.publish(2.5, &[Event::Stored(stored(&[1]))]).unwrap();
        let (_, batch) = core::iter::from_fn(|| publisher.poll_live()).last().unwrap();
        let shell = Batch::read(&batch, &Limits::DEFAULT).unwrap();
        assert_eq!((shell.ts, shell.rank), (2.5, Some(5)));
        let mut reader = Reader::new(&batch);
        let head: Vec<Token<'_>> = (0..5).map(|_| msgpack::token(&mut reader).unwrap()).collect();
        assert_eq!(head[..3], [Token::Array(3), Token::Float(2.5), Token::Array(1)]);
        let tag = [Token::Str(b"type"), Token::Str(b"BlockStored")].iter().position(|tag| *tag == head[4]);
        (matches!(head[3], Token::Map(_)), if let Token::Map(len) | Token::Array(len) = head[3] { len } else { 0 }, tag)
    };
    // Eight keys are always there: tag, hashes, parent, tokens, size, the adapter twice, and the medium.
    assert_eq!(heads(Form::Map), (true, 8, Some(0)));
    assert_eq!(heads(Form::Array(Layout::V0_22)), (false, 12, Some(1)));
    assert_eq!(heads(Form::Array(Layout::V0_9)), (false, 6, Some(1)));
}

#[test]
fn stores_are_dense_and_their_hashes_distinct_from_each_other_and_the_parent() {
    let mut publisher = Publisher::new(Config::default(), 1.0);
    let mut publish = |store: Stored| publisher.publish(1.0, &[Event::Cleared, Event::Stored(store)]);
    let unsound = |why| Err(PublishError::Unsound { event: 1, why });
    assert_eq!(publish(stored(&[4, 4])), unsound(Unsound::Repeated(4)));
    assert_eq!(publish(Stored { parent_block_hash: Some(4), ..stored(&[4]) }), unsound(Unsound::OwnParent(4)));
    let sparse = Stored { block_hashes: vec![1], ..stored(&[]) };
    assert_eq!(publish(sparse), unsound(Unsound::Sparse { tokens: 0, hashes: 1, block_size: 2 }));
    assert_eq!(publish(Stored { parent_block_hash: Some(9), ..stored(&[4]) }), Ok(1));
}

#[test]
fn every_life_begins_with_a_clear() {
    let mut publisher = Publisher::new(Config::default(), 7.0);
    let (seq, batch) = publisher.poll_live().unwrap();
    assert_eq!((seq, events(&batch)), (0, vec![Event::Cleared]));
    assert_eq!(publisher.poll_live(), None);
}

#[test]
fn an_answer_is_every_kept_batch_from_the_start_on_and_an_end_byte_by_byte_as_live() {
    let now = Instant::ZERO;
    let mut publisher = Publisher::new(Config { max_batches: 4, ..Config::default() }, 1.0);
    (1..7).for_each(|hash| assert!(publisher.publish(1.0, &removed(hash)).is_ok()));
    let live: Vec<(u64, Bytes)> = core::iter::from_fn(|| publisher.poll_live()).collect();
    ask(&mut publisher, "a", 4, now).unwrap();
    let mut got = Vec::new();
    while let Some((client, Answer::Batch { seq, payload })) = publisher.poll_answer(now) {
        publisher.handle_answered(&client, Outcome::Sent, now);
        got.push((seq, payload));
    }
    assert_eq!(got, live[1..], "from 4 on");
    assert_eq!(answers(&mut publisher, now), [(client("a"), None)], "and an end");
    // A start that is gone begins later, one in the future gets the end alone.
    for (start, first) in [(0, Some(3)), (9, None), (u64::MAX, None)] {
        ask(&mut publisher, "b", start, now).unwrap();
        assert_eq!(answers(&mut publisher, now)[0], (client("b"), first), "{start}");
        assert_eq!(publisher.open_requests(), 0);
    }
}

#[test]
fn each_client_has_a_place_of_its_own_and_none_holds_up_another() {
    let mut now = Instant::ZERO;
    let mut publisher = Publisher::new(Config::default(), 1.0);
    (1..3).for_each(|hash| assert!(publisher.publish(1.0, &removed(hash)).is_ok()));
    ask(&mut publisher, "slow", 0, now).unwrap();
    ask(&mut publisher, "quick", 1, now).unwrap();
    ask(&mut publisher, "quick", 2, now).unwrap();
    assert_eq!(publisher.poll_answer(now).unwrap().0, "slow");
    publisher.handle_answered(&client("slow"), Outcome::Full, now);
    let quick = client("quick");
    let one_after_the_other = [Some(1), Some(2), None, Some(2), None].map(|seq| (quick.clone(), seq));
    assert_eq!(answers(&mut publisher, now), one_after_the_other);
    let Some(Deadline { at, why: Reason::Retry }) = publisher.next_deadline() else { panic!("it is tried again") };
    now = at;
    publisher.handle_timeout(now);
    let seqs: Vec<_> = answers(&mut publisher, now).into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, [Some(0), Some(1), Some(2), None], "what had no room comes again");
}

#[test]
fn live_batches_go_on_while_an_answer_is_under_way() {
    let now = Instant::ZERO;
    let mut publisher = Publisher::new(Config { max_batches: 3, ..Config::default() }, 1.0);
    (1..3).for_each(|hash| assert!(publisher.publish(1.0, &removed(hash)).is_ok()));
    ask(&mut publisher, "a", 0, now).unwrap();
    publisher.poll_answer(now).unwrap();
    // The ring moves on while batch 0 is on its way: it is what the client takes, and what is gone after it is a hole it sees.
    (3..5).for_each(|hash| assert!(publisher.publish(1.0, &removed(hash)).is_ok()));
    publisher.handle_answered(&client("a"), Outcome::Sent, now);
    let seqs: Vec<_> = answers(&mut publisher, now).into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, [Some(2), None], "up to the newest when it asked");
}

#[test]
fn clients_are_bounded_in_number_and_time_and_dropped_when_they_go() {
    let now = Instant::ZERO;
    let config = Config { max_requests: 2, ..Config::default() };
    let mut publisher = Publisher::new(config, 1.0);
    ask(&mut publisher, "a", 0, now).unwrap();
    ask(&mut publisher, "b", 0, now).unwrap();
    assert_eq!(ask(&mut publisher, "c", 0, now), Err(Refused::Busy));
    let malformed = publisher.handle_request(client("c"), &[Bytes::new()], now);
    assert_eq!(malformed, Err(Refused::Frames(FrameError::Count(1))));
    publisher.handle_answered(&client("a"), Outcome::Gone, now);
    assert_eq!(publisher.open_requests(), 1);
    publisher.poll_answer(now).unwrap();
    publisher.handle_answered(&client("b"), Outcome::Full, now);
    let mut later = now;
    while publisher.open_requests() > 0 {
        assert!(later.since(now) <= config.client_timeout + Duration::from_secs(1));
        later = publisher.next_deadline().unwrap().at;
        publisher.handle_timeout(later);
        if let Some((client, _)) = publisher.poll_answer(later) {
            publisher.handle_answered(&client, Outcome::Full, later);
        }
    }
    let stats = publisher.stats();
    assert_eq!((stats.requests, stats.refused, stats.given_up, stats.answered), (4, 2, 2, 0));
}

#[test]
fn what_is_kept_is_bounded_by_count_and_by_bytes() {
    let mut rng = Rng::new(1);
    let config = Config { max_batches: 50, max_bytes: 2000, ..Config::default() };
    let mut publisher = Publisher::new(config, 1.0);
    for _ in 0..500 {
        let hashes: Vec<u64> = (0..=rng.below(40)).map(|n| n << 40).collect();
        publisher.publish(1.0, &[Event::Stored(stored(&hashes))]).unwrap();
        assert!(publisher.kept_bytes() <= 2000);
    }
    let hashes: Vec<u64> = (0..1000).map(|n| n << 40).collect();
    let seq = publisher.publish(1.0, &[Event::Stored(stored(&hashes))]).unwrap();
    assert_eq!(publisher.poll_live().unwrap().0, seq, "the newest is kept though it is larger");
}
