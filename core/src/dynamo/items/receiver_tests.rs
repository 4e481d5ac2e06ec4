//! The worker's end of a request stream alone: every row of what a caller may say on it.

use alloc::vec::Vec;
use core::task::Poll;
use core::time::Duration;
use std::{assert_eq, matches, vec};

use bytes::Bytes;

use crate::buf::gate::Flow;
use crate::buf::send_queue::SendQueue;
use crate::dynamo::items::receiver::{Config, Event, Receiver, State};
use crate::protocol::{Closing, Fault};
use crate::time::{Instant, Reason};
use crate::wire::dynamo::control::{Handshake, StreamType};
use crate::wire::dynamo::two_part::{Head, TwoPart, frame};
use crate::wire::dynamo::word::Word;
use crate::wire::parse::{Format, Limits, Parse};

const T0: Instant = Instant::ZERO;

fn word(word: Word) -> Vec<u8> {
    frame(word.header(), b"")
}

fn open(config: Config) -> Receiver {
    let mut receiver = Receiver::new(config, "subject", T0);
    receiver.handle_open(T0);
    receiver
}

fn events(receiver: &mut Receiver) -> Vec<Event> {
    std::iter::from_fn(|| receiver.poll_event()).collect()
}

/// Every item that is here; whether the end is.
fn read(receiver: &mut Receiver) -> (Vec<Bytes>, bool) {
    let mut items = Vec::new();
    loop {
        match receiver.recv() {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return (items, true),
            Poll::Pending => return (items, false),
        }
    }
}

#[test]
fn the_handshake_is_all_that_is_ever_written_and_waits_for_the_socket() {
    let mut receiver = Receiver::new(Config::default(), "subject", T0);
    let mut queue = SendQueue::new(1 << 16);
    assert!(!receiver.poll_transmit(&mut queue));
    assert_eq!(receiver.poll_timeout(), None, "the dial is the owner's to bound");
    receiver.handle_open(T0);
    assert!(receiver.poll_transmit(&mut queue) && !receiver.poll_transmit(&mut queue));
    let mut slices = [&[][..]; 4];
    let used = queue.slices(&mut slices);
    let bytes = slices[..used].concat();
    let Ok(Parse::Complete { value, used }) = TwoPart::parse(&bytes, &Limits::default()) else { panic!() };
    let handshake = Handshake { subject: "subject".into(), stream_type: StreamType::Request };
    assert_eq!((Handshake::read(value.header), value.body, used), (Ok(handshake), &b""[..], bytes.len()));
}

#[test]
fn items_come_out_bare_then_the_end_however_the_bytes_are_cut() {
    let bytes = [frame(b"", b"1"), frame(b"", b"{\"a\":2}"), word(Word::Sentinel)].concat();
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let mut receiver = open(Config::default());
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                receiver.handle_recv(part, T0).unwrap();
            }
            assert!(events(&mut receiver).iter().all(|event| *event == Event::Readable));
            let items = vec![Bytes::from_static(b"1"), Bytes::from_static(b"{\"a\":2}")];
            assert_eq!(read(&mut receiver), (items, true), "cut at {first} and {second}");
            assert_eq!((receiver.state(), receiver.held(), receiver.wanted()), (State::Ended, 0, 0));
        }
    }
}

#[test]
fn no_items_at_all_are_a_request_too() {
    let mut receiver = open(Config::default());
    assert_eq!(read(&mut receiver), (vec![], false));
    receiver.handle_recv(&word(Word::Sentinel), T0).unwrap();
    assert_eq!((events(&mut receiver), read(&mut receiver)), (vec![Event::Readable], (vec![], true)));
}

