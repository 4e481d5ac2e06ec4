//! Target: the caller's end of a call-home connection.

use ringplane_core::buf::SendQueue;
use ringplane_core::dynamo::response::receiver::{Config, Piece, Receiver, State};
use ringplane_core::protocol::{Closing, Fault};
use ringplane_core::time::Instant;
use ringplane_core::wire::{Codec, Format, Limits, Parse, TwoPart, Word};

const LIMIT: usize = 2048;
/// The most a frame holds beside its item: what comes before it, and the longest header.
const HEAD: usize = 24 + (128 << 10);

/// The first byte says how the rest, which comes from the worker, is cut, and the second what the caller does. Pieces and
/// the fault do not depend on the cut; pieces come in the only order there is; no more is held than one frame; what is
/// written is whole words; and it ends.
pub fn stream_receiver(data: &[u8]) {
    let Some(([cut, mode], bytes)) = data.split_first_chunk() else { return };
    let whole = run(bytes, bytes.len().max(1), *mode);
    let pieces = run(bytes, usize::from(*cut) + 1, *mode);
    assert_eq!(whole, pieces);
    let mut before = None;
    for piece in &whole.0 {
        assert!(follows(before, piece), "{piece:?} after {before:?}");
        before = Some(piece);
    }
}

fn follows(before: Option<&Piece>, piece: &Piece) -> bool {
    match before {
        None => matches!(piece, Piece::Subject(..)),
        Some(Piece::Subject(..)) => matches!(piece, Piece::Started | Piece::Refused(..)),
        Some(Piece::Started | Piece::Item(_)) => {
            matches!(piece, Piece::Item(_) | Piece::Failed(_) | Piece::End | Piece::Cut)
        }
        Some(Piece::Refused(..) | Piece::Failed(_) | Piece::End | Piece::Cut) => false,
    }
}

fn run(bytes: &[u8], step: usize, mode: u8) -> (Vec<Piece>, Option<Fault>) {
    let mut now = Instant::ZERO;
    let codec = if mode & 1 == 0 { Codec::Json } else { Codec::Msgpack };
    let mut receiver = Receiver::new(Config { max_item: LIMIT, ..Config::default() }, now);
    let (mut pieces, mut fault) = (Vec::new(), None);
    for mut input in bytes.chunks(step) {
        loop {
            match receiver.next(&mut input, now) {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    match &piece {
                        Piece::Subject(..) => receiver.claim(codec),
                        Piece::Started if mode & 2 != 0 => receiver.stop(),
                        Piece::Item(_) if mode & 4 != 0 => receiver.kill(now),
                        _ => {}
                    }
                    pieces.push(piece);
                }
                Err(error) => {
                    assert_eq!(fault, None, "one fault ends it");
                    fault = Some(error);
                }
            }
        }
        assert!(input.is_empty(), "everything is taken");
        assert!(receiver.held() <= LIMIT + HEAD);
    }
    if matches!(receiver.state(), State::Prologue | State::Items) {
        // A call has bounds of its own.
        receiver.close(Closing::Flush, now);
    }
    if mode & 8 == 0 {
        written(&mut receiver);
    }
    while receiver.poll_close(now).is_none() {
        let deadline = receiver.poll_timeout().expect("it is bounded until it closes");
        assert!(deadline.at > now, "time goes on");
        now = deadline.at;
        receiver.handle_timeout(now);
    }
    (pieces, fault)
}

/// What the caller says is stop, kill, or both.
fn written(receiver: &mut Receiver) {
    let mut queue = SendQueue::new(1 << 20);
    while receiver.poll_transmit(&mut queue) {}
    let mut slices = [&[][..]; 4];
    let used = queue.slices(&mut slices);
    let said = slices[..used].concat();
    let mut rest = said.as_slice();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let Ok(Parse::Complete { value, used }) = TwoPart::parse(rest, &Limits::default()) else {
            panic!("what is written is whole frames")
        };
        words.extend(Word::read(value.header).ok());
        rest = &rest[used..];
    }
    assert!(matches!(words.as_slice(), [] | [Word::Stop | Word::Kill] | [Word::Stop, Word::Kill]), "{words:?}");
}
