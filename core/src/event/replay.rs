//! What a publisher keeps of its events, for subscribers that did not get them.

use alloc::collections::VecDeque;

use crate::event::message::Message;
use crate::event::tracker::Gap;

/// How much a publisher keeps.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Events. Default 4,096.
    pub max_events: usize,
    /// Bytes of their envelopes; the newest event is kept whatever its size. Default 16 MiB.
    pub max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_events: 4096, max_bytes: 16 << 20 }
    }
}

/// The newest events of one publisher, each under its number.
#[derive(Debug)]
pub struct Ring {
    config: Config,
    kept: VecDeque<Message>,
    bytes: usize,
}

impl Ring {
    /// One that keeps nothing yet.
    pub const fn new(config: Config) -> Self {
        Self { config, kept: VecDeque::new(), bytes: 0 }
    }

    /// Keeps an event, which is the next of its publisher, and lets go of the oldest until the bounds hold.
    pub fn push(&mut self, message: Message) {
        self.bytes += message.envelope.len();
        self.kept.push_back(message);
        while self.kept.len() > 1 && (self.kept.len() > self.config.max_events || self.bytes > self.config.max_bytes) {
            let oldest = self.kept.pop_front().map_or(0, |message| message.envelope.len());
            self.bytes = self.bytes.saturating_sub(oldest);
        }
    }

    /// What is kept of the numbers from `first` to `last`, in their order.
    pub fn range(&self, first: u64, last: u64) -> impl Iterator<Item = &Message> {
        let begin = self.kept.partition_point(|message| message.sequence < first);
        self.kept.range(begin..).take_while(move |message| message.sequence <= last)
    }

    /// Bytes of what is kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Of what came back for a gap, the events that belong into it, in their order. `newest` is the time of the event behind the
/// gap: what was published later is of a publisher that has begun anew and counts from 0 again.
pub(crate) fn belongs(gap: &Gap, newest: Option<u64>, found: impl IntoIterator<Item = Message>) -> VecDeque<Message> {
    let mut events = VecDeque::new();
    let mut next = gap.first;
    for message in found {
        let Message { publisher, sequence, published_at, .. } = message;
        let fits = publisher == gap.publisher && (next..=gap.last).contains(&sequence);
        if fits && newest.is_none_or(|newest| published_at <= newest) {
            next = sequence.saturating_add(1);
            events.push_back(message);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::discovery::event::PublisherId;
    use crate::event::publisher::Publisher;

    fn sequences<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<u64> {
        messages.into_iter().map(|message| message.sequence).collect()
    }

    #[test]
    fn a_ring_keeps_the_newest_within_its_bounds() {
        let mut publisher = Publisher::new(PublisherId(5), "t");
        let mut ring = Ring::new(Config { max_events: 4, max_bytes: 1 << 20 });
        assert_eq!(ring.range(0, u64::MAX).count(), 0);
        (0..10).for_each(|_| ring.push(publisher.seal(1, b"x").unwrap()));
        assert_eq!(sequences(ring.range(0, u64::MAX)), [6, 7, 8, 9]);
        assert_eq!(sequences(ring.range(7, 8)), [7, 8]);
        assert_eq!((ring.range(0, 5).count(), ring.range(10, 99).count(), ring.range(8, 7).count()), (0, 0, 0));
        // One that is larger than all may be is kept alone.
        let mut ring = Ring::new(Config { max_events: 4, max_bytes: 100 });
        ring.push(publisher.seal(1, b"x").unwrap());
        ring.push(publisher.seal(1, &[0; 1000]).unwrap());
        assert_eq!((sequences(ring.range(0, u64::MAX)), ring.bytes() > 1000), ([11].into(), true));
    }

    #[test]
    fn what_does_not_belong_into_a_gap_is_left_out() {
        let gap = Gap { publisher: PublisherId(5), first: 2, last: 5, missing: 4 };
        let message = |publisher, sequence, published_at| {
            let envelope = bytes::Bytes::new();
            Message { publisher: PublisherId(publisher), sequence, published_at, payload: envelope.clone(), envelope }
        };
        let found = [(5, 1, 1), (5, 2, 1), (6, 3, 1), (5, 4, 9), (5, 4, 1), (5, 4, 1), (5, 3, 1), (5, 5, 2), (5, 6, 2)];
        let events = belongs(&gap, Some(2), found.map(|(publisher, sequence, at)| message(publisher, sequence, at)));
        assert_eq!(sequences(&events), [2, 4, 5]);
    }
}
