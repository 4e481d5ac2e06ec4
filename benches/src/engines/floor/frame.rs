//! The frames of ringplane's mux and nothing around them: a checked head, a checked body.

use bytes::Bytes;

use crate::engine::Result;

/// Bytes of a head.
pub(crate) const HEAD: usize = 20;
/// The largest body of a frame.
pub(crate) const FRAGMENT: usize = 64 << 10;
/// The item continues in the stream's next frame.
pub(crate) const MORE: u8 = 1;
/// Nothing follows on this stream in this direction.
pub(crate) const LAST: u8 = 2;

const KIND: u8 = 3;
/// Bodies above this are sent from where they are, smaller ones are copied beside their heads.
const BY_REFERENCE: usize = 8 << 10;
/// Bytes gathered for one write.
const BATCH: usize = 256 << 10;

/// Bytes on their way out of one connection.
#[derive(Default, Debug)]
pub(crate) struct Out {
    copied: Vec<u8>,
    /// In order: the end of a run of `copied`, then a body by reference.
    large: Vec<(usize, Bytes)>,
    total: usize,
    sent: usize,
}

impl Out {
    /// Whether enough is gathered for a write.
    pub(crate) const fn is_full(&self) -> bool {
        self.total >= BATCH
    }

    /// Whether nothing is left to write.
    pub(crate) const fn is_empty(&self) -> bool {
        self.sent == self.total
    }

    /// Appends a frame.
    pub(crate) fn frame(&mut self, stream: u32, flags: u8, body: &Bytes) {
        let small = body.len() <= BY_REFERENCE;
        self.small(stream, flags, body, small);
        if !small {
            self.large.push((self.copied.len(), body.clone()));
            self.total += body.len();
        }
    }

    /// Appends a head, and the body too if it is to be copied.
    fn small(&mut self, stream: u32, flags: u8, body: &[u8], copy: bool) {
        let mut head = [0; HEAD];
        head[0] = KIND;
        head[1] = flags;
        head[4..8].copy_from_slice(&stream.to_be_bytes());
        head[8..12].copy_from_slice(&(body.len() as u32).to_be_bytes());
        head[12..16].copy_from_slice(&ringplane_crc32c::crc32c(body).to_be_bytes());
        let check = ringplane_crc32c::crc32c(&head[..16]);
        head[16..].copy_from_slice(&check.to_be_bytes());
        self.copied.extend_from_slice(&head);
        self.total += HEAD;
        if copy {
            self.copied.extend_from_slice(body);
            self.total += body.len();
        }
    }

    /// Appends an item of an answer.
    pub(crate) fn item(&mut self, stream: u32, flags: u8, item: &'static [u8]) {
        if item.len() <= BY_REFERENCE {
            self.small(stream, flags, item, true);
        } else {
            self.frame(stream, flags, &Bytes::from_static(item));
        }
    }

    /// What is left to write, as far as it fits; the number of slices used.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut used = 0;
        let mut take = |part: &'a [u8]| {
            if skip >= part.len() {
                skip -= part.len();
            } else if let Some(slot) = slices.get_mut(used) {
                *slot = std::io::IoSlice::new(&part[skip..]);
                skip = 0;
                used += 1;
            }
        };
        let mut from = 0;
        for (end, body) in &self.large {
            take(&self.copied[from..*end]);
            take(body);
            from = *end;
        }
        take(&self.copied[from..]);
        used
    }

    /// So many bytes have been written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.is_empty() {
            self.copied.clear();
            self.large.clear();
            (self.total, self.sent) = (0, 0);
        }
    }
}

/// A piece of a body.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Part<'a> {
    /// Its stream.
    pub(crate) stream: u32,
    /// The bytes.
    pub(crate) bytes: &'a [u8],
    /// Whether the item is complete with it.
    pub(crate) ends_item: bool,
    /// Whether the stream's direction is complete with it.
    pub(crate) ends_stream: bool,
}

