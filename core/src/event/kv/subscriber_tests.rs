//! The checklist of a subscriber: order, gaps, restarts, and what it claims to know.

use alloc::vec::Vec;
use core::time::Duration;
use std::vec;

use bytes::Bytes;

use crate::event::kv::event::{Event, Removed, Stored, Tokens};
use crate::event::kv::frames::Answer;
use crate::event::kv::limits::Limits;
use crate::event::kv::publisher::{self, Outcome, Publisher};
use crate::event::kv::source::{Clear, Output, Spoilt};
use crate::event::kv::subscriber::{Ask, Config, Subscriber};
use crate::event::kv::write::{self, Style};
use crate::rng::Rng;
use crate::time::{Instant, Reason};

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const END: Answer = Answer::End;

fn batch(events: &[Event]) -> Bytes {
    let mut out = Vec::new();
    write::batch(1.0, 0, events, Style::default(), &mut out).unwrap();
    out.into()
}

/// The batch of this number: a block of that hash is stored.
fn numbered(seq: u64) -> Bytes {
    batch(&[store(seq, None)])
}

fn store(hash: u64, medium: Option<&str>) -> Event {
    Event::Stored(Stored {
        block_hashes: vec![hash],
        token_ids: Tokens::Plain(vec![1]),
        block_size: 1,
        medium: medium.map(Into::into),
        ..Stored::default()
    })
}

fn remove(hash: u64) -> Event {
    Event::Removed(Removed { block_hashes: vec![hash], ..Removed::default() })
}

/// Stored hashes, and in words everything else.
#[derive(Clone, PartialEq, Debug)]
enum Told {
    New(u64),
    Gone(u64),
    Missed(u64, u64, bool),
    Cleared(Clear),
    Spoilt(u64),
}

fn told(subscriber: &mut Subscriber) -> Vec<Told> {
    let mut all = Vec::new();
    while let Some(output) = subscriber.poll_output() {
        match output {
            Output::Stored { new, .. } => all.extend(new.into_iter().map(Told::New)),
            Output::Removed { gone, .. } => all.extend(gone.into_iter().map(Told::Gone)),
            Output::Missed { first, last, confirmed } => all.push(Told::Missed(first, last, confirmed)),
            Output::Cleared { why, .. } => all.push(Told::Cleared(why)),
            Output::Spoilt { seq, .. } => all.push(Told::Spoilt(seq)),
        }
    }
    all
}

fn answer(subscriber: &mut Subscriber, ask: Ask, seqs: &[u64]) {
    for seq in seqs {
        subscriber.handle_answer(ask.id, Answer::Batch { seq: *seq, payload: numbered(*seq) }, NOW);
    }
}

/// A subscriber that has applied everything up to `last`, without a question open.
fn caught_up(last: u64, config: Config) -> Subscriber {
    let mut subscriber = Subscriber::new(config);
    subscriber.handle_connected(NOW);
    let ask = subscriber.poll_ask(NOW).unwrap();
    assert_eq!(ask.start, 0);
    answer(&mut subscriber, ask, &(0..=last).collect::<Vec<_>>());
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!((subscriber.applied(), subscriber.is_exact()), (Some(last), true));
    told(&mut subscriber);
    subscriber
}

fn live(subscriber: &mut Subscriber, seqs: &[u64]) {
    seqs.iter().for_each(|seq| subscriber.handle_live(*seq, numbered(*seq), NOW));
}

#[test]
fn at_the_start_history_is_asked_for_and_live_batches_wait_for_it() {
    let mut subscriber = Subscriber::new(Config::default());
    live(&mut subscriber, &[2, 3]);
    let ask = subscriber.poll_ask(NOW).unwrap();
    assert_eq!((ask.start, subscriber.poll_ask(NOW)), (0, None), "asked once");
    assert_eq!(told(&mut subscriber), []);
    answer(&mut subscriber, ask, &[0, 1, 2]);
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), [0, 1, 2, 3].map(Told::New), "the overlap counts once");
    assert!(subscriber.is_exact());
    assert_eq!((subscriber.stats().overlapped, subscriber.stats().applied), (1, 4));
}

