//! Fixed inputs: bodies, frames, streams of frames, candidates, checksums.

use bytes::Bytes;
use ringplane_core::buf::Deframer;
use ringplane_core::id::{InstanceId, StreamId};
use ringplane_core::route::eligible::Candidate;
use ringplane_core::wire::checksum::Crc32c;
use ringplane_core::wire::mux::{Head, Kind, Preface};
use ringplane_core::wire::parse::Limits;

/// Body sizes to measure with, in bytes: a token, a network packet, a receive buffer, a whole frame.
pub const SIZES: [usize; 4] = [64, 1400, 16 << 10, 64 << 10];

/// The checksum the facade uses: by the processor's own means.
pub fn crc() -> Crc32c {
    Crc32c::new(ringplane_crc32c::append)
}

/// A checksum that costs nothing and that both sides of a connection agree on. Instructions are counted with it: the real
/// ones depend on the processor, have rows of their own, and would hide what changes beside them.
pub fn no_crc() -> Crc32c {
    Crc32c::new(|crc, _| crc)
}

/// `bytes` for the rest of the process, so that views of them may leave the function that is measured.
pub(crate) fn fixed(bytes: impl Into<Vec<u8>>) -> &'static [u8] {
    Vec::leak(bytes.into())
}

/// `len` bytes that do not compress to a pattern a checksum could profit from.
pub fn body(len: usize) -> Bytes {
    (0..len).map(|at| (at * 131 + (at >> 8) * 17) as u8).collect()
}

/// One frame with this header and body.
///
/// # Panics
/// If a part exceeds what a frame can hold.
pub(crate) fn frame(kind: Kind, header: &[u8], body: &[u8], crc: Crc32c) -> Vec<u8> {
    let head = Head::seal(kind, 0, StreamId(1), header, body, crc).expect("the parts fit their length fields");
    [&head, header, body].concat()
}

/// One item frame with a body of `len` bytes.
///
/// # Panics
/// If `len` exceeds what a frame can hold.
pub fn item(len: usize, crc: Crc32c) -> Vec<u8> {
    frame(Kind::Item, &[], &body(len), crc)
}

/// A connection's bytes: the preface, then `count` items of `len` bytes.
pub fn stream(count: usize, len: usize, crc: Crc32c) -> Vec<u8> {
    [Preface::OURS.to_bytes().to_vec(), item(len, crc).repeat(count)].concat()
}

/// Reads `bytes` in portions of `portion` and counts the pieces found.
///
/// # Panics
/// If the bytes are no frames.
pub fn deframe(bytes: &[u8], portion: usize, crc: Crc32c) -> usize {
    let mut deframer = Deframer::new(&Limits::DEFAULT, crc);
    let mut pieces = 0;
    for chunk in bytes.chunks(portion) {
        let mut input = chunk;
        while deframer.next(&mut input).expect("well-formed frames").is_some() {
            pieces += 1;
        }
    }
    pieces
}

/// `count` instances nothing is known about.
pub fn candidates(count: u64) -> Vec<Candidate> {
    (1..=count).map(|id| Candidate::new(InstanceId(id))).collect()
}