#[test]
fn every_frame_of_a_request_stream_means_what_the_table_says() {
    type Row = (&'static [u8], &'static [u8], &'static [Event], bool, State);
    let rows: [Row; 11] = [
        (b"", b"1", &[Event::Readable], true, State::Reading),
        (b"\"sentinel\"", b"", &[Event::Readable], true, State::Ended),
        (b"\"stop\"", b"", &[Event::Stop], true, State::Ended),
        (b"\"kill\"", b"", &[Event::Kill], true, State::Ended),
        (b"", b"", &[Event::Kill], false, State::Closing),
        (b"\"stop\"", b"1", &[Event::Kill], false, State::Closing),
        (b"\"sentinel\"", b"1", &[Event::Kill], false, State::Closing),
        (b"\"Stop\"", b"", &[Event::Kill], false, State::Closing),
        (b"\"pause\"", b"", &[Event::Kill], false, State::Closing),
        (b"no json", b"", &[Event::Kill], false, State::Closing),
        (b"{\"error\":null}", b"", &[Event::Kill], false, State::Closing),
    ];
    for (header, body, told, fine, state) in rows {
        let mut receiver = open(Config::default());
        assert_eq!(receiver.handle_recv(&frame(header, body), T0).is_ok(), fine, "{header:?} {body:?}");
        assert_eq!((&events(&mut receiver)[..], receiver.state()), (told, state), "{header:?} {body:?}");
    }
    let mut wrong = open(Config::default());
    let bytes = Head { header_len: 0, body_len: 1, checksum: 7 }.to_bytes();
    assert!(matches!(wrong.handle_recv(&[&bytes[..], b"1"].concat(), T0), Err(Fault::Wire(_))));
    assert_eq!(events(&mut wrong), [Event::Kill]);
}

#[test]
fn what_comes_after_the_last_word_is_dropped_and_the_caller_closes_first() {
    for last in Word::ALL {
        let mut receiver = open(Config::default());
        receiver.handle_recv(&[word(last), frame(b"", b"late"), word(Word::Kill)].concat(), T0).unwrap();
        assert_eq!((events(&mut receiver).len(), receiver.held()), (1, 0));
        receiver.handle_recv(b"anything at all, for that matter", T0).unwrap();
        assert_eq!((receiver.poll_close(T0), receiver.poll_timeout().unwrap().why), (None, Reason::CallHomeFin));
        receiver.handle_eof(T0);
        assert_eq!((events(&mut receiver), receiver.poll_close(T0)), (vec![], Some(Closing::Flush)));
    }
}

#[test]
fn a_caller_that_closes_before_its_last_word_has_broken_off() {
    for before in [vec![], frame(b"", b"1"), frame(b"", b"half")[..26].to_vec()] {
        let mut receiver = open(Config::default());
        receiver.handle_recv(&before, T0).unwrap();
        receiver.handle_eof(T0);
        assert_eq!(events(&mut receiver).last(), Some(&Event::Kill));
        assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));
    }
}

#[test]
fn an_item_too_large_is_refused_by_its_lengths_and_unread_ones_have_a_bound() {
    let mut receiver = open(Config { max_item: 8, ..Config::default() });
    receiver.handle_recv(&frame(b"", &[0; 8]), T0).unwrap();
    let head = Head { header_len: 0, body_len: 9, checksum: 0 }.to_bytes();
    assert_eq!(receiver.handle_recv(&head, T0), Err(Fault::ItemTooLarge { declared: 9, limit: 8 }));
    assert_eq!((events(&mut receiver), receiver.held()), (vec![Event::Readable, Event::TooLarge], 72));

    let mut receiver = open(Config { max_unread: 140, ..Config::default() });
    receiver.handle_recv(&frame(b"", &[7; 200]), T0).unwrap();
    assert_eq!(receiver.poll_flow(), Some(Flow::Pause));
    assert_eq!(read(&mut receiver).0.len(), 1, "one is always taken");
    assert_eq!(receiver.poll_flow(), Some(Flow::Resume));
    // A driver that pauses brings a burst at the most.
    let large = frame(b"", &vec![2; 22 << 20]);
    for _ in 0..4 {
        receiver.handle_recv(&large, T0).unwrap();
    }
    assert_eq!(events(&mut receiver), [Event::Readable, Event::Readable, Event::Overrun]);
    assert_eq!((receiver.held(), receiver.poll_close(T0)), (3 * ((22 << 20) + 64), Some(Closing::Flush)));
    assert_eq!(receiver.poll_flow(), None, "the close ends the pause");
}