#[test]
fn history_that_is_gone_leaves_the_source_degraded() {
    let mut subscriber = Subscriber::new(Config::default());
    subscriber.handle_connected(NOW);
    let ask = subscriber.poll_ask(NOW).unwrap();
    answer(&mut subscriber, ask, &[3, 4]);
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), [Told::Missed(0, 2, true), Told::New(3), Told::New(4)]);
    assert!(!subscriber.is_exact());
    subscriber.handle_live(5, batch(&[Event::Cleared, store(9, None)]), NOW);
    assert_eq!(told(&mut subscriber), [Told::Cleared(Clear::Announced), Told::New(9)]);
    assert!(subscriber.is_exact(), "after a clear all is known again");
}

#[test]
fn a_gap_is_asked_for_and_filled_before_what_follows_it() {
    let mut subscriber = caught_up(4, Config::default());
    live(&mut subscriber, &[5, 8]);
    assert_eq!(told(&mut subscriber), [Told::New(5)]);
    let ask = subscriber.poll_ask(NOW).unwrap();
    assert_eq!(ask.start, 6);
    live(&mut subscriber, &[9]);
    assert_eq!((subscriber.applied(), subscriber.live()), (Some(5), Some(9)), "two cursors");
    answer(&mut subscriber, ask, &[6, 7, 8]);
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), [6, 7, 8, 9].map(Told::New));
    assert!(subscriber.is_exact());
}

#[test]
fn a_hole_that_the_publisher_has_too_is_told_and_the_stream_goes_on_degraded() {
    let mut subscriber = caught_up(6, Config::default());
    live(&mut subscriber, &[9]);
    let ask = subscriber.poll_ask(NOW).unwrap();
    assert_eq!(ask.start, 7);
    answer(&mut subscriber, ask, &[9, 10]);
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), [Told::Missed(7, 8, true), Told::New(9), Told::New(10)]);
    assert!(!subscriber.is_exact());
    live(&mut subscriber, &[11]);
    assert_eq!(told(&mut subscriber), [Told::New(11)], "nothing is searched for again");
    assert_eq!(subscriber.poll_ask(NOW), None);
}

#[test]
fn an_answer_of_an_end_alone_confirms_a_hole_that_live_batches_have_passed() {
    let mut subscriber = caught_up(6, Config::default());
    live(&mut subscriber, &[9]);
    let ask = subscriber.poll_ask(NOW).unwrap();
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), [Told::Missed(7, 8, true), Told::New(9)]);
    // At a start before anything was published it confirms nothing: the first batches were on their way.
    let mut subscriber = Subscriber::new(Config::default());
    subscriber.handle_connected(NOW);
    let ask = subscriber.poll_ask(NOW).unwrap();
    live(&mut subscriber, &[2]);
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), []);
    let again = subscriber.poll_ask(NOW).unwrap();
    answer(&mut subscriber, again, &[0, 1, 2]);
    subscriber.handle_answer(again.id, END, NOW);
    assert_eq!(told(&mut subscriber), [0, 1, 2].map(Told::New));
    assert!(subscriber.is_exact());
}

#[test]
fn a_hole_inside_an_answer_is_asked_for_again_before_it_is_believed() {
    let mut subscriber = caught_up(0, Config::default());
    live(&mut subscriber, &[6]);
    let first = subscriber.poll_ask(NOW).unwrap();
    answer(&mut subscriber, first, &[1, 2, 5]);
    let second = subscriber.poll_ask(NOW).unwrap();
    assert_eq!(second.start, 3, "the way to us may have lost them");
    answer(&mut subscriber, first, &[6]);
    assert_eq!(subscriber.stats().late_answers, 1, "what an earlier question still brings is not applied");
    answer(&mut subscriber, second, &[4, 5, 6]);
    subscriber.handle_answer(second.id, END, NOW);
    let expected = vec![Told::New(1), Told::New(2), Told::Missed(3, 3, true), Told::New(4), Told::New(5), Told::New(6)];
    assert_eq!(told(&mut subscriber), expected);
}

#[test]
fn holes_that_are_asked_for_again_are_bounded() {
    let mut subscriber = caught_up(0, Config { max_resumes: 2, ..Config::default() });
    live(&mut subscriber, &[100]);
    let mut questions = 0;
    let mut next = 1;
    while let Some(ask) = subscriber.poll_ask(NOW) {
        questions += 1;
        // A publisher that loses every other batch of each answer.
        for seq in (ask.start.max(next)..=100).step_by(2) {
            subscriber.handle_answer(ask.id, Answer::Batch { seq, payload: numbered(seq) }, NOW);
        }
        next = subscriber.applied().unwrap() + 1;
        subscriber.handle_answer(ask.id, END, NOW);
    }
    assert!(questions <= 4, "{questions}");
    assert_eq!(subscriber.applied(), Some(100));
}

