//! A machine that echoes or records, and checks that the driver keeps its promises.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::local::Host;
use ringplane_core::protocol::{Action, CloseReason, Closing, Fault, Protocol};
use ringplane_core::time::{Deadline, Instant, Reason};
use ringplane_io_uring::{Common, Config, Driver, Given, Handle, Stats, start};

/// No step of any test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Open(ConnId),
    Received(ConnId, Vec<u8>),
    Closed(ConnId, CloseReason),
    Timeout,
}

/// What the machine does by itself with received bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Echo,
    Record,
    /// Finds every byte wrong and closes.
    Refuse,
    /// Panics.
    Panic,
}

#[derive(Debug)]
pub(crate) struct Toy {
    role: Role,
    open: BTreeMap<ConnId, VecDeque<Bytes>>,
    dialing: BTreeSet<ConnId>,
    ready: VecDeque<ConnId>,
    named: BTreeSet<ConnId>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
    last: Instant,
    unsent: BTreeMap<ConnId, usize>,
    sent: usize,
    /// Bytes pulled since events were last asked for, and the most there have been.
    pulled: usize,
    most_pulled: usize,
}

impl Toy {
    pub(crate) fn dial(&mut self, conn: ConnId, addr: SocketAddr) {
        assert!(self.dialing.insert(conn));
        self.actions.push_back(Action::Connect { conn, addr });
    }

    /// Queues bytes; ignored if the connection is gone.
    pub(crate) fn send(&mut self, conn: ConnId, bytes: Bytes) {
        let Some(queue) = self.open.get_mut(&conn) else { return };
        queue.push_back(bytes);
        if self.named.insert(conn) {
            self.ready.push_back(conn);
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId, how: Closing) {
        self.actions.push_back(Action::Close { conn, how });
    }

    pub(crate) fn set_deadline(&mut self, at: Instant) {
        self.deadline = Some(at);
    }

    pub(crate) const fn most_pulled(&self) -> usize {
        self.most_pulled
    }

    pub(crate) const fn sent(&self) -> usize {
        self.sent
    }

    pub(crate) fn connections(&self) -> Vec<ConnId> {
        self.open.keys().copied().collect()
    }

    fn tick(&mut self, now: Instant) {
        assert!(now >= self.last, "time ran backwards");
        self.last = now;
    }
}

impl Protocol for Toy {
    type Event = Event;

    fn handle_open(&mut self, conn: ConnId, _: Option<SocketAddr>, now: Instant) {
        self.tick(now);
        assert_eq!(self.dialing.remove(&conn), conn.is_dialed(), "open without a dial");
        assert!(self.open.insert(conn, VecDeque::new()).is_none(), "opened twice");
        self.events.push_back(Event::Open(conn));
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.tick(now);
        assert!(self.open.contains_key(&conn), "bytes of an unknown connection");
        assert!(!bytes.is_empty());
        match self.role {
            Role::Echo => self.send(conn, Bytes::copy_from_slice(bytes)),
            Role::Record => self.events.push_back(Event::Received(conn, bytes.to_vec())),
            Role::Refuse => {
                self.send(conn, Bytes::from_static(b"farewell"));
                self.close(conn, Closing::Flush);
                return Err(Fault::State);
            }
            Role::Panic => panic!("on purpose"),
        }
        Ok(())
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        self.tick(now);
        assert!(self.open.contains_key(&conn), "sent on an unknown connection");
        let unsent = self.unsent.get_mut(&conn).expect("something was pulled");
        *unsent = unsent.checked_sub(bytes).expect("no more was sent than pulled");
        self.sent += bytes;
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        self.tick(now);
        let known = self.open.remove(&conn).is_some() | self.dialing.remove(&conn);
        assert!(known, "closed twice, or never opened");
        self.unsent.remove(&conn);
        self.events.push_back(Event::Closed(conn, why));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.events.push_back(Event::Timeout);
        }
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        self.ready.pop_front()
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, now: Instant) -> bool {
        self.tick(now);
        assert!(out.is_empty(), "a queue with a write in flight");
        let queue = self.open.get_mut(&conn).expect("only known connections are asked");
        while !out.is_full() {
            let Some(bytes) = queue.pop_front() else {
                self.named.remove(&conn);
                break;
            };
            out.push_payload(&bytes, 0..bytes.len());
        }
        if !queue.is_empty() {
            // As machines do whose bookkeeping after each step lists whoever has something to write.
            self.ready.push_back(conn);
        }
        *self.unsent.entry(conn).or_default() += out.len();
        self.pulled += out.len();
        self.most_pulled = self.most_pulled.max(self.pulled);
        !out.is_empty()
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.pulled = 0;
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.deadline.map(|at| Deadline { at, why: Reason::Idle })
    }

