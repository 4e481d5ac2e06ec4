//! The worker's end of a call-home connection alone: every row of what a caller may say, and what is said to it.

use alloc::vec::Vec;
use std::{assert_eq, matches, vec};

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::response::sender::{Config, Event, Sender, State};
use crate::protocol::{Closing, Fault};
use crate::time::{Instant, Reason};
use crate::wire::codec::Codec;
use crate::wire::dynamo::annotated::Annotated;
use crate::wire::dynamo::control::{Handshake, Prologue};
use crate::wire::dynamo::envelope::Envelope;
use crate::wire::dynamo::failure_key::Key;
use crate::wire::dynamo::two_part::{TwoPart, frame};
use crate::wire::dynamo::typed_failure::Failure;
use crate::wire::dynamo::word::Word;
use crate::wire::parse::{Format, Limits, Parse};

const T0: Instant = Instant::ZERO;

fn sender(codec: Codec) -> Sender {
    let mut sender = Sender::new(Config::default(), codec, "subject", T0);
    sender.handle_open(T0);
    sender
}

fn running(codec: Codec) -> Sender {
    let mut sender = sender(codec);
    sender.start();
    sender
}

/// Everything that is due, as written; counted as sent.
fn pull(sender: &mut Sender) -> Vec<u8> {
    let mut queue = SendQueue::new(1 << 20);
    while sender.poll_transmit(&mut queue, T0) {}
    let mut slices = [&[][..]; 64];
    let used = queue.slices(&mut slices);
    let bytes = slices[..used].concat();
    sender.handle_sent(bytes.len(), T0);
    bytes
}

/// Header and body of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let Ok(Parse::Complete { value, used }) = TwoPart::parse(bytes, &Limits::default()) else {
            panic!("{bytes:?}")
        };
        frames.push((value.header.to_vec(), value.body.to_vec()));
        bytes = &bytes[used..];
    }
    frames
}

#[test]
fn handshake_prologue_items_final_and_sentinel_leave_together_in_order() {
    for codec in Codec::ALL {
        let mut sender = running(codec);
        sender.send(Bytes::from_static(b"1")).unwrap();
        sender.send(Bytes::from_static(b"2")).unwrap();
        sender.finish(None, T0);
        let frames = frames(&pull(&mut sender));
        assert_eq!(frames.len(), 6);
        assert_eq!(Handshake::read(&frames[0].0).unwrap().subject, "subject");
        assert_eq!(Prologue::read(&frames[1].0), Ok(Prologue::default()));
        assert_eq!(Envelope::read(codec, &frames[2].1), Ok(Envelope::item(b"1")));
        assert_eq!(Envelope::read(codec, &frames[3].1), Ok(Envelope::item(b"2")));
        assert_eq!(Envelope::read(codec, &frames[4].1), Ok(Envelope::FINAL));
        assert_eq!(Word::read(&frames[5].0), Ok(Word::Sentinel));
        assert!(frames[2..5].iter().all(|(header, _)| header.is_empty()));
        assert_eq!((sender.state(), sender.poll_close(T0)), (State::Ended, None));
        sender.handle_eof(T0);
        assert_eq!(sender.poll_close(T0), Some(Closing::Flush));
    }
}

#[test]
fn nothing_is_written_before_the_socket_is_up_and_the_handshake_does_not_wait_for_the_handler() {
    let mut sender = Sender::new(Config::default(), Codec::Json, "subject", T0);
    assert!(!sender.wants_transmit() && sender.poll_timeout().is_none());
    sender.handle_open(T0);
    assert_eq!(frames(&pull(&mut sender)).len(), 1);
    sender.start();
    assert_eq!(frames(&pull(&mut sender)).len(), 1);
}

#[test]
fn a_failure_of_the_handler_is_an_error_item_and_one_before_it_an_error_prologue() {
    let failure = Failure::new(Key::InvalidArgument, "no such model");
    for codec in Codec::ALL {
        let mut sender = running(codec);
        sender.finish(Some(failure.clone()), T0);
        let said = frames(&pull(&mut sender));
        let item = Envelope::read(codec, &said[2].1).unwrap().data.unwrap();
        assert_eq!(Annotated::read(codec, item).unwrap().failure().as_ref().map(Failure::key), Some(failure.key()));
        assert_eq!(Envelope::read(codec, &said[3].1), Ok(Envelope::FINAL));
        assert_eq!(Word::read(&said[4].0), Ok(Word::Sentinel));

        let mut refused = self::sender(codec);
        refused.fail(failure.clone(), T0);
        let said = frames(&pull(&mut refused));
        let prologue = Prologue::read(&said[1].0).unwrap();
        assert_eq!(prologue.error.as_deref(), Some("no such model"));
        assert_eq!(prologue.typed_error.map(|typed| typed.key()), Some(failure.key()));
        assert_eq!(Word::read(&said[2].0), Ok(Word::Sentinel));
        assert_eq!(said.len(), 3);
    }
}