#[test]
fn an_answer_that_stops_is_taken_up_again_from_the_first_batch_that_is_missing() {
    let config = Config::default();
    let mut subscriber = caught_up(0, config);
    live(&mut subscriber, &[5]);
    let first = subscriber.poll_ask(NOW).unwrap();
    answer(&mut subscriber, first, &[1, 2]);
    let deadline = subscriber.next_deadline().unwrap();
    assert_eq!((deadline.why, deadline.at), (Reason::Replay, NOW + config.idle_timeout));
    subscriber.handle_timeout(deadline.at);
    let second = subscriber.poll_ask(deadline.at).unwrap();
    assert_eq!(second.start, 3);
    answer(&mut subscriber, second, &[3, 4, 5]);
    subscriber.handle_answer(second.id, END, NOW);
    assert_eq!(told(&mut subscriber), [1, 2, 3, 4, 5].map(Told::New));
}

#[test]
fn a_publisher_that_does_not_answer_is_given_up_and_left_alone_for_a_while() {
    let config = Config::default();
    let mut subscriber = caught_up(0, config);
    live(&mut subscriber, &[5]);
    let (mut now, mut questions) = (NOW, 0);
    while subscriber.applied() == Some(0) {
        questions += usize::from(subscriber.poll_ask(now).is_some());
        now = subscriber.next_deadline().unwrap().at;
        subscriber.handle_timeout(now);
    }
    assert_eq!(questions, 3);
    assert_eq!(told(&mut subscriber), [Told::Missed(1, 4, false), Told::New(5)]);
    subscriber.handle_live(7, numbered(7), now);
    assert_eq!(told(&mut subscriber), [Told::Missed(6, 6, false), Told::New(7)]);
    assert_eq!(subscriber.poll_ask(now), None);
    now = now + config.cooldown;
    subscriber.handle_live(9, numbered(9), now);
    assert_eq!(subscriber.poll_ask(now).map(|ask| ask.start), Some(8));
}

#[test]
fn without_a_way_to_ask_a_gap_is_told_at_once() {
    let mut subscriber = Subscriber::new(Config { replay: false, ..Config::default() });
    subscriber.handle_connected(NOW);
    live(&mut subscriber, &[0, 1]);
    assert!(subscriber.is_exact(), "from the first batch on");
    live(&mut subscriber, &[4]);
    assert_eq!(told(&mut subscriber), [Told::New(0), Told::New(1), Told::Missed(2, 3, false), Told::New(4)]);
    assert!(!subscriber.is_exact());
    assert_eq!((subscriber.poll_ask(NOW), subscriber.next_deadline()), (None, None));
    let mut late = Subscriber::new(Config { replay: false, ..Config::default() });
    live(&mut late, &[3]);
    assert_eq!(told(&mut late), [Told::Missed(0, 2, false), Told::New(3)]);
}

#[test]
fn a_number_that_goes_back_is_another_engine_and_drops_what_the_old_one_held() {
    let mut subscriber = caught_up(4, Config::default());
    live(&mut subscriber, &[3, 4]);
    assert_eq!(told(&mut subscriber), [], "live batches that an answer has overtaken");
    live(&mut subscriber, &[1]);
    assert_eq!(told(&mut subscriber), [Told::Cleared(Clear::Restarted)], "before anything new");
    assert_eq!(subscriber.held(), 0);
    let ask = subscriber.poll_ask(NOW).unwrap();
    assert_eq!(ask.start, 0);
    answer(&mut subscriber, ask, &[0, 1]);
    subscriber.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut subscriber), [0, 1].map(Told::New));
    assert!(subscriber.is_exact());
    assert_eq!(subscriber.stats().restarts, 1);
}

