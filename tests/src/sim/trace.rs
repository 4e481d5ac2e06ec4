//! What happened, as one hash over everything and the last few notes in full.

use std::fmt;

use ringplane_core::id::ConnId;
use ringplane_core::time::Instant;

use super::rng::mix;

/// How many notes are kept to be printed when a run fails.
const KEPT: usize = 64;

/// The record of a run. Two runs with the same hash took the same course.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    notes: u64,
    last: Vec<Note>,
}

/// One thing that happened.
#[derive(Copy, Clone, Debug)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// The number of the host it happened to.
    pub host: u32,
    /// What.
    pub what: &'static str,
    /// On which connection, if any.
    pub conn: Option<ConnId>,
    /// How much, in the unit of `what`.
    pub amount: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0, notes: 0, last: Vec::with_capacity(KEPT) }
    }
}

impl Trace {
    /// Adds a note.
    pub fn note(&mut self, note: Note) {
        let conn = note.conn.map_or(0, |conn| conn.number() << 1 | u64::from(conn.is_dialed()));
        let text = note.what.bytes().fold(0, |text: u64, byte| text.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let word = u64::from(note.host) << 48 ^ conn << 24 ^ note.amount ^ text;
        self.hash = mix(self.hash ^ note.at.as_nanos()).wrapping_add(word);
        let slot = self.notes as usize % KEPT;
        self.notes += 1;
        match self.last.get_mut(slot) {
            Some(old) => *old = note,
            None => self.last.push(note),
        }
    }

    /// Mixes the bytes that arrived somewhere into the hash: their length, their start and their end.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let word = |part: &[u8]| part.iter().fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
        let start = word(&bytes[..bytes.len().min(8)]);
        let end = word(&bytes[bytes.len().saturating_sub(8)..]);
        self.hash = mix(self.hash ^ start).wrapping_add(end.rotate_left(17)) ^ bytes.len() as u64;
    }

    /// A number that differs between runs that differ.
    pub const fn hash(&self) -> u64 {
        mix(self.hash ^ self.notes)
    }
}

impl fmt::Display for Trace {
    /// The last notes, oldest first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = if self.last.len() < KEPT { 0 } else { self.notes as usize % KEPT };
        for note in self.last[split..].iter().chain(&self.last[..split]) {
            write!(f, "{:?} h{} {}", note.at, note.host, note.what)?;
            if let Some(conn) = note.conn {
                write!(f, " {conn:?}")?;
            }
            writeln!(f, " {}", note.amount)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(amount: u64) -> Note {
        Note { at: Instant::from_nanos(3), host: 1, what: "sent", conn: Some(ConnId::dialed(2)), amount }
    }

    #[test]
    fn the_hash_tells_courses_apart_and_the_order_counts() {
        let hash = |amounts: &[u64]| {
            let mut trace = Trace::default();
            amounts.iter().for_each(|amount| trace.note(note(*amount)));
            trace.hash()
        };
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[]), hash(&[0]));
    }

    #[test]
    fn only_the_last_notes_are_kept_oldest_first() {
        let mut trace = Trace::default();
        (0..100).for_each(|amount| trace.note(note(amount)));
        let text = trace.to_string();
        assert_eq!(text.lines().count(), KEPT);
        assert_eq!(text.lines().next(), Some("0.000000003s h1 sent dial2 36"));
    }
}
