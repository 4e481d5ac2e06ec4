//! Rows of the bridge: what it costs that another thread makes a call and reads it, besides what the core's machines do.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ringplane_core::buf::slab::Key;
use ringplane_core::caller::request::Request;

use crate::cases::case::{Case, Work};
use crate::inputs::body;
use crate::runtime::crossing::{Brought, Crossing};
use crate::runtime::hub::Wakes;
use crate::runtime::known::Known;
use crate::runtime::lane::Hand;
use crate::runtime::port::Port;
use crate::runtime::room::Room;

/// Items that may be on the way, as by default.
const DEPTH: usize = 64;

/// Whole calls, with answers of one item and of many.
pub(super) fn cases() -> Vec<Case> {
    [1, 128].map(call).into()
}

fn call(items: usize) -> Case {
    let prepare = move |_| {
        let mut sides = Sides::new();
        move || sides.call(items)
    };
    Case::new(format!("bridge/a call and its items/{items}"), prepare).of(Work::Items(items as u64))
}

/// A core and a reader that take turns on one thread.
struct Sides {
    known: Arc<Known>,
    port: Arc<Port<Key>>,
    heard: Vec<Key>,
    brought: Brought,
    requests: Hand,
    wakes: Wakes,
    item: Bytes,
}

impl Sides {
    fn new() -> Self {
        Self {
            known: Arc::new(Known),
            port: Arc::default(),
            heard: Vec::new(),
            brought: Brought::default(),
            requests: Hand::default(),
            wakes: Wakes::default(),
            item: body(64),
        }
    }

    /// A reader that sleeps before each look of the core, which brings as many items as there is room for.
    fn call(&mut self, items: usize) -> usize {
        let key = Key { index: 0, generation: 0 };
        let cx = Context::from_waker(Waker::noop());
        let crossing = Crossing::new(self.port.clone(), DEPTH, (self.known.clone(), Request::default()), false);
        let (mut room, mut hand, mut left, mut read) = (Room::of(DEPTH), Hand::default(), items, 0);
        black_box(crossing.take_opening());
        loop {
            match crossing.poll_read(&mut hand, &cx) {
                Poll::Ready(Some(_)) => return read,
                Poll::Ready(None) => read += std::iter::from_fn(|| hand.pop()).map(black_box).count(),
                Poll::Pending => {
                    let _ = black_box(self.port.poll_take(&mut self.heard, &cx));
                    self.heard.clear();
                    while left > 0 && room.fits(self.item.len()) {
                        room.take(self.item.len());
                        self.brought.items.push(self.item.clone());
                        left -= 1;
                    }
                    self.brought.outcome = (left == 0).then_some(Ok(()));
                    self.brought.needs = (left > 0).then_some(self.item.len());
                    let news = crossing.exchange(key, &mut self.brought, &mut self.requests, &mut self.wakes);
                    self.wakes.give();
                    self.brought.clear();
                    room = news.room;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_read() {
        let mut sides = Sides::new();
        for items in [1, 128, 1] {
            assert_eq!(sides.call(items), items);
        }
    }
}