#[test]
fn stop_and_kill_end_the_stream_without_final_and_sentinel_however_the_word_is_cut() {
    for (word, event) in [(Word::Stop, Event::Stop), (Word::Kill, Event::Kill)] {
        let bytes = frame(word.header(), b"");
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut sender = running(Codec::Msgpack);
                sender.send(Bytes::from_static(b"1")).unwrap();
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    sender.handle_recv(part, T0).unwrap();
                }
                assert_eq!((sender.poll_event(), sender.poll_event()), (Some(event), None));
                assert_eq!(sender.send(Bytes::new()), Err(SendError::Closed));
                assert!(pull(&mut sender).is_empty());
                assert_eq!(sender.poll_close(T0), Some(Closing::Flush));
            }
        }
    }
}

#[test]
fn anything_else_from_the_caller_is_a_fault_and_counts_as_a_kill() {
    let wrong = [
        frame(Word::Sentinel.header(), b""),
        frame(b"\"Stop\"", b""),
        frame(b"\"pause\"", b""),
        frame(b"stop", b""),
        frame(b"{}", b""),
        frame(b"", b"data"),
        frame(b"", b""),
        frame(Word::Stop.header(), b"body"),
        vec![0xFF; 24],
    ];
    for bytes in wrong {
        let mut sender = running(Codec::Json);
        assert!(sender.handle_recv(&bytes, T0).is_err(), "{bytes:?}");
        assert_eq!(sender.poll_event(), Some(Event::Kill));
        assert_eq!(sender.state(), State::Closing);
    }
}

#[test]
fn a_half_closed_caller_still_gets_everything() {
    let mut sender = running(Codec::Json);
    pull(&mut sender);
    sender.handle_eof(T0);
    sender.send(Bytes::from_static(b"1")).unwrap();
    sender.finish(None, T0);
    assert_eq!(frames(&pull(&mut sender)).len(), 3);
    assert_eq!((sender.state(), sender.poll_close(T0)), (State::Closing, Some(Closing::Flush)));
}

#[test]
fn a_word_after_the_end_is_late_and_cancels_nothing() {
    let mut sender = running(Codec::Json);
    sender.finish(None, T0);
    pull(&mut sender);
    sender.handle_recv(&frame(Word::Kill.header(), b""), T0).unwrap();
    assert_eq!((sender.poll_event(), sender.state()), (None, State::Closing));
}

#[test]
fn a_full_queue_turns_a_writer_away_and_calls_it_back() {
    let mut sender = Sender::new(Config { send_buffer: 10, ..Config::default() }, Codec::Json, "subject", T0);
    sender.start();
    // One larger item is always taken.
    sender.send(Bytes::from_static(b"\"0123456789abcdef\"")).unwrap();
    let item = Bytes::from_static(b"1");
    assert_eq!(sender.send(item.clone()), Err(SendError::Blocked(item)));
    sender.handle_open(T0);
    pull(&mut sender);
    assert_eq!((sender.poll_event(), sender.held()), (Some(Event::Writable), 0));
}

#[test]
fn a_worker_whose_socket_is_full_hears_a_cancel() {
    for (word, event) in [(Word::Stop, Event::Stop), (Word::Kill, Event::Kill)] {
        let mut sender = running(Codec::Json);
        sender.send(Bytes::from_static(b"1")).unwrap();
        let mut queue = SendQueue::new(1 << 20);
        while sender.poll_transmit(&mut queue, T0) {}
        // Nothing of it gets written.
        sender.handle_recv(&frame(word.header(), b""), T0).unwrap();
        assert_eq!(sender.poll_event(), Some(event));
    }
}

#[test]
fn a_caller_that_reads_nothing_or_never_closes_is_left_in_time() {
    let mut sender = running(Codec::Json);
    let stall = sender.poll_timeout().unwrap();
    assert_eq!(stall.why, Reason::SendStall);
    assert_eq!(sender.handle_timeout(stall.at), Err(Fault::Stalled));
    assert_eq!(sender.poll_event(), Some(Event::Kill));
    let drain = sender.poll_timeout().unwrap();
    assert_eq!(drain.why, Reason::Drain);
    assert!(matches!(sender.poll_close(drain.at), Some(Closing::Abort)));

    let mut sender = running(Codec::Json);
    sender.finish(None, T0);
    pull(&mut sender);
    let fin = sender.poll_timeout().unwrap();
    assert_eq!((fin.why, fin.at), (Reason::CallHomeFin, T0 + Config::default().fin_timeout));
    sender.handle_timeout(fin.at).unwrap();
    assert_eq!((sender.poll_event(), sender.poll_close(fin.at)), (None, Some(Closing::Flush)));
}
