//! The server: a loop over what comes and what is due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ringplane_benches::content::{Ask, Pattern};
use ringplane_benches::engine::Result;
use ringplane_benches::numbered::{KEPT, Part, parse};
use zmq::{Message, POLLIN, SNDMORE, Socket};

use crate::engine::{TURN, receive, send};
use crate::timers::{Timers, millis};

/// Answers under way: those that may send their next item now, and those that wait for a time.
pub(crate) struct Server {
    router: Socket,
    pattern: Pattern,
    now: VecDeque<Answer>,
    later: Timers<Answer>,
}

/// An answer under way.
struct Answer {
    caller: Message,
    number: u64,
    ask: Ask,
    next: u32,
    begun: Instant,
}

impl Server {
    pub(crate) fn new(router: Socket, pattern: Pattern) -> Self {
        Self { router, pattern, now: VecDeque::new(), later: Timers::default() }
    }

    pub(crate) fn run(mut self) -> Result<()> {
        loop {
            // Each answer sends an item in its turn, so that no call waits for the end of another's.
            for _ in 0..self.now.len() {
                if let Some(answer) = self.now.pop_front() {
                    self.step(answer)?;
                }
            }
            while let Some(answer) = self.later.due(Instant::now()) {
                self.step(answer)?;
            }
            let mut left = TURN;
            while left > 0 && self.take()? {
                left -= 1;
            }
            if left == TURN && self.now.is_empty() {
                self.router.poll(POLLIN, millis(self.later.next()))?;
            }
        }
    }

    /// Takes a request, if there is one.
    fn take(&mut self) -> Result<bool> {
        let Some(caller) = receive(&self.router)? else { return Ok(false) };
        let first = self.router.recv_msg(0)?;
        let (number, _, small) = parse(&first)?;
        let large = if first.get_more() { Some(self.router.recv_msg(0)?) } else { None };
        match Ask::receive(large.as_deref().unwrap_or(small), self.pattern) {
            Err(why) => {
                self.router.send(caller, SNDMORE)?;
                send(&self.router, number, Part::Failed, why.as_bytes())?;
            }
            Ok(ask) => self.step(Answer { caller, number, ask, next: 0, begun: Instant::now() })?,
        }
        Ok(true)
    }

    /// Sends an item, and has the answer go on after it.
    fn step(&mut self, mut answer: Answer) -> Result<()> {
        let Answer { number, ask, next, .. } = answer;
        let is_last = next + 1 == ask.items;
        self.router.send(&answer.caller[..], SNDMORE)?;
        let part = if is_last { Part::Last } else { Part::Item };
        send(&self.router, number, part, &self.pattern.item(&ask, next))?;
        answer.next += 1;
        let is_kept = ask.items == u32::MAX && answer.next as usize * ask.item_bytes as usize >= KEPT;
        if is_last || is_kept {
            return Ok(());
        }
        if ask.gap_us == 0 {
            self.now.push_back(answer);
        } else {
            let due = answer.begun + Duration::from_micros(u64::from(ask.gap_us) * u64::from(answer.next));
            self.later.push(due, answer);
        }
        Ok(())
    }
}
