//! Target: the worker's end of a request stream.

use std::task::Poll;

use bytes::Bytes;
use ringplane_core::dynamo::items::receiver::{Config, Event, Receiver, State};
use ringplane_core::protocol::Closing;
use ringplane_core::time::Instant;

const LIMIT: usize = 2048;
/// What an item counts for besides its bytes.
const ITEM: usize = 64;

/// The first byte says how the rest, which comes from the caller, is cut, and the second what the handler does. Items,
/// events and the fault do not depend on the cut; the call is ended at most once, and by nothing after its end; no more is
/// held than may be; and it closes.
pub fn stream_fetcher(data: &[u8]) {
    let Some(([cut, mode], bytes)) = data.split_first_chunk() else { return };
    let whole = run(bytes, bytes.len().max(1), *mode);
    let pieces = run(bytes, usize::from(*cut) + 1, *mode);
    assert_eq!(whole, pieces);
}

fn run(bytes: &[u8], step: usize, mode: u8) -> (Vec<Bytes>, bool, Vec<Event>) {
    let mut now = Instant::ZERO;
    let config = Config { max_item: LIMIT, max_unread: 2 * LIMIT, ..Config::default() };
    let mut receiver = Receiver::new(config, "subject", now);
    // A socket that is not up brings nothing.
    let up = mode & 1 == 0;
    let bytes = if up { bytes } else { &[] };
    if up {
        receiver.handle_open(now);
    }
    let (mut events, mut faulty) = (Vec::new(), false);
    for piece in bytes.chunks(step) {
        faulty |= receiver.handle_recv(piece, now).is_err();
        // Nothing pauses here, so that all of it may come.
        assert!(receiver.held() <= (ITEM + 1) * bytes.len());
        // How often it is said that there is something to read depends on how fast it is read.
        events.extend(std::iter::from_fn(|| receiver.poll_event()).filter(|event| *event != Event::Readable));
    }
    if up && mode & 2 == 0 {
        receiver.handle_eof(now);
        events.extend(std::iter::from_fn(|| receiver.poll_event()).filter(|event| *event != Event::Readable));
    }
    let (mut items, mut complete) = (Vec::new(), false);
    while let Poll::Ready(item) = receiver.recv() {
        complete = item.is_none();
        let Some(item) = item else { break };
        items.push(item);
    }
    assert!(events.len() <= 1 && (!faulty || matches!(events[..], [Event::Kill | Event::TooLarge])), "{events:?}");
    assert!(!complete || events.is_empty(), "what is complete is not broken off");
    assert!(items.iter().all(|item| !item.is_empty() && item.len() <= LIMIT));
    if receiver.state() == State::Reading {
        receiver.leave(now);
    }
    for _ in 0..4 {
        if receiver.poll_close(now) == Some(Closing::Abort) {
            break;
        }
        let deadline = receiver.poll_timeout().expect("it is bounded until it closes");
        assert!(deadline.at > now, "time goes on");
        now = deadline.at;
        assert_eq!(receiver.handle_timeout(now), Ok(()));
    }
    assert_eq!((receiver.poll_timeout(), receiver.poll_close(now)), (None, None), "it is closed for good");
    (items, complete, events)
}
