//! The server's side: reads what is asked, answers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::content::{Ask, Pattern, REQUEST};
use crate::engine::Result;
use crate::engines::floor::frame::{Deframer, FRAGMENT, LAST, MORE, Out, Part};
use crate::engines::floor::machine::{Dial, Machine, Todo};

/// A server's connections and what they are owed.
#[derive(Debug)]
pub(crate) struct Server {
    pattern: Pattern,
    conns: Vec<Conn>,
    paced: BinaryHeap<Reverse<Paced>>,
    todo: Todo,
}

#[derive(Default, Debug)]
struct Conn {
    deframer: Deframer,
    /// Requests of which a part has come.
    asking: HashMap<u32, Asking>,
    answers: VecDeque<Answer>,
    /// Counts the connections that had this number.
    generation: u32,
}

#[derive(Default, Debug)]
struct Asking {
    head: [u8; Ask::LEN],
    have: usize,
}

/// Items to send.
#[derive(Copy, Clone, Debug)]
struct Answer {
    stream: u32,
    ask: Ask,
    index: u32,
    until: u32,
    /// Bytes of item `index` already sent.
    sent: usize,
}

/// A paced answer's next item.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Paced {
    due: Instant,
    conn: usize,
    generation: u32,
    stream: u32,
    seed: u64,
    index: u32,
    items: u32,
    item_bytes: u32,
    gap_us: u32,
}

/// Items of one answer before the next one has its turn.
const TURN: usize = 128;

impl Server {
    /// One that answers with pieces of `pattern`.
    pub(crate) fn new(pattern: Pattern) -> Self {
        Self { pattern, conns: Vec::new(), paced: BinaryHeap::new(), todo: Todo::default() }
    }
}

impl Machine for Server {
    fn opened(&mut self, conn: usize, _: Option<Dial>, _: Instant) {
        if self.conns.len() <= conn {
            self.conns.resize_with(conn + 1, Conn::default);
        }
    }

    fn received(&mut self, conn: usize, bytes: &[u8], now: Instant) -> Result<()> {
        let Self { pattern, conns, paced, todo } = self;
        let Conn { deframer, asking, answers, generation } = &mut conns[conn];
        let idle = answers.is_empty();
        let read = deframer.read(bytes, |part| {
            let Some(ask) = ask(asking, &part, *pattern)? else { return Ok(()) };
            let answer = Answer { stream: part.stream, ask, index: 0, until: ask.items, sent: 0 };
            if ask.gap_us == 0 {
                answers.push_back(answer);
            } else {
                answers.push_back(Answer { until: 1, ..answer });
                let Ask { seed, items, item_bytes, gap_us, .. } = ask;
                let due = now + Duration::from_micros(gap_us.into());
                let (stream, generation) = (part.stream, *generation);
                if items > 1 {
                    paced.push(Reverse(Paced {
                        due,
                        conn,
                        generation,
                        stream,
                        seed,
                        index: 1,
                        items,
                        item_bytes,
                        gap_us,
                    }));
                }
            }
            Ok(())
        });
        if idle && !answers.is_empty() {
            todo.dirty.push(conn);
        }
        read
    }

    fn closed(&mut self, conn: usize) -> Result<()> {
        let generation = self.conns[conn].generation + 1;
        self.conns[conn] = Conn { generation, ..Conn::default() };
        Ok(())
    }

    fn fill(&mut self, conn: usize, out: &mut Out) {
        let answers = &mut self.conns[conn].answers;
        while !out.is_full() {
            let Some(mut answer) = answers.pop_front() else { return };
            for _ in 0..TURN {
                send(&mut answer, self.pattern, out);
                if answer.index == answer.until || out.is_full() || answer.sent > 0 {
                    break;
                }
            }
            if answer.index < answer.until {
                answers.push_back(answer);
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse(next)) = self.paced.peek().copied() {
            if next.due > now {
                return Some(next.due);
            }
            self.paced.pop();
            let Paced { due, conn, generation, stream, seed, index, items, item_bytes, gap_us } = next;
            if self.conns[conn].generation != generation {
                continue;
            }
            let ask = Ask { seed, items, item_bytes, gap_us, check: false };
            self.conns[conn].answers.push_back(Answer { stream, ask, index, until: index + 1, sent: 0 });
            self.todo.dirty.push(conn);
            if index + 1 < items {
                let due = due + Duration::from_micros(gap_us.into());
                self.paced.push(Reverse(Paced { due, index: index + 1, ..next }));
            }
        }
        None
    }

    fn todo(&mut self) -> &mut Todo {
        &mut self.todo
    }
}

/// Takes a part of a request; what is asked, once it is whole.
fn ask(asking: &mut HashMap<u32, Asking>, part: &Part<'_>, pattern: Pattern) -> Result<Option<Ask>> {
    let whole = part.ends_stream && (asking.is_empty() || !asking.contains_key(&part.stream));
    if whole {
        return Ok(Some(Ask::receive(part.bytes, pattern)?));
    }
    let so_far = asking.entry(part.stream).or_default();
    let mut rest = part.bytes;
    if so_far.have < Ask::LEN {
        let (now, later) = rest.split_at(rest.len().min(Ask::LEN - so_far.have));
        so_far.head[so_far.have..so_far.have + now.len()].copy_from_slice(now);
        so_far.have += now.len();
        rest = later;
    }
    if so_far.have >= Ask::LEN {
        let ask = Ask::read(&so_far.head).ok_or("a request is too short")?;
        let at = so_far.have - Ask::LEN;
        if ask.check && rest != &pattern.piece(ask.seed, REQUEST, at + rest.len())[at..] {
            return Err("a request's contents are wrong".into());
        }
        so_far.have += rest.len();
    }
    if !part.ends_stream {
        return Ok(None);
    }
    let whole = asking.remove(&part.stream).unwrap_or_default();
    Ok(Some(Ask::read(&whole.head[..whole.have.min(Ask::LEN)]).ok_or("a request is too short")?))
}

/// Sends the answer's next item, or a fragment of it.
fn send(answer: &mut Answer, pattern: Pattern, out: &mut Out) {
    let Answer { stream, ask, index, sent, .. } = *answer;
    let item = pattern.piece(ask.seed, index, ask.item_bytes as usize);
    let last = if index + 1 == ask.items { LAST } else { 0 };
    let rest = &item[sent..];
    if rest.len() > FRAGMENT {
        out.item(stream, MORE, &rest[..FRAGMENT]);
        answer.sent += FRAGMENT;
    } else {
        out.item(stream, last, rest);
        (answer.index, answer.sent) = (index + 1, 0);
    }
}