#[test]
fn after_a_disconnect_the_last_batch_shows_whether_it_is_the_same_engine() {
    let mut same = caught_up(4, Config::default());
    same.handle_disconnected();
    same.handle_connected(NOW);
    let ask = same.poll_ask(NOW).unwrap();
    assert_eq!(ask.start, 4, "the last one, once more");
    answer(&mut same, ask, &[4, 5, 6]);
    same.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut same), [5, 6].map(Told::New));
    assert!(same.is_exact());
    // An engine that has overtaken the old number: other bytes.
    let mut other = caught_up(4, Config::default());
    other.handle_disconnected();
    live(&mut other, &[9]);
    let ask = other.poll_ask(NOW).unwrap();
    other.handle_answer(ask.id, Answer::Batch { seq: 4, payload: numbered(77) }, NOW);
    assert_eq!(told(&mut other), [Told::Cleared(Clear::Restarted)]);
    let again = other.poll_ask(NOW).unwrap();
    assert_eq!(again.start, 0);
    answer(&mut other, again, &(0..=9).collect::<Vec<_>>());
    other.handle_answer(again.id, END, NOW);
    assert_eq!(told(&mut other), (0..=9).map(Told::New).collect::<Vec<_>>());
    // An engine that has not come so far: nothing but the end.
    let mut younger = caught_up(4, Config::default());
    younger.handle_disconnected();
    younger.handle_connected(NOW);
    let ask = younger.poll_ask(NOW).unwrap();
    younger.handle_answer(ask.id, END, NOW);
    assert_eq!(told(&mut younger), [Told::Cleared(Clear::Restarted)]);
}

#[test]
fn a_quiet_source_is_asked_whether_the_last_batch_was_the_last() {
    let config = Config::default();
    let mut subscriber = caught_up(4, config);
    live(&mut subscriber, &[5]);
    let deadline = subscriber.next_deadline().unwrap();
    assert_eq!(deadline.at, NOW + config.probe);
    subscriber.handle_timeout(deadline.at);
    let ask = subscriber.poll_ask(deadline.at).unwrap();
    assert_eq!(ask.start, 6);
    subscriber.handle_answer(ask.id, END, deadline.at);
    assert!(subscriber.is_exact());
    assert_eq!(subscriber.next_deadline().unwrap().at, deadline.at + config.probe);
}

#[test]
fn what_was_sent_before_the_publisher_knew_the_subscription_is_asked_for_soon() {
    let config = Config::default();
    let mut subscriber = caught_up(4, config);
    // Batch 5 was sent after the answer, to nobody, and none follows that would show the gap.
    let deadline = subscriber.next_deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (NOW + config.settle, Reason::Replay));
    subscriber.handle_timeout(deadline.at);
    let ask = subscriber.poll_ask(deadline.at).unwrap();
    assert_eq!(ask.start, 5);
    let batch = Answer::Batch { seq: 5, payload: numbered(5) };
    subscriber.handle_answer(ask.id, batch, deadline.at);
    subscriber.handle_answer(ask.id, END, deadline.at);
    assert_eq!(told(&mut subscriber), [Told::New(5)]);
    assert!(subscriber.is_exact());
    assert_eq!(subscriber.next_deadline().unwrap().at, deadline.at + config.probe, "once a connection");

    subscriber.handle_disconnected();
    let back = deadline.at + Duration::from_secs(5);
    subscriber.handle_connected(back);
    let ask = subscriber.poll_ask(back).unwrap();
    subscriber.handle_answer(ask.id, Answer::Batch { seq: 5, payload: numbered(5) }, back);
    subscriber.handle_answer(ask.id, END, back);
    assert_eq!(subscriber.next_deadline().unwrap().at, back + config.settle, "and once the next");

    // Neither is asked for by those that were told not to, or have nobody to ask.
    for config in [Config { settle: Duration::ZERO, ..config }, Config { replay: false, ..config }] {
        let mut subscriber = Subscriber::new(config);
        subscriber.handle_connected(NOW);
        if let Some(ask) = subscriber.poll_ask(NOW) {
            subscriber.handle_answer(ask.id, END, NOW);
        }
        let at = subscriber.next_deadline().map(|deadline| deadline.at);
        assert_eq!(at, config.replay.then_some(NOW + config.probe));
    }
}

#[test]
fn a_batch_that_cannot_be_read_degrades_the_source_and_not_the_stream() {
    let mut subscriber = caught_up(4, Config::default());
    subscriber.handle_live(5, Bytes::from_static(b"\x93nonsense"), NOW);
    live(&mut subscriber, &[6]);
    assert_eq!(told(&mut subscriber), [Told::Spoilt(5), Told::New(6)]);
    assert!(!subscriber.is_exact());
    assert_eq!(subscriber.poll_ask(NOW), None, "it came; asking again brings the same");
    let mut broken = b"\x93\xcb\x41\xd9\x54\xfc\x40\x20\x00\x00\x92\x92\xacBlockRemoved\xa1x".to_vec();
    broken.extend(b"\x91\xb0AllBlocksCleared\x00");
    subscriber.handle_live(7, broken.into(), NOW);
    let first = subscriber.poll_output().unwrap();
    assert!(matches!(first, Output::Spoilt { seq: 7, why: Spoilt::Event(0, _) }), "{first:?}");
    assert_eq!(told(&mut subscriber), [Told::Cleared(Clear::Announced)]);
}