#[test]
fn silence_has_a_bound_and_so_have_the_last_word_and_the_close() {
    let mut receiver = open(Config::default());
    let late = T0 + Config::default().item_timeout / 2;
    receiver.handle_recv(&frame(b"", b"1"), late).unwrap();
    let deadline = receiver.poll_timeout().unwrap();
    assert_eq!((deadline.at, deadline.why), (late + Config::default().item_timeout, Reason::ItemGap));
    assert_eq!(receiver.handle_timeout(deadline.at), Ok(()), "the handler is slow, not the caller");
    assert_eq!(read(&mut receiver).0.len(), 1);
    let deadline = receiver.poll_timeout().unwrap();
    assert_eq!(receiver.handle_timeout(deadline.at), Err(Fault::Silent));
    assert_eq!(events(&mut receiver), [Event::Readable, Event::Silent]);
    assert_eq!(receiver.poll_close(deadline.at), Some(Closing::Flush));
    let deadline = receiver.poll_timeout().unwrap();
    assert_eq!((deadline.why, receiver.poll_close(deadline.at)), (Reason::Drain, Some(Closing::Abort)));
    assert_eq!(receiver.poll_timeout(), None);

    let mut receiver = open(Config::default());
    receiver.handle_recv(&word(Word::Sentinel), T0).unwrap();
    let deadline = receiver.poll_timeout().unwrap();
    receiver.handle_timeout(deadline.at).unwrap();
    assert_eq!((deadline.why, receiver.poll_close(deadline.at)), (Reason::CallHomeFin, Some(Closing::Flush)));
}

#[test]
fn an_item_that_comes_a_byte_a_second_fails_the_call_and_one_of_two_kibibytes_a_second_does_not() {
    let whole = frame(b"", &[7; 100 << 10]);
    for (step, taken) in [(1, false), (2 << 10, true)] {
        let mut receiver = open(Config::default());
        let (mut now, mut outcome) = (T0, Ok(()));
        for part in whole.chunks(step) {
            now = now + Duration::from_secs(1);
            outcome = receiver.handle_timeout(now).and_then(|()| receiver.handle_recv(part, now));
            if outcome.is_err() {
                break;
            }
        }
        assert_eq!(outcome, if taken { Ok(()) } else { Err(Fault::Silent) }, "{step} bytes a second");
        assert_eq!(events(&mut receiver), [if taken { Event::Readable } else { Event::Silent }]);
        assert!(taken || now == T0 + Duration::from_secs(11), "{now:?}");
    }
}

#[test]
fn a_call_that_is_over_drops_what_still_comes_and_waits_for_the_caller_to_close() {
    let mut receiver = open(Config::default());
    receiver.handle_recv(&frame(b"", b"1"), T0).unwrap();
    receiver.leave(T0);
    receiver.handle_recv(&[frame(b"", b"2"), word(Word::Kill)].concat(), T0).unwrap();
    assert_eq!((events(&mut receiver), receiver.held()), (vec![Event::Readable], 0));
    assert_eq!((receiver.state(), receiver.poll_close(T0)), (State::Ended, None));
    receiver.handle_eof(T0);
    assert_eq!(receiver.poll_close(T0), Some(Closing::Flush));

    let mut receiver = Receiver::new(Config::default(), "subject", T0);
    receiver.leave(T0);
    assert_eq!(receiver.poll_close(T0), Some(Closing::Abort), "what is not up has nobody to wait for");
}
