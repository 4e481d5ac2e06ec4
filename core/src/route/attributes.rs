//! What a request says to the policies of its caller, in words that only they understand.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

/// The most pairs of one request.
pub const MAX_PAIRS: usize = 64;

/// The most bytes of one request: the opaque ones, and those of all names and values together.
pub const MAX_BYTES: usize = 64 * 1024;

/// Bytes and pairs that policies see and nobody else: they do not travel. Kept for all tries of a call and lent to the policy,
/// never copied.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Attributes {
    bytes: Bytes,
    pairs: Vec<(Box<str>, Box<str>)>,
}

impl Attributes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes, such as hashes of a prompt's blocks, in place of those there were.
    pub fn set_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.bytes = bytes.into();
    }

    /// One pair more, or another value for a name.
    pub fn set(&mut self, name: impl Into<Box<str>>, value: impl Into<Box<str>>) {
        let (name, value) = (name.into(), value.into());
        match self.pairs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.pairs.push((name, value)),
        }
    }

    /// The opaque bytes; empty if there are none.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All pairs, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether they are within [`MAX_PAIRS`] and [`MAX_BYTES`].
    pub fn fits(&self) -> bool {
        let pairs: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.pairs.len() <= MAX_PAIRS && pairs.saturating_add(self.bytes.len()) <= MAX_BYTES
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_name_has_its_last_value_and_pairs_keep_their_order() {
        let mut attributes = Attributes::new();
        attributes.set("tenant", "a");
        attributes.set("lora", "x");
        attributes.set("tenant", "b");
        attributes.set_bytes(&b"\x01\x02"[..]);
        assert_eq!((attributes.get("tenant"), attributes.get("zone")), (Some("b"), None));
        assert!(attributes.iter().eq([("tenant", "b"), ("lora", "x")]));
        assert_eq!(attributes.bytes(), [1, 2]);
    }

    #[test]
    fn they_are_bounded_in_number_and_in_bytes() {
        let mut attributes = Attributes::new();
        (0..MAX_PAIRS).for_each(|n| attributes.set(format!("{n}"), ""));
        assert!(attributes.fits());
        attributes.set("one more", "");
        assert!(!attributes.fits());
        let mut attributes = Attributes::new();
        attributes.set_bytes(alloc::vec![0; MAX_BYTES]);
        assert!(attributes.fits());
        attributes.set("", "x");
        assert!(!attributes.fits());
    }
}
