//! All connections of a driver on a runtime with owned buffers: what happens to them, and what a machine wants of them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use hashbrown::HashMap;
use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::buf::slab::{Key, Slab};
use ringplane_core::id::ConnId;
use ringplane_core::protocol::{Action, CloseReason, Closing, Protocol};
use ringplane_core::time::Instant;
use ringplane_driver::clock::Clock;
use ringplane_driver::config::Common;
use ringplane_driver::drain::Carry;
use ringplane_driver::socket::Options;
use ringplane_driver::stats::Stats;
use socket2::{Socket, Type};

use crate::runtimes::conn::{Conn, Read, State, Write};
use crate::runtimes::runtime::{Outgoing, Runtime};
use crate::runtimes::signal::Halt;

/// Actions carried out at a time.
const ACTIONS: usize = 1024;
/// Send queues and write buffers kept for reuse. A connection has one only while it writes.
const SPARES: usize = 64;
/// The largest receive buffer, amid a large frame.
const LARGEST_READ: usize = 256 * 1024;

/// The connections of one driver. The tasks that work for them report here; new ones are asked for through `starts`.
pub(crate) struct Net<R: Runtime> {
    pub(crate) conns: Slab<Conn<R>>,
    pub(crate) stats: Stats,
    /// Tasks to start.
    pub(crate) starts: Vec<Start<R>>,
    names: HashMap<ConnId, Key>,
    accepted: u64,
    /// Connections waiting for the peer's FIN, by the end of their patience.
    lingering: VecDeque<(Instant, Key)>,
    queues: Vec<SendQueue>,
    scratch: Vec<Vec<u8>>,
    clock: Rc<Clock>,
    options: Options,
    send_batch: usize,
    recv_buffer: usize,
    max_connections: usize,
    linger: Duration,
    stopping: bool,
}

/// Tasks a connection needs.
pub(crate) enum Start<R: Runtime> {
    /// One that dials.
    Dial(Key, Socket, Rc<Halt>),
    /// One that reads and one that writes.
    Both(Key, R::Reader, R::Writer),
}

impl<R: Runtime> Net<R> {
    pub(crate) fn new(common: &Common, recv_buffer: usize, clock: Rc<Clock>) -> Self {
        Self {
            conns: Slab::new(),
            stats: Stats::default(),
            starts: Vec::new(),
            names: HashMap::new(),
            accepted: 0,
            lingering: VecDeque::new(),
            queues: Vec::new(),
            scratch: Vec::new(),
            clock,
            options: common.options(),
            send_batch: common.send_batch,
            recv_buffer,
            max_connections: common.max_connections,
            linger: common.linger,
            stopping: false,
        }
    }

    /// A connection came in.
    pub(crate) fn accepted<P: Protocol>(&mut self, machine: &mut P, stream: R::Stream, peer: SocketAddr) {
        if self.stopping {
            return self.turn_away(stream);
        }
        if self.conns.len() >= self.max_connections {
            self.stats.refused += 1;
            return;
        }
        self.stats.accepts += 1;
        self.accepted += 1;
        let id = ConnId::accepted(self.accepted);
        let key = self.conns.insert(Conn::new(id, State::Open));
        self.names.insert(id, key);
        self.open(machine, key, stream, Some(peer));
    }

    /// A connection that nobody is there for any more: it gets a FIN and lingers.
    pub(crate) fn turn_away(&mut self, stream: R::Stream) {
        self.stats.refused += 1;
        if self.linger.is_zero() {
            return;
        }
        self.accepted += 1;
        let key = self.conns.insert(Conn::new(ConnId::accepted(self.accepted), State::Open));
        self.hand_over(key, stream);
        self.leave(key);
    }

