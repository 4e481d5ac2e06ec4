//! Laws every wire format keeps, checked on any bytes.

use std::fmt::Debug;

use ringplane_core::wire::{Error, Format, Limits, Parse};

/// How a run of frames ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Exactly after a frame.
    Clean,
    /// Inside a frame.
    Inside,
    /// In bytes that are no frame.
    Broken(Error),
}

/// Every frame in `bytes`, and how they end. Checks each frame as [`frame_holds`].
pub fn frames<'a, F: Format<'a> + PartialEq + Debug>(bytes: &'a [u8], limits: &Limits) -> (Vec<F>, End) {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        match F::parse(rest, limits) {
            Ok(Parse::Complete { value, used }) => {
                frame_holds(&value, &rest[..used]);
                found.push(value);
                rest = &rest[used..];
            }
            Ok(Parse::Incomplete { needed }) => {
                assert!(needed > 0, "{}: nothing needed and yet incomplete", F::NAME);
                return (found, End::Inside);
            }
            Err(error) => {
                assert!(error.offset <= rest.len(), "{}: {error} is beyond {} bytes", F::NAME, rest.len());
                return (found, End::Broken(error));
            }
        }
    }
    (found, End::Clean)
}

/// A frame parsed from exactly `bytes` is written back as those bytes, and not into less room.
pub fn frame_holds<'a, F: Format<'a>>(frame: &F, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{}: a frame of no bytes", F::NAME);
    assert_eq!(frame.emitted_len(), bytes.len(), "{}", F::NAME);
    let mut out = vec![0; bytes.len()];
    assert_eq!(frame.emit(&mut out), Ok(bytes.len()), "{}", F::NAME);
    assert_eq!(out, bytes, "{}", F::NAME);
    let short = out.len() - 1;
    assert!(frame.emit(&mut out[..short]).is_err(), "{}: written beyond its room", F::NAME);
}

/// `bytes` arriving in three pieces give the same frames and the same end, wherever the cuts are. Of long inputs about
/// 20 000 pairs of cuts are tried.
pub fn cuts_do_not_matter<'a, F: Format<'a> + PartialEq + Debug>(bytes: &'a [u8], limits: &Limits) {
    let whole = frames::<F>(bytes, limits);
    let step = (bytes.len() / 200).max(1);
    for first in (0..=bytes.len()).step_by(step) {
        for second in (first..=bytes.len()).step_by(step) {
            assert_eq!(in_pieces::<F>(bytes, &[first, second], limits), whole, "{} cut at {first}, {second}", F::NAME);
        }
    }
}

/// Every proper prefix of a frame is incomplete; what it says is needed never exceeds the frame; and giving it just that,
/// again and again, completes the same frame. Of long frames about 2 000 prefixes are tried.
pub fn prefixes_are_incomplete<'a, F: Format<'a> + PartialEq + Debug>(frame: &'a [u8], limits: &Limits) {
    let Ok(Parse::Complete { value, used }) = F::parse(frame, limits) else {
        panic!("{}: not a frame", F::NAME);
    };
    for len in (0..used).step_by((used / 2000).max(1)) {
        let mut have = len;
        while have < used {
            match F::parse(&frame[..have], limits) {
                Ok(Parse::Incomplete { needed }) => have += needed.max(1),
                other => panic!("{}: {have} of {used} bytes give {other:?}", F::NAME),
            }
        }
        assert_eq!(have, used, "{}: more was asked for than the frame has", F::NAME);
    }
    assert_eq!(F::parse(&frame[..used], limits), Ok(Parse::Complete { value, used }));
}

/// Bytes changed at random, `rounds` times from `seed`, are parsed without panic and by the same laws.
pub fn mutations_are_survived(bytes: &[u8], seed: u64, rounds: usize, mut check: impl FnMut(&[u8])) {
    let mut state = seed | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).expect("below fits")
    };
    for _ in 0..rounds {
        let mut changed = bytes.to_vec();
        for _ in 0..=random(3) {
            let at = random(changed.len());
            match random(4) {
                0 => changed.truncate(at),
                1 => changed.insert(at, random(256) as u8),
                _ if changed.is_empty() => {}
                2 => changed[at] ^= 1 << random(8),
                _ => changed[at] = [0, 1, 0x7F, 0x80, 0xFF][random(5)],
            }
        }
        check(&changed);
    }
}

fn in_pieces<'a, F: Format<'a> + PartialEq + Debug>(bytes: &'a [u8], cuts: &[usize], limits: &Limits) -> (Vec<F>, End) {
    let mut found = Vec::new();
    let mut at = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        while at < end {
            match F::parse(&bytes[at..end], limits) {
                Ok(Parse::Complete { value, used }) => {
                    found.push(value);
                    at += used;
                }
                Ok(Parse::Incomplete { .. }) => break,
                Err(error) => return (found, End::Broken(error)),
            }
        }
    }
    (found, if at == bytes.len() { End::Clean } else { End::Inside })
}