#[test]
fn copies_are_counted_and_what_cannot_be_placed_is_not_counted_as_the_devices() {
    let mut subscriber = caught_up(0, Config::default());
    let events = [store(7, None), store(7, Some("GPU")), store(8, Some("CPU")), store(9, Some("HBM5")), remove(7)];
    subscriber.handle_live(1, batch(&events), NOW);
    assert_eq!(told(&mut subscriber), [Told::New(7), Told::New(8)], "one copy of 7 is left, and 9 is nowhere");
    let mut remote = Stored { locality: Some("REMOTE".into()), ..Stored::default() };
    (remote.block_hashes, remote.token_ids, remote.block_size) = (vec![7], Tokens::Plain(vec![1]), 1);
    subscriber.handle_live(2, batch(&[Event::Stored(remote), remove(7)]), NOW);
    assert_eq!(told(&mut subscriber), [Told::New(7), Told::Gone(7)], "far copies have a life of their own");
    let hash_only = Stored { block_hashes: vec![7, 55], medium: Some("CPU".into()), ..Stored::default() };
    subscriber.handle_live(3, batch(&[Event::Stored(hash_only)]), NOW);
    assert_eq!(told(&mut subscriber), [Told::New(7)], "55 is known nowhere");
    assert_eq!(subscriber.stats().ignored_events, 1);
}

#[test]
fn a_store_whose_parent_is_not_known_says_so() {
    let mut subscriber = caught_up(0, Config::default());
    let child = |parent| {
        let Event::Stored(event) = store(50 + parent, None) else { unreachable!() };
        batch(&[Event::Stored(Stored { parent_block_hash: Some(parent), ..event })])
    };
    subscriber.handle_live(1, child(0), NOW);
    subscriber.handle_live(2, child(33), NOW);
    let detached: Vec<bool> = core::iter::from_fn(|| subscriber.poll_output())
        .map(|output| matches!(output, Output::Stored { detached: true, .. }))
        .collect();
    assert_eq!(detached, [false, true]);
}

#[test]
fn live_batches_that_wait_are_bounded_and_what_is_dropped_is_asked_for_again() {
    let config = Config { max_waiting: 3, ..Config::default() };
    let mut subscriber = caught_up(0, config);
    live(&mut subscriber, &[2]);
    let ask = subscriber.poll_ask(NOW).unwrap();
    live(&mut subscriber, &(3..20).collect::<Vec<_>>());
    assert_eq!(subscriber.waiting(), 3);
    answer(&mut subscriber, ask, &[1, 2, 3]);
    subscriber.handle_answer(ask.id, END, NOW);
    let again = subscriber.poll_ask(NOW).unwrap();
    assert_eq!(again.start, 4);
    answer(&mut subscriber, again, &(4..17).collect::<Vec<_>>());
    subscriber.handle_answer(again.id, END, NOW);
    assert_eq!(told(&mut subscriber), (1..20).map(Told::New).collect::<Vec<_>>());
    let bytes = Config { max_waiting_bytes: numbered(3).len() * 2, ..Config::default() };
    let mut subscriber = caught_up(0, bytes);
    live(&mut subscriber, &(2..20).collect::<Vec<_>>());
    assert_eq!(subscriber.waiting(), 2);
}

#[test]
fn a_batch_beyond_the_limits_and_hashes_beyond_theirs_degrade_the_source() {
    let limits = Limits { payload: 10, ..Limits::DEFAULT };
    let mut subscriber = Subscriber::new(Config { replay: false, limits, ..Config::default() });
    live(&mut subscriber, &[0]);
    assert_eq!(told(&mut subscriber), [Told::Spoilt(0)]);
    let mut config = Config { replay: false, ..Config::default() };
    config.copies.max_hashes = 1;
    let mut subscriber = Subscriber::new(config);
    live(&mut subscriber, &[0, 1]);
    assert_eq!(told(&mut subscriber), [Told::New(0)]);
    assert!(!subscriber.is_exact());
    assert_eq!((subscriber.held(), subscriber.stats().overfull), (1, 1));
}