    fn bytes_wanted(&self, _: ConnId) -> usize {
        0
    }
}

/// Shares the toy and sends its events to the test.
pub(crate) struct ToyHost {
    toy: RefCell<Toy>,
    events: Sender<Event>,
}

impl Host for ToyHost {
    type Machine = Toy;

    fn with<R>(&self, f: impl FnOnce(&mut Toy) -> R) -> R {
        f(&mut self.toy.borrow_mut())
    }

    fn deliver(&self, event: Event) {
        // The test may have seen enough.
        let _ = self.events.send(event);
    }
}

/// A running driver and what its application hears.
pub(crate) struct Node {
    pub(crate) driver: Driver<ToyHost>,
    pub(crate) handle: Handle<ToyHost>,
    pub(crate) events: Receiver<Event>,
    pub(crate) addr: SocketAddr,
}

impl Node {
    /// A driver that listens on a port of its own.
    pub(crate) fn start(role: Role, knobs: impl Into<Knobs>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, events) = channel();
        let Knobs { common, own, cpu } = knobs.into();
        let given = Given { listener: Some(listener), cpu };
        let driver = start("toy", common, own, given, move |_| {
            let toy = Toy {
                role,
                open: BTreeMap::new(),
                dialing: BTreeSet::new(),
                ready: VecDeque::new(),
                named: BTreeSet::new(),
                actions: VecDeque::new(),
                events: VecDeque::new(),
                deadline: None,
                last: Instant::ZERO,
                unsent: BTreeMap::new(),
                sent: 0,
                pulled: 0,
                most_pulled: 0,
            };
            Rc::new(ToyHost { toy: RefCell::new(toy), events: sender })
        })
        .unwrap();
        Self { handle: driver.handle(), driver, events, addr }
    }

    /// Runs `f` on the machine, on the driver's thread.
    pub(crate) fn tell(&self, f: impl FnOnce(&mut Toy) + Send + 'static) {
        self.handle.submit(move |host, _| host.with(f)).unwrap();
    }

    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    pub(crate) fn accepted(&self) -> ConnId {
        match self.next() {
            Event::Open(conn) => conn,
            other => panic!("{other:?} instead of a connection"),
        }
    }

    /// The next `len` bytes of `conn`, nothing else in between.
    pub(crate) fn received(&self, conn: ConnId, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            match self.next() {
                Event::Received(from, bytes) if from == conn => all.extend(bytes),
                other => panic!("{other:?} after {} of {len} bytes", all.len()),
            }
        }
        all
    }

    /// Waits until the driver's published numbers satisfy `enough`.
    pub(crate) fn until(&self, enough: impl Fn(&Stats) -> bool) -> Stats {
        let start = std::time::Instant::now();
        loop {
            let stats = self.handle.stats();
            if enough(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "{stats:?}");
            std::thread::yield_now();
        }
    }

    /// Stops and checks that nothing is left.
    pub(crate) fn stop(self) {
        let report = self.driver.stop();
        assert!(report.is_clean(), "{report:?}");
    }
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| ((i ^ (i >> 8) ^ seed).wrapping_mul(31) >> 2) as u8).collect()
}

/// What a driver is started with beside its listener.
#[derive(Copy, Clone)]
pub(crate) struct Knobs {
    pub(crate) common: Common,
    pub(crate) own: Config,
    pub(crate) cpu: Option<usize>,
}

impl From<Config> for Knobs {
    fn from(own: Config) -> Self {
        Self { common: few(), own, cpu: None }
    }
}

impl From<Common> for Knobs {
    fn from(common: Common) -> Self {
        Self { common, own: small(), cpu: None }
    }
}

pub(crate) fn small() -> Config {
    Config { recv_buffers: 16, recv_buffer: 4096, entries: 64, ..Config::default() }
}

pub(crate) fn few() -> Common {
    Common { max_connections: 1024, ..Common::default() }
}
