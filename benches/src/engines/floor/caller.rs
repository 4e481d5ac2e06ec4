//! The load's side: makes calls, checks answers, takes times. The same behaviour as `load::generate`, by hand.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::book::Book;
use crate::content::{Ask, Pattern};
use crate::engine::Result;
use crate::engines::floor::frame::{Deframer, FRAGMENT, LAST, MORE, Out, Part};
use crate::engines::floor::machine::{Dial, Machine, Todo};
use crate::line::{Phase, announce_and_wait};
use crate::measure::{Measured, Plan};
use crate::scenario::{Scenario, address};

/// A load's connections and calls. A call's stream is the number of its worker.
#[derive(Debug)]
pub(crate) struct Caller {
    scenario: Scenario,
    plan: Plan,
    server: SocketAddr,
    book: Book,
    workers: Vec<Worker>,
    conns: Vec<Conn>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    begun: Option<Instant>,
    /// When the window opens, then when it closes.
    turn: Option<Instant>,
    open: bool,
    slots: u64,
    /// Connections that have yet to be opened or to answer before the run begins.
    waiting: usize,
    stopped: usize,
    measured: Option<Measured>,
    todo: Todo,
}

#[derive(Debug)]
struct Worker {
    role: Role,
    conn: usize,
    questions: [(Ask, Bytes); 2],
    turn: usize,
    from: Instant,
    last: Option<Instant>,
    index: u32,
    at: usize,
    deep: bool,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Role {
    /// Its calls are measured.
    Measured,
    /// Its calls are in the way.
    Background,
    /// It makes one call on a connection that stays idle after.
    Idle,
}

#[derive(Default, Debug)]
struct Conn {
    deframer: Deframer,
    /// Requests to send: worker and bytes already sent.
    requests: VecDeque<(usize, usize)>,
    up: bool,
}

impl Caller {
    /// One that loads `server`.
    pub(crate) fn new(scenario: &Scenario, server: SocketAddr, plan: &Plan) -> Self {
        let book = Book::new(scenario, plan);
        let background = scenario.background.map_or(0, |background| background.in_flight);
        let count = scenario.in_flight + background + scenario.idle;
        let workers = (0..count).map(|number| worker(scenario, number, book.pattern, plan.check.is_some())).collect();
        let mut caller = Self {
            scenario: scenario.clone(),
            plan: *plan,
            server,
            book,
            workers,
            conns: Vec::new(),
            due: BinaryHeap::new(),
            begun: None,
            turn: None,
            open: false,
            slots: 0,
            waiting: 0,
            stopped: 0,
            measured: None,
            todo: Todo::default(),
        };
        if scenario.idle > 0 {
            announce_and_wait(Phase::Before);
        }
        let dials = if scenario.churn { 0 } else { scenario.all_connections() };
        caller.waiting = dials;
        caller.todo.dial.extend((0..dials).map(|token| Dial { address: address(server, token), token }));
        caller
    }

    /// What was measured, once the run is over.
    pub(crate) fn into_measured(self) -> Result<Measured> {
        self.measured.ok_or_else(|| "the load ended too early".into())
    }

    /// Every connection is up: the calls begin.
    fn begin(&mut self, now: Instant) {
        if self.scenario.idle > 0 {
            announce_and_wait(Phase::Idle);
        }
        let now = if self.scenario.idle > 0 { Instant::now() } else { now };
        self.begun = Some(now);
        if self.plan.check.is_none() {
            self.turn = Some(now + self.plan.warmup);
        }
        let Scenario { in_flight, gap_us, .. } = self.scenario;
        for number in 0..self.workers.len() - self.scenario.idle {
            if gap_us > 0 && number < in_flight {
                let offset = Duration::from_micros(gap_us).mul_f64(number as f64 / in_flight as f64);
                self.due.push(Reverse((now + offset, number)));
            } else {
                self.next_call(number, now);
            }
        }
    }

    /// The worker's next call, now or when it is due.
    fn next_call(&mut self, number: usize, now: Instant) {
        let (rate, begun) = (self.scenario.rate, self.begun.unwrap_or(now));
        if rate > 0 && self.workers[number].role == Role::Measured {
            let due = begun + Duration::from_secs_f64(self.slots as f64 / rate as f64);
            self.slots += 1;
            self.due.push(Reverse((due, number)));
        } else {
            self.call(number, now);
        }
    }

    fn call(&mut self, number: usize, from: Instant) {
        let worker = &mut self.workers[number];
        worker.deep = self.plan.check.is_some();
        if worker.role == Role::Measured {
            let Some(deep) = self.book.begin() else {
                self.stopped += 1;
                self.finish_check();
                return;
            };
            worker.deep = deep;
        }
        worker.turn ^= 1;
        (worker.from, worker.last, worker.index, worker.at) = (from, None, 0, 0);
        if self.scenario.churn {
            let address = address(self.server, self.slots as usize);
            self.slots += 1;
            self.todo.dial.push(Dial { address, token: number });
        } else {
            let conn = worker.conn;
            self.conns[conn].requests.push_back((number, 0));
            self.todo.dirty.push(conn);
        }
    }

    fn finish_check(&mut self) {
        if self.plan.check.is_some() && self.stopped == self.scenario.in_flight {
            self.measured = Some(self.book.close());
            self.todo.over = true;
        }
    }

    /// A worker's call has ended well.
    fn ended(&mut self, conn: usize, number: usize, now: Instant) {
        let worker = &self.workers[number];
        let request = worker.questions[worker.turn].1.len();
        match worker.role {
            Role::Measured => self.book.end(now.saturating_duration_since(worker.from), request),
            Role::Background => self.book.background(request),
            Role::Idle => return self.ready(now),
        }
        if self.scenario.churn {
            self.conns[conn] = Conn::default();
            self.todo.close.push(conn);
        }
        self.next_call(number, now);
    }

