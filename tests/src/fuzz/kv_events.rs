//! Target: batches of KV-cache events.

use bytes::Bytes;
use ringplane_core::event::kv::write::{self, Form, Hashes, Layout, Style};
use ringplane_core::event::kv::{Batch, Event, Limits, Subscriber, Tokens, subscriber};
use ringplane_core::time::Instant;

/// What can be read of a batch is written so that it reads the same, and a subscriber goes on whatever it is given.
pub fn kv_events(data: &[u8]) {
    if let Ok(batch) = Batch::read(data, &Limits::DEFAULT) {
        let (ts, rank, count) = (batch.ts, batch.rank.unwrap_or(0), batch.len());
        let mut seen = 0;
        let events: Vec<Event> = batch.inspect(|_| seen += 1).filter_map(Result::ok).collect();
        assert_eq!(seen, count, "each event of the shell is an event or an error");
        assert!(events.iter().map(size).sum::<usize>() <= data.len(), "a value takes a byte at least");
        for hashes in [Hashes::Integers, Hashes::Bytes] {
            again(ts, rank, &events, Style { form: Form::Map, hashes });
        }
        let mut out = Vec::new();
        let style = Style { form: Form::Array(Layout::V0_22), hashes: Hashes::Integers };
        write::batch(ts, rank, &events, style, &mut out).expect("what was read is written");
        let read = Batch::read(&out, &Limits::DEFAULT).expect("what was written is read");
        assert!(read.filter(Result::is_ok).count() == events.len());
    }
    let mut subscriber = Subscriber::new(subscriber::Config { replay: false, ..Default::default() });
    for seq in [0, 2] {
        subscriber.handle_live(seq, Bytes::copy_from_slice(data), Instant::ZERO);
        assert_eq!(subscriber.applied(), Some(seq), "nothing stops the cursor");
    }
}

fn again(ts: f64, rank: u32, events: &[Event], style: Style) {
    let mut out = Vec::new();
    write::batch(ts, rank, events, style, &mut out).expect("what was read is written");
    let read = Batch::read(&out, &Limits::DEFAULT).expect("what was written is read");
    assert_eq!((read.ts.to_bits(), read.rank), (ts.to_bits(), Some(rank)));
    assert!(read.map(|event| event.expect("what was written is read")).eq(events.iter().cloned()));
}

/// Values of the lists of an event.
fn size(event: &Event) -> usize {
    match event {
        Event::Stored(stored) => {
            let tokens =
                if let Tokens::Other { raw, .. } = &stored.token_ids { raw.len() } else { stored.token_ids.len() };
            stored.block_hashes.len() + tokens
        }
        Event::Removed(removed) => removed.block_hashes.len(),
        Event::Cleared => 0,
    }
}
