//! Target: the deframer, with its input cut anywhere.

use ringplane_core::buf::{Deframer, Piece};
use ringplane_core::wire::mux::Preface;
use ringplane_core::wire::{Crc32c, Error, Limits};

use super::mux::seal;

/// Bounds that a short input can reach.
const LIMITS: Limits = Limits { max_fragment: 300, max_mux_header: 300, ..limits() };

const fn limits() -> Limits {
    Limits { max_message: 0, max_header: 0, max_body: 0, max_fragment: 0, max_mux_header: 0 }
}

/// The most the deframer may keep: a header, in a vector that grows by doubling, or what it keeps between frames.
const MAX_CARRY: usize = 2 * 300;

/// Bytes cut anywhere give the pieces, and the error, of the whole. The first byte says how `data` is used: raw, behind a
/// preface, or as sealed frames of which a byte may be changed; the second one seeds the cuts.
pub fn deframer(data: &[u8]) {
    let Some(([mode, seed], rest)) = data.split_first_chunk() else { return };
    let bytes = match mode % 4 {
        0 => rest.to_vec(),
        1 => [&Preface::OURS.to_bytes(), rest].concat(),
        _ => stream(rest, mode % 4 == 3),
    };
    let whole = read(&bytes, |_, _| usize::MAX);
    assert_eq!(read(&bytes, |_, _| 1), whole, "byte by byte");
    assert_eq!(read(&bytes, |_, wanted| wanted.max(1)), whole, "as wanted");
    let mut state = u64::from(*seed) + 1;
    let random = |_, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 59).expect("five bits") + 1
    };
    assert_eq!(read(&bytes, random), whole, "cut at random");
}

/// A preface and sealed frames; with one byte of it flipped if `broken`.
fn stream(data: &[u8], broken: bool) -> Vec<u8> {
    let mut bytes = Preface::OURS.to_bytes().to_vec();
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first() {
        let (frame, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        bytes.extend(seal(frame).unwrap_or_default());
        rest = tail;
    }
    if broken && let Some(first) = data.first() {
        let at = usize::from(*first) * 7 % bytes.len();
        bytes[at] ^= 1 << (first % 8);
    }
    bytes
}

/// The pieces with bodies joined, and the error if there is one. `cut` is told the bytes left and those wanted.
fn read(bytes: &[u8], mut cut: impl FnMut(usize, usize) -> usize) -> (Vec<String>, Vec<u8>, Option<Error>) {
    let mut deframer = Deframer::new(&LIMITS, Crc32c::PORTABLE);
    let (mut pieces, mut body, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let (mut chunk, tail) = rest.split_at(cut(rest.len(), deframer.wanted()).min(rest.len()));
        rest = tail;
        loop {
            match deframer.next(&mut chunk) {
                Ok(Some(Piece::Body(bytes))) => {
                    assert!(!bytes.is_empty());
                    body.extend_from_slice(bytes);
                }
                // How bytes are cut decides whether an item comes whole or in pieces; it shall be the same item.
                Ok(Some(Piece::Whole { head, body: bytes })) => {
                    pieces.push(told(&Piece::Item { head, header: &[] }, &body));
                    body.extend_from_slice(bytes);
                    pieces.push(told(&Piece::ItemEnd, &body));
                }
                Ok(Some(piece)) => pieces.push(told(&piece, &body)),
                Ok(None) => break,
                Err(error) => return (pieces, body, Some(error)),
            }
            assert!(deframer.memory() <= MAX_CARRY, "{} bytes carried", deframer.memory());
        }
        assert!(chunk.is_empty(), "bytes left lying");
        assert!(deframer.memory() <= MAX_CARRY, "{} bytes carried", deframer.memory());
        assert!(deframer.wanted() <= 20 + 600);
    }
    (pieces, body, None)
}

fn told(piece: &Piece<'_>, body: &[u8]) -> String {
    format!("{piece:?} after {} bytes of bodies", body.len())
}