    /// One of what the beginning waits for is there.
    fn ready(&mut self, now: Instant) {
        self.waiting -= 1;
        if self.waiting == 0 && self.begun.is_none() {
            self.begin(now);
        }
    }
}

impl Machine for Caller {
    fn opened(&mut self, conn: usize, dialed: Option<Dial>, now: Instant) {
        if self.conns.len() <= conn {
            self.conns.resize_with(conn + 1, Conn::default);
        }
        self.conns[conn].up = true;
        let Some(Dial { token, .. }) = dialed else { return };
        if self.scenario.churn {
            self.conns[conn].requests.push_back((token, 0));
            self.todo.dirty.push(conn);
            return;
        }
        // Dialed in order, so numbers are what they were dialed for.
        let idle = token.checked_sub(self.scenario.connections);
        match idle {
            Some(idle) => self.call(self.workers.len() - self.scenario.idle + idle, now),
            None => self.ready(now),
        }
    }

    fn received(&mut self, conn: usize, bytes: &[u8], now: Instant) -> Result<()> {
        let Some(entry) = self.conns.get_mut(conn).filter(|entry| entry.up) else { return Ok(()) };
        let mut deframer = std::mem::take(&mut entry.deframer);
        deframer.read(bytes, |part| {
            let number = part.stream as usize;
            let worker = self.workers.get_mut(number).ok_or("an answer nobody asked for")?;
            take(worker, &mut self.book, &part, self.scenario.gap_us > 0, now)?;
            if part.ends_stream {
                self.ended(conn, number, now);
            }
            Ok(())
        })?;
        self.conns[conn].deframer = deframer;
        Ok(())
    }

    fn closed(&mut self, conn: usize) -> Result<()> {
        let ours = !self.conns[conn].up;
        if ours || self.todo.over { Ok(()) } else { Err("the server has closed a connection".into()) }
    }

    fn fill(&mut self, conn: usize, out: &mut Out) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        while !out.is_full() {
            let Some((number, sent)) = entry.requests.pop_front() else { return };
            let worker = &self.workers[number];
            let request = &worker.questions[worker.turn].1;
            let stream = number as u32;
            if request.len() - sent > FRAGMENT {
                out.frame(stream, MORE, &request.slice(sent..sent + FRAGMENT));
                entry.requests.push_back((number, sent + FRAGMENT));
            } else {
                out.frame(stream, LAST, &request.slice(sent..));
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Option<Instant> {
        if self.begun.is_none() && self.waiting == 0 {
            self.begin(now);
        }
        if self.turn.is_some_and(|turn| turn <= now) {
            if self.open {
                self.measured = Some(self.book.close());
                self.todo.over = true;
                self.turn = None;
            } else {
                self.book.open();
                self.open = true;
                self.turn = Some(now + self.plan.measure);
            }
        }
        while let Some(&Reverse((due, number))) = self.due.peek() {
            if due > now {
                return Some(self.turn.map_or(due, |turn| turn.min(due)));
            }
            self.due.pop();
            self.call(number, due);
        }
        self.turn
    }

    fn todo(&mut self) -> &mut Todo {
        &mut self.todo
    }
}

fn worker(scenario: &Scenario, number: usize, pattern: Pattern, check: bool) -> Worker {
    let busy = scenario.in_flight + scenario.background.map_or(0, |background| background.in_flight);
    let (role, conn, request, items, item_bytes, gap_us) = match scenario.background {
        _ if number < scenario.in_flight => {
            let Scenario { request_bytes, items, item_bytes, gap_us, connections, .. } = *scenario;
            (Role::Measured, number % connections, request_bytes, items, item_bytes, gap_us)
        }
        Some(background) if number < busy => {
            (Role::Background, 0, background.request_bytes, background.items, background.item_bytes, 0)
        }
        _ => (Role::Idle, scenario.connections + number - busy, Ask::LEN, 1, 8, 0),
    };
    let question = |variant: u64| {
        let seed = number as u64 * 2 + variant + 1;
        let ask = Ask { seed, items: items as u32, item_bytes: item_bytes as u32, gap_us: gap_us as u32, check };
        (ask, ask.request(request, pattern))
    };
    let questions = [question(0), question(1)];
    Worker { role, conn, questions, turn: 0, from: Instant::now(), last: None, index: 0, at: 0, deep: false }
}

/// Checks and counts a part of an answer.
fn take(worker: &mut Worker, book: &mut Book, part: &Part<'_>, paced: bool, now: Instant) -> Result<()> {
    let (ask, _) = worker.questions[worker.turn];
    let (length, end) = (ask.item_bytes as usize, worker.at + part.bytes.len());
    if worker.index >= ask.items || end > length || (part.ends_item && end != length) {
        return Err("an answer has the wrong length".into());
    }
    if worker.deep && part.bytes != &book.pattern.piece(ask.seed, worker.index, length)[worker.at..end] {
        return Err("an item has the wrong contents".into());
    }
    worker.at = end;
    match worker.role {
        Role::Measured if part.ends_item => book.item(part.bytes.len()),
        Role::Measured => book.part(part.bytes.len()),
        Role::Background => book.background(part.bytes.len()),
        Role::Idle => {}
    }
    if part.ends_item {
        (worker.index, worker.at) = (worker.index + 1, 0);
        if worker.role == Role::Measured && (worker.last.is_none() || paced) {
            match worker.last.replace(now) {
                None => book.first(now.saturating_duration_since(worker.from)),
                Some(last) => book.gap(now - last),
            }
        }
    }
    if part.ends_stream && worker.index != ask.items {
        return Err("an answer ends too early".into());
    }
    Ok(())
}