/// Finds frames in the bytes of one connection. Bodies are checked and handed on where they lie, never gathered.
#[derive(Debug)]
pub(crate) struct Deframer {
    head: [u8; HEAD],
    have: usize,
    /// Of the frame whose body is under way.
    flags: u8,
    stream: u32,
    left: usize,
    expected: u32,
    crc: u32,
}

impl Default for Deframer {
    fn default() -> Self {
        Self { head: [0; HEAD], have: 0, flags: 0, stream: 0, left: 0, expected: 0, crc: 0 }
    }
}

impl Deframer {
    /// Reads `input`, all of it.
    ///
    /// # Errors
    /// If a checksum is wrong or what `part` says.
    pub(crate) fn read(&mut self, mut input: &[u8], mut part: impl FnMut(Part<'_>) -> Result<()>) -> Result<()> {
        loop {
            if self.have == HEAD {
                let (now, rest) = input.split_at(self.left.min(input.len()));
                if now.is_empty() && self.left > 0 {
                    return Ok(());
                }
                input = rest;
                self.crc = ringplane_crc32c::append(self.crc, now);
                self.left -= now.len();
                let ends = self.left == 0;
                if ends && self.crc != self.expected {
                    return Err("a body's checksum is wrong".into());
                }
                let (ends_item, ends_stream) = (ends && self.flags & MORE == 0, ends && self.flags & LAST != 0);
                part(Part { stream: self.stream, bytes: now, ends_item, ends_stream })?;
                if ends {
                    self.have = 0;
                }
            } else {
                if input.is_empty() {
                    return Ok(());
                }
                let (now, rest) = input.split_at((HEAD - self.have).min(input.len()));
                self.head[self.have..self.have + now.len()].copy_from_slice(now);
                self.have += now.len();
                input = rest;
                if self.have == HEAD {
                    self.begin()?;
                }
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        let word =
            |at: usize| u32::from_be_bytes([self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]]);
        let (stream, left, expected, check) = (word(4), word(8) as usize, word(12), word(16));
        if check != ringplane_crc32c::crc32c(&self.head[..16]) || self.head[0] != KIND || left > FRAGMENT {
            return Err("a head is wrong".into());
        }
        (self.flags, self.stream, self.left, self.expected, self.crc) = (self.head[1], stream, left, expected, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(out: &Out) -> Vec<u8> {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let used = out.slices(&mut slices);
        slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn frames_are_found_again_however_they_are_cut() {
        let mut out = Out::default();
        let large = Bytes::from(vec![7; FRAGMENT]);
        out.frame(1, MORE, &large);
        out.frame(1, LAST, &Bytes::from_static(b"end"));
        out.item(2, LAST, b"");
        let bytes = written(&out);
        for portion in [1, 19, 21, 4096, bytes.len()] {
            let (mut deframer, mut found, mut items, mut streams) = (Deframer::default(), 0, 0, 0);
            for chunk in bytes.chunks(portion) {
                let read = deframer.read(chunk, |part| {
                    found += part.bytes.len();
                    items += usize::from(part.ends_item);
                    streams += usize::from(part.ends_stream);
                    Ok(())
                });
                read.unwrap();
            }
            assert_eq!((found, items, streams), (FRAGMENT + 3, 2, 2), "in portions of {portion}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let mut out = Out::default();
        out.frame(1, LAST, &Bytes::from_static(b"a body"));
        let bytes = written(&out);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Deframer::default().read(&changed, |_| Ok(())).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_left_after_a_partial_write_is_the_rest() {
        let mut out = Out::default();
        out.frame(1, MORE, &Bytes::from(vec![7; FRAGMENT]));
        out.frame(1, LAST, &Bytes::from_static(b"end"));
        let bytes = written(&out);
        for sent in [1, 20, 100, bytes.len() - 200] {
            out.advance(sent);
            assert!(bytes.ends_with(&written(&out)) && !out.is_empty());
        }
    }
}