    /// A dial has ended.
    pub(crate) fn dialed<P: Protocol>(&mut self, machine: &mut P, key: Key, outcome: io::Result<R::Stream>) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.state == State::Dialing) else { return };
        conn.dial = None;
        match outcome {
            Ok(stream) => {
                conn.state = State::Open;
                self.open(machine, key, stream, None);
            }
            Err(error) => {
                self.stats.dial_failures += 1;
                self.end(machine, key, reason(&error));
            }
        }
    }

    /// A read has completed.
    pub(crate) fn received<P: Protocol>(
        &mut self,
        machine: &mut P,
        key: Key,
        result: &io::Result<usize>,
        bytes: &[u8],
    ) -> Read {
        let now = self.clock.read();
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.state != State::Closing) else { return Read::Over };
        let why = match result {
            Ok(1..) => {
                self.stats.reads += 1;
                self.stats.bytes_in += bytes.len() as u64;
                if conn.is_heard()
                    && let Err(fault) = machine.handle_recv(conn.id, bytes, now)
                {
                    tracing::debug!(conn = ?conn.id, %fault, "the peer broke the protocol");
                    self.stats.faults += 1;
                    conn.faulty = true;
                }
                let wanted = if conn.is_heard() { machine.bytes_wanted(conn.id) } else { 0 };
                return Read::Next(wanted.clamp(self.recv_buffer, LARGEST_READ));
            }
            Ok(0) => CloseReason::Eof,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => return Read::Next(self.recv_buffer),
                Some(libc::ENOBUFS | libc::ENOMEM) => return Read::Later(self.recv_buffer),
                _ => reason(error),
            },
        };
        conn.ended = true;
        match conn.state {
            State::Flushing if why == CloseReason::Eof => {}
            State::Open if why == CloseReason::Eof && conn.is_heard() && machine.handle_eof(conn.id, now) => {}
            State::Open => {
                let why = conn.failed.unwrap_or(why);
                self.end(machine, key, why);
            }
            _ => self.end(machine, key, CloseReason::Local),
        }
        Read::Over
    }

    /// Whether the reading task of `key` may read on.
    pub(crate) fn next_read(&mut self, key: Key, waker: &Waker) -> Poll<bool> {
        self.conns.get_mut(key).map_or(Poll::Ready(false), |conn| conn.next_read(waker))
    }

    /// What the writing task of `key` does next.
    pub(crate) fn next_write(&mut self, key: Key, waker: &Waker) -> Poll<Write> {
        let scratch = || self.scratch.pop().unwrap_or_default();
        self.conns.get_mut(key).map_or(Poll::Ready(Write::Over), |conn| conn.next_write(waker, scratch))
    }

    /// A write has completed. `true` if the kernel is short of memory: try again in a moment.
    pub(crate) fn written<P: Protocol>(
        &mut self,
        machine: &mut P,
        key: Key,
        result: &io::Result<usize>,
        bytes: Outgoing,
    ) -> bool {
        self.keep(bytes);
        let now = self.clock.read();
        let Some(conn) = self.conns.get_mut(key) else { return false };
        conn.writing = false;
        let Some(queue) = conn.queue.as_mut().filter(|_| conn.state != State::Closing) else { return false };
        let why = match result {
            Ok(count @ 1..) => {
                self.stats.ring_sends += 1;
                self.stats.bytes_out += *count as u64;
                queue.advance(*count);
                machine.handle_sent(conn.id, *count, now);
                if queue.is_empty() {
                    self.retire(key);
                    self.pull(machine, key);
                }
                return false;
            }
            Ok(0) => CloseReason::Reset,
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN) => return false,
                Some(libc::ENOBUFS | libc::ENOMEM) => return true,
                _ => reason(error),
            },
        };
        tracing::debug!(conn = ?conn.id, %why, "writing failed");
        conn.failed = Some(why);
        queue.clear();
        self.retire(key);
        let ends_now = self.conns.get(key).is_some_and(|conn| conn.ended || conn.state == State::Flushing);
        if ends_now {
            self.end(machine, key, CloseReason::Local);
        }
        false
    }

    /// FIN has been sent, or could not be: wait for the peer's.
    pub(crate) fn finished<P: Protocol>(&mut self, machine: &mut P, key: Key, result: &io::Result<()>) {
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.state == State::Flushing) else { return };
        if result.is_err() || conn.ended || self.linger.is_zero() {
            return self.end(machine, key, CloseReason::Local);
        }
        conn.finishing = false;
        conn.state = State::Lingering;
        let id = conn.id;
        self.lingering.push_back((self.clock.now() + self.linger, key));
        self.forget(machine, id, CloseReason::Local);
    }

    /// Has a connection that is open send its FIN, and waits for the peer's.
    fn leave(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.state = State::Lingering;
            conn.finishing = true;
            conn.wake_writer();
            // It may have been paused.
            conn.pause(false);
            self.lingering.push_back((self.clock.now() + self.linger, key));
        }
    }

    /// A task of `key` has nothing more to do.
    pub(crate) fn left(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.tasks -= 1;
        }
        self.reclaim(key);
    }

    /// Ends lingering connections whose time is over.
    pub(crate) fn expire<P: Protocol>(&mut self, machine: &mut P) {
        while let Some((at, key)) = self.lingering.front().copied() {
            let waits = self.conns.get(key).is_some_and(|conn| conn.state == State::Lingering);
            if waits && at > self.clock.now() {
                return;
            }
            self.lingering.pop_front();
            if waits {
                self.end(machine, key, CloseReason::Local);
            }
        }
    }

    /// When [`Net::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lingering.front().map(|(at, _)| *at)
    }

    /// Tells the machine that every connection it knows is gone. Those that linger are not, and accepted ones linger from now
    /// on: a peer that still sends gets a FIN, not a reset.
    pub(crate) fn end_all<P: Protocol>(&mut self, machine: &mut P) {
        self.stopping = true;
        for key in self.keys() {
            match self.conns.get(key) {
                Some(conn) if conn.may_linger() && !self.linger.is_zero() => {
                    let id = conn.id;
                    self.forget(machine, id, CloseReason::Local);
                    self.leave(key);
                }
                Some(conn) if conn.is_known() => self.end(machine, key, CloseReason::Local),
                _ => {}
            }
        }
    }

    /// Ends every connection without a word to the machine, which has failed.
    pub(crate) fn abort_all(&mut self) {
        self.stopping = true;
        for key in self.keys() {
            self.abort(key);
        }
    }

    pub(crate) const fn recv_buffer(&self) -> usize {
        self.recv_buffer
    }

    fn keys(&self) -> Vec<Key> {
        self.conns.iter().map(|(key, _)| key).collect()
    }

    /// Gives a connection its socket, and has it read and written.
    fn hand_over(&mut self, key: Key, stream: R::Stream) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let (reader, writer, control) = R::split(stream);
        conn.control = Some(control);
        conn.tasks += 2;
        self.starts.push(Start::Both(key, reader, writer));
    }

    fn open<P: Protocol>(&mut self, machine: &mut P, key: Key, stream: R::Stream, peer: Option<SocketAddr>) {
        self.hand_over(key, stream);
        let Some(conn) = self.conns.get(key) else { return };
        tracing::debug!(conn = ?conn.id, "connection up");
        machine.handle_open(conn.id, peer, self.clock.read());
        // The machine may have named it while it was being dialed.
        self.pull(machine, key);
    }

    fn dial<P: Protocol>(&mut self, machine: &mut P, id: ConnId, addr: SocketAddr) {
        self.stats.dials += 1;
        if self.names.contains_key(&id) {
            tracing::error!(conn = ?id, "the machine dials a connection it already has");
            return;
        }
        let outcome = if self.stopping {
            Err(CloseReason::Local)
        } else if self.conns.len() >= self.max_connections {
            self.stats.refused += 1;
            Err(CloseReason::NoDescriptors)
        } else {
            begin(&self.options, id, addr).map_err(|error| reason(&error))
        };
        match outcome {
            Ok(socket) => {
                let halt = Rc::new(Halt::default());
                let conn = Conn { dial: Some(halt.clone()), tasks: 1, ..Conn::new(id, State::Dialing) };
                let key = self.conns.insert(conn);
                self.names.insert(id, key);
                self.starts.push(Start::Dial(key, socket, halt));
            }
            Err(why) => {
                self.stats.dial_failures += 1;
                self.stats.closes += 1;
                machine.handle_close(id, why, self.clock.now());
            }
        }
    }

    fn close<P: Protocol>(&mut self, machine: &mut P, key: Key, how: Closing) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if how == Closing::Abort || conn.state == State::Dialing || conn.failed.is_some() {
            return self.end(machine, key, CloseReason::Local);
        }
        conn.state = State::Flushing;
        conn.pause(false);
        self.pull(machine, key);
    }

    fn pause(&mut self, id: ConnId, paused: bool) {
        if let Some(conn) = self.names.get(&id).and_then(|key| self.conns.get_mut(*key)) {
            conn.pause(paused);
        }
    }

    /// Pulls what `key` has to write, unless it still writes; its completion asks again. A connection that is to be
    /// flushed and has nothing more gets its FIN.
    fn pull<P: Protocol>(&mut self, machine: &mut P, key: Key) {
        let now = self.clock.now();
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.may_pull()) else { return };
        let mut queue = self.queues.pop().unwrap_or_else(|| SendQueue::new(self.send_batch));
        machine.poll_transmit(conn.id, &mut queue, now);
        if !queue.is_empty() {
            conn.queue = Some(queue);
            return conn.wake_writer();
        }
        self.queues.push(queue);
        if conn.state == State::Flushing {
            conn.finishing = true;
            conn.wake_writer();
        }
    }

    /// Ends a connection: the machine hears why, what is in flight completes, the slot is freed when the last task
    /// leaves.
    fn end<P: Protocol>(&mut self, machine: &mut P, key: Key, why: CloseReason) {
        if let Some(conn) = self.conns.get(key).filter(|conn| conn.is_known()) {
            let id = conn.id;
            self.forget(machine, id, why);
        }
        self.abort(key);
    }

    fn forget<P: Protocol>(&mut self, machine: &mut P, id: ConnId, why: CloseReason) {
        tracing::debug!(conn = ?id, %why, "connection gone");
        self.names.remove(&id);
        self.stats.closes += 1;
        machine.handle_close(id, why, self.clock.now());
    }

    fn abort(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.state = State::Closing;
        conn.wake_writer();
        conn.pause(false);
        if let Some(halt) = conn.dial.take() {
            halt.order();
        }
        if let Some(control) = conn.control.take() {
            R::abort(control);
        }
        self.reclaim(key);
    }

    fn reclaim(&mut self, key: Key) {
        if self.conns.get(key).is_some_and(|conn| conn.state == State::Closing && conn.tasks == 0) {
            self.conns.remove(key);
        }
    }

    /// Takes the written queue of `key` back.
    fn retire(&mut self, key: Key) {
        if let Some(mut queue) = self.conns.get_mut(key).and_then(|conn| conn.queue.take())
            && self.queues.len() < SPARES
        {
            queue.shrink(self.send_batch);
            self.queues.push(queue);
        }
    }

    /// Takes the memory of a write back.
    fn keep(&mut self, bytes: Outgoing) {
        if let Outgoing::Copied(mut scratch) = bytes
            && self.scratch.len() < SPARES
        {
            scratch.clear();
            scratch.shrink_to(self.send_batch);
            self.scratch.push(scratch);
        }
    }
}

