//! Target: envelopes and frames of events, and what a subscriber makes of any sequence of numbers.

use ringplane_core::discovery::PublisherId;
use ringplane_core::event::inbox::{Config, Inbox, Slow};
use ringplane_core::event::{Delivery, Envelope, Frame, Message};

use super::framing;

/// Frames keep the laws; an envelope that is read is the same once it is written; and a subscriber is never told more than came.
pub fn event(data: &[u8]) {
    framing::holds::<Frame<'_>>(data);
    if let Ok(envelope) = Envelope::read(data) {
        let mut out = Vec::new();
        envelope.write(&mut out).expect("it fits");
        assert_eq!(Envelope::read(&out), Ok(envelope));
        assert_eq!(envelope.written_len(), Ok(out.len()));
    }
    subscriber(data);
}

/// Each pair of bytes is an event: of which publisher, with which number and time.
fn subscriber(data: &[u8]) {
    let slow = if data.len().is_multiple_of(2) { Slow::DropOldest } else { Slow::DropNewest };
    let mut inbox = Inbox::new(Config { max_events: 4, max_publishers: 3, slow, ..Config::default() });
    let asks = data.len().is_multiple_of(3);
    if asks {
        inbox = inbox.asking();
    }
    let (mut came, mut handed, mut missing) = (0, 0, 0);
    for (turn, pair) in data.as_chunks::<2>().0.iter().enumerate() {
        let [who, number] = *pair;
        let publisher = PublisherId(u64::from(who % 4));
        let published_at = u64::from(who >> 2);
        let payload = bytes::Bytes::new();
        let event = |sequence| {
            let payload = payload.clone();
            Message { publisher, sequence, published_at, envelope: payload.clone(), payload }
        };
        inbox.push(event(number.into()));
        came += 1;
        if number % 16 == 15 {
            inbox.push_head(publisher, number.into());
        }
        while turn % 5 == 4 || turn * 2 + 2 >= data.len() - 1 {
            match inbox.pop() {
                Some(Delivery::Event(_)) => handed += 1,
                Some(Delivery::Gap(gap)) => {
                    assert!(gap.first <= gap.last && gap.missing == gap.last - gap.first + 1);
                    missing += gap.missing;
                }
                Some(_) => {}
                None => match inbox.wants() {
                    // Every other one is found, of the publisher that is at hand.
                    Some(gap) => inbox.handle_found((gap.first..=gap.last).filter(|n| n % 2 == 0).map(event)),
                    None => break,
                },
            }
        }
        assert!(inbox.len() <= 4 && inbox.tracker().publishers().count() <= 3);
    }
    let stats = inbox.stats();
    assert_eq!((stats.queued.received, stats.told.events, stats.told.missing), (came, handed, missing));
    let kept = stats.told.events + stats.told.duplicates + stats.queued.dropped + inbox.len() as u64;
    let asked = u64::from(inbox.wants().is_some());
    assert_eq!(kept + asked, came + stats.told.replayed);
}
