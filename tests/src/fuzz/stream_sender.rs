//! Target: the worker's end of a call-home connection.

use bytes::Bytes;
use ringplane_core::buf::SendQueue;
use ringplane_core::dynamo::response::sender::{Config, Event, Sender};
use ringplane_core::time::Instant;
use ringplane_core::wire::dynamo::failure_key::Key;
use ringplane_core::wire::{Codec, Failure, Format, Limits, Parse, TwoPart, Word};

/// The first byte says how the rest, which comes from the caller, is cut, and the second what the handler does. What the
/// caller makes happen does not depend on the cut; it cancels at most once; what is written is whole frames, handshake
/// first, and the sentinel last exactly if the call was not cancelled.
pub fn stream_sender(data: &[u8]) {
    let Some(([cut, mode], bytes)) = data.split_first_chunk() else { return };
    let whole = run(bytes, bytes.len().max(1), *mode);
    let pieces = run(bytes, usize::from(*cut) + 1, *mode);
    assert_eq!(whole, pieces);
}

fn run(bytes: &[u8], step: usize, mode: u8) -> (bool, Vec<Event>, Vec<u8>) {
    let now = Instant::ZERO;
    let codec = if mode & 1 == 0 { Codec::Json } else { Codec::Msgpack };
    let mut sender = Sender::new(Config::default(), codec, "subject", now);
    let mut written = Vec::new();
    if mode & 2 == 0 {
        sender.start();
        for item in 0..usize::from(mode >> 5) {
            sender.send(Bytes::from(vec![b'1'; item * 700])).expect("seven items fit");
        }
    }
    sender.handle_open(now);
    if mode & 4 == 0 {
        pull(&mut sender, &mut written);
    }
    let mut faulty = false;
    for piece in bytes.chunks(step) {
        faulty |= sender.handle_recv(piece, now).is_err();
    }
    let events: Vec<Event> = std::iter::from_fn(|| sender.poll_event()).collect();
    let cancels = events.iter().filter(|event| **event != Event::Writable).count();
    assert!(cancels <= 1 && (!faulty || cancels == 1), "{events:?}");
    let failure = (mode & 8 != 0).then(|| Failure::new(Key::InvalidArgument, "no"));
    match failure {
        Some(failure) if mode & 2 != 0 => sender.fail(failure, now),
        failure => {
            sender.start();
            sender.finish(failure, now);
        }
    }
    pull(&mut sender, &mut written);
    check(&written, cancels == 0);
    (faulty, events, written)
}

fn pull(sender: &mut Sender, written: &mut Vec<u8>) {
    let mut queue = SendQueue::new(1 << 20);
    while sender.poll_transmit(&mut queue, Instant::ZERO) {}
    let mut slices = [&[][..]; 32];
    let used = queue.slices(&mut slices);
    written.extend(slices[..used].concat());
    sender.handle_sent(queue.len(), Instant::ZERO);
}

fn check(written: &[u8], ended: bool) {
    let (mut rest, mut last) = (written, None);
    while !rest.is_empty() {
        let Ok(Parse::Complete { value, used }) = TwoPart::parse(rest, &Limits::default()) else {
            panic!("what is written is whole frames")
        };
        assert_ne!(last, Some(Word::Sentinel), "the sentinel is the last word");
        last = Word::read(value.header).ok();
        rest = &rest[used..];
    }
    assert_eq!(last == Some(Word::Sentinel), ended);
}
