//! Fixed inputs: bodies, frames, streams of frames, candidates.

use bytes::Bytes;
use ringplane_core::buf::Deframer;
use ringplane_core::id::{InstanceId, StreamId};
use ringplane_core::route::policy::pick::Candidate;
use ringplane_core::wire::checksum::Crc32c;
use ringplane_core::wire::mux::{Head, Kind, Preface};
use ringplane_core::wire::parse::Limits;

/// Body sizes to measure with, in bytes: a token, a network packet, a receive buffer, a whole frame.
pub const SIZES: [usize; 4] = [64, 1400, 16 << 10, 64 << 10];

/// The checksum the facade uses.
pub fn crc() -> Crc32c {
    Crc32c::new(crc32c::crc32c_append)
}

/// `len` bytes that do not compress to a pattern a checksum could profit from.
pub fn body(len: usize) -> Bytes {
    (0..len).map(|at| (at * 131 + (at >> 8) * 17) as u8).collect()
}

/// One item frame with a body of `len` bytes.
///
/// # Panics
/// If `len` exceeds what a frame can hold.
pub fn item(len: usize) -> Vec<u8> {
    let body = body(len);
    let head = Head::seal(Kind::Item, 0, StreamId(1), &[], &body, crc()).expect("a body fits its length field");
    [&head, body.as_ref()].concat()
}

/// A connection's bytes: the preface, then `count` items of `len` bytes.
pub fn stream(count: usize, len: usize) -> Vec<u8> {
    let mut bytes = Preface::OURS.to_bytes().to_vec();
    let item = item(len);
    (0..count).for_each(|_| bytes.extend_from_slice(&item));
    bytes
}

/// Reads `bytes` in portions of `portion` and counts the pieces found.
///
/// # Panics
/// If the bytes are no frames.
pub fn deframe(bytes: &[u8], portion: usize) -> usize {
    let mut deframer = Deframer::new(Limits::default(), crc());
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