/// Hands the answers there are to the subscriber, those that `arrives` lets through.
fn hand_answers(
    publisher: &mut Publisher,
    subscriber: &mut Subscriber,
    now: Instant,
    mut arrives: impl FnMut(u64) -> bool,
) {
    while let Some((client, answer)) = publisher.poll_answer(now) {
        publisher.handle_answered(&client, Outcome::Sent, now);
        let id = u64::from_be_bytes(client.as_ref().try_into().unwrap());
        if arrives(id) {
            subscriber.handle_answer(id, answer, now);
        }
    }
}

/// Takes what is told: which of the blocks are held.
fn learn(subscriber: &mut Subscriber, known: &mut [bool]) {
    while let Some(output) = subscriber.poll_output() {
        match output {
            Output::Stored { new, .. } => new.iter().for_each(|hash| known[*hash as usize] = true),
            Output::Removed { gone, .. } => gone.iter().for_each(|hash| known[*hash as usize] = false),
            Output::Cleared { .. } => known.fill(false),
            _ => {}
        }
    }
}

/// A publisher and a subscriber with a lossy way between them, engines that restart and answers that stop: whenever the subscriber
/// claims to know everything, it does.
fn run(seed: u64) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let config = publisher::Config { max_batches: 3 + rng.below(30) as usize, ..Default::default() };
    let subscriber_config = Config { max_waiting: 1 + rng.below(8) as usize, ..Config::default() };
    let (mut publisher, mut subscriber) = (Publisher::new(config, 1.0), Subscriber::new(subscriber_config));
    let (mut held, mut known) = (vec![0u32; 8], vec![false; 8]);
    let (mut now, mut asked, mut exact, mut restarts) = (NOW, None, 0, 0);
    subscriber.handle_connected(now);
    for step in 0..400u32 {
        let quiet = step % 40 >= 30;
        match rng.below(20) {
            0..6 if !quiet => {
                let block = rng.below(8);
                let copy = held[block as usize] > 0 && rng.below(2) == 0;
                let event = if copy { remove(block) } else { store(block, None) };
                if copy {
                    held[block as usize] -= 1
                } else {
                    held[block as usize] += 1
                }
                publisher.publish(f64::from(step), &[event]).unwrap();
            }
            6 if !quiet && rng.below(8) == 0 => {
                publisher = Publisher::new(config, f64::from(step));
                held.fill(0);
                restarts += 1;
                (0..rng.below(20)).for_each(|_| drop(publisher.publish(f64::from(step), &[remove(0)])));
                subscriber.handle_disconnected();
                subscriber.handle_connected(now);
                asked = None;
            }
            7..12 => {
                if let Some((seq, batch)) = publisher.poll_live()
                    && (quiet || rng.below(4) > 0)
                {
                    subscriber.handle_live(seq, batch, now);
                }
            }
            12..18 => {
                if let Some(Ask { id, start }) = subscriber.poll_ask(now) {
                    let client = Bytes::copy_from_slice(&id.to_be_bytes());
                    publisher.handle_request(client, &crate::event::kv::frames::request(start), now).unwrap();
                    asked = Some(id);
                }
                hand_answers(&mut publisher, &mut subscriber, now, |id| {
                    Some(id) == asked && (quiet || rng.below(6) > 0)
                });
            }
            _ => {
                now = now + Duration::from_secs(rng.below(10));
                subscriber.handle_timeout(now);
            }
        }
        learn(&mut subscriber, &mut known);
        if subscriber.is_exact() && subscriber.applied().map_or(0, |applied| applied + 1) == publisher.next_seq() {
            exact += 1;
            assert!(known.iter().copied().eq(held.iter().map(|copies| *copies > 0)), "seed {seed}, step {step}");
        }
        assert!(subscriber.waiting() <= subscriber_config.max_waiting, "seed {seed}");
    }
    (exact, restarts)
}

#[test]
fn a_subscriber_that_claims_to_know_everything_does() {
    let (mut exact, mut restarts) = (0, 0);
    for seed in 1..=300 {
        let seen = run(seed);
        exact += seen.0;
        restarts += seen.1;
    }
    assert!(exact > 1000 && restarts > 100, "{exact} steps compared, {restarts} restarts");
}
