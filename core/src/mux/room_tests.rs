//! Writers that share what a connection queues.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::room::FLOOR;
use crate::buf::slab::Key;
use crate::mux::config::Config;
use crate::mux::event::{Ending, Event};
use crate::mux::tests::{CALLER, Pair, WORKER};

const ITEM: usize = 100_000;
/// Room for two items and a half.
const CONFIG: fn() -> Config =
    || Config { connection_buffer: 250_100, send_buffer: 10 * ITEM, connection_window: 2 << 20, ..Config::default() };

fn item() -> Bytes {
    Bytes::from(vec![7; ITEM])
}

/// A pair with streams whose worker's ends are returned, by tag.
fn streams(count: u64) -> (Pair, Vec<(u64, Key)>) {
    let mut pair = Pair::new(CONFIG());
    for tag in 0..count {
        pair.open(tag);
    }
    pair.pump();
    pair.take_events(WORKER);
    let streams = pair.opened.iter().map(|(tag, key)| (*tag, *key)).collect();
    (pair, streams)
}

fn blocked(pair: &mut Pair, key: Key, item: Bytes) -> bool {
    matches!(pair.sides[WORKER].send(key, item), Err(SendError::Blocked(_)))
}

/// Has the worker's side write, and says who may write then.
fn write(pair: &mut Pair) -> Vec<u64> {
    pair.pump();
    let tag = |event| if let Event::Writable(tag) = event { Some(tag) } else { None };
    pair.take_events(WORKER).into_iter().filter_map(tag).collect()
}

#[test]
fn writers_wait_at_the_connections_sum_and_are_called_in_order_as_many_as_there_is_room_for() {
    let (mut pair, streams) = streams(7);
    let keys: Vec<Key> = streams.iter().map(|(_, key)| *key).collect();
    let waits: Vec<bool> = keys.iter().map(|key| blocked(&mut pair, *key, item())).collect();
    assert_eq!(waits, [false, false, true, true, true, true, true]);
    // Whoever comes later does not overtake, but for what is always taken.
    assert!(pair.sides[WORKER].outgoing() > 2 * ITEM && blocked(&mut pair, keys[0], item()));
    let called = write(&mut pair);
    assert_eq!(called, [streams[2].0, streams[3].0]);
    assert!(pair.sides[WORKER].outgoing() >= 2 * ITEM, "their room is kept");
    // One of them tries again, the other has no use for its room.
    assert!(!blocked(&mut pair, keys[2], item()));
    assert!(blocked(&mut pair, keys[5], item()), "it is not this one's turn");
    pair.sides[WORKER].end(keys[3], Ending::ok());
    assert_eq!(write(&mut pair), [streams[4].0, streams[5].0]);
    pair.sides[WORKER].forgo(keys[4]);
    assert!(!blocked(&mut pair, keys[5], item()));
    assert_eq!(write(&mut pair), [streams[4].0, streams[6].0, streams[0].0]);
    for key in keys {
        pair.sides[WORKER].end(key, Ending::ok());
    }
    pair.pump();
    assert_eq!((pair.sides[WORKER].outgoing(), pair.faults), (0, [None, None]));
}

#[test]
fn small_items_go_whatever_waits_and_an_item_larger_than_the_sum_goes_once_half_is_free() {
    let (mut pair, streams) = streams(4);
    let keys: Vec<Key> = streams.iter().map(|(_, key)| *key).collect();
    assert!(!blocked(&mut pair, keys[0], item()) && !blocked(&mut pair, keys[1], item()));
    assert!(blocked(&mut pair, keys[2], Bytes::from(vec![1; 4 * ITEM])), "larger than all there is");
    assert!(blocked(&mut pair, keys[3], Bytes::from_static(b"x")), "more than the floor is queued");
    assert_eq!(write(&mut pair), [streams[2].0]);
    assert!(!blocked(&mut pair, keys[2], Bytes::from(vec![1; 4 * ITEM])));
    assert_eq!(write(&mut pair), [streams[3].0]);
    assert!(!blocked(&mut pair, keys[3], Bytes::from_static(b"x")));
    write(&mut pair);
    // Room is kept for one that does not come; the floor is there for the others.
    assert_eq!(pair.sides[WORKER].reserve(keys[0], 1, true), Ok(true));
    assert!(!blocked(&mut pair, keys[1], Bytes::from(vec![1; FLOOR / 2])));
    assert!(matches!(pair.sides[WORKER].offer(keys[2], item(), false), Err(SendError::Blocked(_))));
    assert!(pair.sides[WORKER].offer(keys[3], Bytes::from(vec![1; FLOOR / 4]), false).is_ok());
}

#[test]
fn what_a_cancelled_rejected_or_forgotten_stream_held_is_free_again() {
    let (mut pair, streams) = streams(5);
    let keys: Vec<Key> = streams.iter().map(|(_, key)| *key).collect();
    assert!(!blocked(&mut pair, keys[0], item()) && !blocked(&mut pair, keys[1], item()));
    assert!(blocked(&mut pair, keys[2], item()));
    pair.sides[WORKER].abort(keys[0], Ending::ok());
    assert_eq!(pair.sides[WORKER].poll_event(), Some(Event::Writable(streams[2].0)));
    assert!(!blocked(&mut pair, keys[2], item()) && blocked(&mut pair, keys[3], item()));
    pair.sides[WORKER].reject(keys[2], crate::wire::mux::message::RejectCode::Overloaded, 0, "");
    assert_eq!(pair.sides[WORKER].poll_event(), Some(Event::Writable(streams[3].0)));
    pair.sides[WORKER].reject(keys[3], crate::wire::mux::message::RejectCode::Overloaded, 0, "");
    assert!(!blocked(&mut pair, keys[4], item()));
    pair.pump();
    assert_eq!(pair.sides[WORKER].outgoing(), 0);
    assert_eq!(pair.faults, [None, None]);
    assert_eq!(pair.sides[CALLER].outgoing(), 0);
}
