//! Calls over messages that know nothing of calls: each message begins with the number of its call and what it is. For
//! engines on message queues.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::engine::{Error, Result};
use crate::load::Call;

/// Bytes in front of a payload.
pub const PREFIX: usize = 9;
/// Payloads of up to so many bytes travel in one part with what is in front of them, which costs a copy; larger ones in a
/// part of their own, which costs a part.
pub const ONE_PART: usize = 4096;
/// The most that a server holds of an answer without an end, where nothing tells it how much was read: it sends no more.
pub const KEPT: usize = 256 << 20;

/// What a message is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    /// A request, or an item that others follow.
    Item,
    /// The last item of an answer.
    Last,
    /// Why an answer failed.
    Failed,
}

/// What stands in front of a payload.
pub fn prefix(number: u64, part: Part) -> [u8; PREFIX] {
    let mut bytes = [part as u8; PREFIX];
    if let Some(first) = bytes.first_chunk_mut() {
        *first = number.to_le_bytes();
    }
    bytes
}

/// The number, what it is, and the rest of a message's first part.
///
/// # Errors
/// If it is none of ours.
pub fn parse(first: &[u8]) -> Result<(u64, Part, &[u8])> {
    let (number, rest) = first.split_first_chunk::<8>().ok_or("a message without a number")?;
    let (part, rest) = rest.split_first().ok_or("a message that does not say what it is")?;
    let part = [Part::Item, Part::Last, Part::Failed].into_iter().find(|known| *known as u8 == *part);
    Ok((u64::from_le_bytes(*number), part.ok_or("a message of an unknown kind")?, rest))
}

/// The calls of one connection that wait for their answers.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    calls: Rc<RefCell<HashMap<u64, Slot>>>,
    next: Rc<Cell<u64>>,
}

#[derive(Debug, Default)]
struct Slot {
    parts: VecDeque<(Part, Bytes)>,
    waker: Option<Waker>,
}

impl Waiting {
    /// A new call and its number.
    pub fn open(&self) -> (u64, Reply) {
        let number = self.next.replace(self.next.get() + 1);
        self.calls.borrow_mut().insert(number, Slot::default());
        (number, Reply { number, waiting: self.clone(), over: false })
    }

    /// A message came. Nothing bounds what waits for a call whose reader is slow: a message has no sender to hold back.
    pub fn deliver(&self, number: u64, part: Part, payload: Bytes) {
        // A call that was given up is not there any more.
        if let Some(slot) = self.calls.borrow_mut().get_mut(&number) {
            slot.parts.push_back((part, payload));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

/// An answer as it comes.
#[derive(Debug)]
pub struct Reply {
    number: u64,
    waiting: Waiting,
    over: bool,
}

impl Call for Reply {
    type Item = Bytes;

    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.over {
            return None;
        }
        let (part, payload) = poll_fn(|cx| {
            let mut calls = self.waiting.calls.borrow_mut();
            let slot = calls.entry(self.number).or_default();
            match slot.parts.pop_front() {
                Some(part) => Poll::Ready(part),
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        self.over = part != Part::Item;
        Some(if part == Part::Failed { Err(Error::from(String::from_utf8_lossy(&payload))) } else { Ok(payload) })
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.waiting.calls.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_whose_it_is_and_what() {
        for part in [Part::Item, Part::Last, Part::Failed] {
            let mut message = prefix(7, part).to_vec();
            message.push(1);
            assert_eq!(parse(&message).unwrap(), (7, part, &[1][..]));
        }
        assert!(parse(&[0; 8]).is_err() && parse(&[9; PREFIX]).is_err());
    }
}