impl<R: Runtime, P: Protocol> Carry<P> for Net<R> {
    fn transmit(&mut self, machine: &mut P) -> bool {
        let mut any = false;
        while let Some(id) = machine.poll_ready() {
            any = true;
            if let Some(key) = self.names.get(&id) {
                self.pull(machine, *key);
            }
        }
        any
    }

    fn act(&mut self, machine: &mut P) -> bool {
        for done in 0..ACTIONS {
            let Some(action) = machine.poll_action() else { return done > 0 };
            match action {
                Action::Connect { conn, addr } => self.dial(machine, conn, addr),
                // These runtimes listen for nobody: a call that needs it fails at once and says so.
                Action::Listen { .. } => {
                    machine.handle_listening(Err(CloseReason::from_errno(libc::EOPNOTSUPP)), self.clock.read());
                }
                Action::Pause { conn } => self.pause(conn, true),
                Action::Resume { conn } => self.pause(conn, false),
                Action::Close { conn, how } => {
                    if let Some(key) = self.names.get(&conn) {
                        self.close(machine, *key, how);
                    }
                }
            }
        }
        true
    }
}

/// A socket that is being connected; it is writable once that has ended.
fn begin(options: &Options, conn: ConnId, addr: SocketAddr) -> io::Result<Socket> {
    let socket = options.dialer(conn, addr, Type::STREAM.nonblocking())?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Why the operating system ended a connection or refused a dial.
fn reason(error: &io::Error) -> CloseReason {
    CloseReason::from_errno(error.raw_os_error().unwrap_or(0))
}
