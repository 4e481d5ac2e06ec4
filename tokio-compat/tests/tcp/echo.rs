//! A machine that echoes what it accepts and reports what it hears, and the host that passes its events on.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::local::env::Host;
use ringplane_core::protocol::{Action, CloseReason, Closing, Fault, Protocol};
use ringplane_core::time::{Deadline, Instant, Reason};
use ringplane_tokio::tcp::{Common, Config, Driver, Given, Handle, Report, start};

/// Longer than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The first byte that is a violation of this "protocol".
pub(crate) const POISON: u8 = 0xEE;

#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Open(ConnId),
    Bytes(ConnId, Vec<u8>),
    Closed(ConnId, CloseReason),
    Timeout(Instant),
}

#[derive(Default)]
pub(crate) struct Echo {
    out: BTreeMap<ConnId, VecDeque<Bytes>>,
    ready: VecDeque<ConnId>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
    broken: bool,
    /// Bytes pulled since events were last asked for, and the most there have been.
    pulled: usize,
    most_pulled: usize,
}

impl Echo {
    pub(crate) fn connect(&mut self, conn: ConnId, addr: SocketAddr) {
        self.actions.push_back(Action::Connect { conn, addr });
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: impl Into<Bytes>) {
        if let Some(out) = self.out.get_mut(&conn) {
            out.push_back(bytes.into());
            if out.len() == 1 {
                self.ready.push_back(conn);
            }
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId, how: Closing) {
        self.actions.push_back(Action::Close { conn, how });
    }

    pub(crate) const fn most_pulled(&self) -> usize {
        self.most_pulled
    }

    pub(crate) fn panic_when_asked(&mut self) {
        self.broken = true;
    }

    pub(crate) fn wake_at(&mut self, at: Instant) {
        self.deadline = Some(at);
    }
}

impl Protocol for Echo {
    type Event = Event;

    fn handle_open(&mut self, conn: ConnId, _: Option<SocketAddr>, _: Instant) {
        assert!(self.out.insert(conn, VecDeque::new()).is_none(), "opened twice");
        self.events.push_back(Event::Open(conn));
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], _: Instant) -> Result<(), Fault> {
        assert!(self.out.contains_key(&conn), "bytes of a connection that is not open");
        if bytes.first() == Some(&POISON) {
            self.send(conn, &b"farewell"[..]);
            self.close(conn, Closing::Flush);
            return Err(Fault::State);
        }
        if conn.is_dialed() {
            self.events.push_back(Event::Bytes(conn, bytes.to_vec()));
        } else {
            self.send(conn, bytes.to_vec());
        }
        Ok(())
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, _: Instant) {
        assert!(bytes > 0 && self.out.contains_key(&conn), "sent on a connection that is not open");
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, _: Instant) {
        self.out.remove(&conn);
        self.events.push_back(Event::Closed(conn, why));
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.events.push_back(Event::Timeout(now));
        }
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        assert!(!self.broken, "on purpose");
        self.ready.pop_front()
    }

    fn poll_transmit(&mut self, conn: ConnId, queue: &mut SendQueue, _: Instant) -> bool {
        let Some(out) = self.out.get_mut(&conn) else { return false };
        let before = queue.len();
        while !queue.is_full()
            && let Some(bytes) = out.pop_front()
        {
            queue.push_payload(&bytes, 0..bytes.len());
        }
        if !out.is_empty() {
            // As machines do whose bookkeeping after each step lists whoever has something to write.
            self.ready.push_back(conn);
        }
        self.pulled += queue.len() - before;
        self.most_pulled = self.most_pulled.max(self.pulled);
        queue.len() > before
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

pub(crate) struct EchoHost {
    machine: RefCell<Echo>,
    events: Sender<Event>,
}

impl Host for EchoHost {
    type Machine = Echo;

    fn with<R>(&self, f: impl FnOnce(&mut Echo) -> R) -> R {
        f(&mut self.machine.borrow_mut())
    }

    fn deliver(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// A driver of an [`Echo`] and what it reports.
pub(crate) struct Side {
    pub(crate) driver: Driver<EchoHost>,
    pub(crate) handle: Handle<EchoHost>,
    events: Receiver<Event>,
}

impl Side {
    pub(crate) fn start(common: Common, given: Given) -> Self {
        let (sender, events) = channel();
        let make = |_: &_| Rc::new(EchoHost { machine: RefCell::new(Echo::default()), events: sender });
        let driver = start("echo", common, Config::default(), given, make).unwrap();
        Self { handle: driver.handle(), driver, events }
    }

    pub(crate) fn dialer() -> Self {
        Self::start(Common::default(), Given::default())
    }

    pub(crate) fn listener() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        (Self::start(Common::default(), Given::listener(listener)), addr)
    }

    /// Runs a command on the machine and has it drained, as a task beside the driver would.
    pub(crate) fn command(&self, command: impl FnOnce(&mut Echo) + Send + 'static) {
        self.handle.submit(move |host, _| host.with(command)).unwrap();
    }

    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    pub(crate) fn connect(&self, n: u64, addr: SocketAddr) -> ConnId {
        let conn = ConnId::dialed(n);
        self.command(move |machine| machine.connect(conn, addr));
        conn
    }

    pub(crate) fn connected(&self, n: u64, addr: SocketAddr) -> ConnId {
        let conn = self.connect(n, addr);
        assert_eq!(self.next(), Event::Open(conn));
        conn
    }

    /// Stops, and returns every event not yet looked at.
    pub(crate) fn rest(self) -> (Report, Vec<Event>) {
        let report = self.driver.stop();
        (report, self.events.into_iter().collect())
    }

    pub(crate) fn stop(self) {
        let report = self.driver.stop();
        assert!(report.is_clean(), "{report:?}");
    }

    /// Waits, without sleeping on a clock of its own, until the driver's counters satisfy `condition`.
    pub(crate) fn until(&self, condition: impl Fn(ringplane_tokio::tcp::Stats) -> bool) {
        let since = std::time::Instant::now();
        while !condition(self.handle.stats()) {
            assert!(since.elapsed() < PATIENCE, "{:?}", self.handle.stats());
            std::thread::yield_now();
        }
    }
}
