//! All connections of one driver: completions in, a machine's wishes out.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use ringplane_core::buf::slab::{Key, Slab};
use ringplane_core::id::ConnId;
use ringplane_core::protocol::{Action, CloseReason, Closing, Protocol, peer_seen};
use ringplane_core::time::Instant;
use ringplane_driver::clock::Clock;
use ringplane_driver::config::Common;
use ringplane_driver::drain::{Carry, PATIENCE};
use ringplane_driver::handle::Report;
use ringplane_driver::socket::Options;
use ringplane_driver::stats::Stats;
use socket2::{SockRef, Socket, Type};

use crate::driver::conn::{Conn, State};
use crate::driver::listener::Listener;
use crate::driver::sender::Sender;
use crate::error::Error;
use crate::kernel::bell::Bell;
use crate::kernel::op::Op;
use crate::kernel::ring::{Completion, Ring, Wait, What};

/// Portions of completions handled in one turn.
const PORTIONS: usize = 64;
/// Actions carried out at a time.
const ACTIONS: usize = 1024;

/// The connections of one driver and the ring they live on. Everything here runs on the driver's thread.
pub(crate) struct Net {
    pub(crate) ring: Ring,
    pub(crate) stats: Stats,
    pub(crate) conns: Slab<Conn>,
    pub(crate) sender: Sender,
    pub(super) clock: Rc<Clock>,
    /// The connections the machine knows.
    pub(super) names: HashMap<ConnId, Key>,
    pub(super) accepted: u64,
    pub(super) listener: Option<Listener>,
    /// For workers that bring responses home.
    pub(super) homes: Option<Listener>,
    pub(super) came_home: u64,
    bell: Arc<Bell>,
    bell_armed: bool,
    /// Receives to arm before the next wait.
    pub(super) unarmed: Vec<Key>,
    /// Connections waiting for the peer's FIN, by the end of their patience.
    pub(super) lingering: VecDeque<(Instant, Key)>,
    completions: Vec<Completion>,
    pub(super) options: Options,
    pub(super) linger: Duration,
    pub(super) max_connections: usize,
    pub(super) stopping: bool,
}

impl Net {
    /// # Errors
    /// If the listener does not take its options.
    pub(crate) fn new(
        ring: Ring,
        common: &Common,
        listener: Option<TcpListener>,
        clock: Rc<Clock>,
        bell: Arc<Bell>,
    ) -> Result<Self, Error> {
        let options = common.options();
        let listener = listener.map(|listener| {
            listener.set_nonblocking(false)?;
            options.apply(SockRef::from(&listener), false)?;
            Ok(Listener::new(listener, false))
        });
        let listener = listener.transpose().map_err(|error| Error::os("setting up the listener", &error))?;
        Ok(Self {
            ring,
            stats: Stats::default(),
            conns: Slab::new(),
            sender: Sender::new(common.send_batch),
            clock,
            names: HashMap::new(),
            accepted: 0,
            listener,
            homes: None,
            came_home: 0,
            bell,
            bell_armed: false,
            unarmed: Vec::new(),
            lingering: VecDeque::new(),
            completions: Vec::new(),
            options,
            linger: common.linger,
            max_connections: common.max_connections,
            stopping: false,
        })
    }

    /// Handles what has completed.
    pub(crate) fn complete<P: Protocol>(&mut self, machine: &mut P) {
        let mut completions = std::mem::take(&mut self.completions);
        for _ in 0..PORTIONS {
            self.ring.reap(&mut completions);
            if completions.is_empty() {
                break;
            }
            for completion in completions.drain(..) {
                self.completed(machine, completion);
            }
        }
        self.completions = completions;
    }

    /// Does what is due: ends lingering connections whose time is over.
    pub(crate) fn expire<P: Protocol>(&mut self, machine: &mut P) {
        let now = self.clock.now();
        while let Some((at, key)) = self.lingering.front().copied() {
            let waits = self.conns.get(key).is_some_and(|conn| conn.state == State::Lingering);
            if waits && at > now && self.lingering.len() <= self.max_connections {
                break;
            }
            self.lingering.pop_front();
            if waits {
                self.end(machine, key, CloseReason::Local);
            }
        }
    }

    /// Arms whatever is not armed and should be. Comes last in a turn, so that ended receives pause until buffers are
    /// back.
    pub(crate) fn arm(&mut self) {
        if !std::mem::replace(&mut self.bell_armed, true) {
            self.ring.push(Op::Listen { bell: self.bell.clone() });
        }
        for listener in [&mut self.listener, &mut self.homes].into_iter().flatten() {
            listener.arm(&mut self.ring, self.clock.now());
        }
        self.ring.settle_buffers();
        for key in self.unarmed.drain(..) {
            if let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.wants_receive()) {
                conn.receive = Some(self.ring.push(Op::Receive { conn: key, socket: conn.socket.clone() }));
            }
        }
    }

    /// When [`Net::expire`] or [`Net::arm`] has something to do by itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|(at, _)| *at);
        let pause = |listener: &Option<Listener>| listener.as_ref().and_then(Listener::resume_at);
        [lingering, pause(&self.listener), pause(&self.homes)].into_iter().flatten().min()
    }

    /// Lets nobody in any more and tells the machine that every connection it knows is gone. Those that linger are not, and
    /// accepted ones linger from now on: a peer that still sends gets a FIN, not a reset.
    pub(crate) fn end_all<P: Protocol>(&mut self, machine: &mut P) {
        self.stopping = true;
        let waiting = self.listener.as_ref().map(Listener::waiting).unwrap_or_default();
        for socket in waiting {
            self.turn_away(socket);
        }
        [&mut self.listener, &mut self.homes].into_iter().flatten().for_each(Listener::close);
        for key in self.keys() {
            match self.conns.get(key) {
                Some(conn) if conn.may_linger() => self.flushed(machine, key),
                Some(conn) if conn.is_known() => self.end(machine, key, CloseReason::Local),
                _ => {}
            }
        }
    }

    /// Waits for the lingering connections, each until the peer's FIN or the end of its patience.
    ///
    /// # Errors
    /// If the ring cannot be entered.
    pub(crate) fn linger_out<P: Protocol>(&mut self, machine: &mut P) -> io::Result<()> {
        loop {
            self.expire(machine);
            let Some((at, _)) = self.lingering.front() else { return Ok(()) };
            let left = at.since(self.clock.now());
            self.arm();
            self.ring.enter(Wait::For(left))?;
            self.clock.read();
            self.complete(machine);
        }
    }

    /// The name the machine knows the connection by is free again; it hears why.
    pub(crate) fn forget<P: Protocol>(&mut self, machine: &mut P, key: Key, why: CloseReason) {
        if let Some(conn) = self.conns.get(key).filter(|conn| conn.is_known()) {
            tracing::debug!(conn = ?conn.id, %why, "connection gone");
            self.names.remove(&conn.id);
            self.stats.closes += 1;
            machine.handle_close(conn.id, why, self.clock.now());
        }
    }

    /// Ends a connection: the machine hears why, what is in flight is cancelled, the slot is freed with the last
    /// completion.
    pub(crate) fn end<P: Protocol>(&mut self, machine: &mut P, key: Key, why: CloseReason) {
        self.forget(machine, key, why);
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.state != State::Closing {
            conn.state = State::Closing;
            for target in [conn.connect, conn.receive, conn.send].into_iter().flatten() {
                self.ring.push(Op::Cancel { conn: key, target });
            }
        }
        self.reclaim(key);
    }

    /// Everything pulled is written: FIN, then wait for the peer's.
    pub(crate) fn flushed<P: Protocol>(&mut self, machine: &mut P, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let shut = conn.socket.shutdown(Shutdown::Write);
        if shut.is_err() || conn.ended || self.linger.is_zero() {
            return self.end(machine, key, CloseReason::Local);
        }
        self.forget(machine, key, CloseReason::Local);
        self.linger(key);
    }

    /// Waits for the peer's FIN. What it sends before is dropped.
    pub(super) fn linger(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.state = State::Lingering;
            self.lingering.push_back((self.clock.now() + self.linger, key));
            // It may have been paused.
            self.unarmed.push(key);
        }
    }

    /// Cancels and reaps what is in flight, then closes every socket. Returns what could not be ended.
    pub(crate) fn shut_down(mut self) -> Report {
        let ops_in_flight = self.ring.settle(PATIENCE);
        let buffers_out = self.ring.buffers_out();
        let held = |socket: &Rc<Socket>| Rc::strong_count(socket) > 1;
        let connections = self.conns.iter().filter(|(_, conn)| held(&conn.socket)).count();
        let listeners = [self.listener.take(), self.homes.take()];
        let descriptors = connections + listeners.iter().flatten().filter(|listener| listener.is_held()).count();
        Report { ops_in_flight, connections, descriptors, buffers_out, ..Report::default() }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The counters, with what the ring counts and the sizes of the moment.
    pub(crate) fn stats(&self) -> Stats {
        let counts = self.ring.counts();
        Stats {
            enters: counts.enters,
            submissions: counts.submissions,
            completions: counts.completions,
            overflows: counts.overflows,
            connections: self.conns.len() as u64,
            ops_in_flight: self.ring.in_flight() as u64,
            buffers_out: self.ring.buffers_out() as u64,
            ..self.stats
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.conns.iter().map(|(key, _)| key).collect()
    }

    fn completed<P: Protocol>(&mut self, machine: &mut P, completion: Completion) {
        let Completion { result, more, what, .. } = completion;
        match what {
            What::Nop => {}
            What::Rang => self.bell_armed = more,
            What::Accepted { home, socket } => {
                self.listener_said(home, socket.is_some(), result.err(), more);
                if let Some(socket) = socket {
                    self.accepted(machine, socket, home);
                }
            }
            What::Connected { conn } => self.connected(machine, conn, result.err()),
            What::Received { conn, buffer } => {
                if let Some(buffer) = buffer {
                    self.stats.reads += 1;
                    self.stats.bytes_in += self.ring.bytes(&buffer).len() as u64;
                    self.deliver(machine, conn, self.clock.now(), &buffer);
                    self.ring.recycle(buffer);
                }
                self.received(machine, conn, result, more);
            }
            What::Sent { conn, socket, job } => self.sent(machine, conn, result, job, socket),
            What::Cancelled { conn, target } => self.cancelled(conn, target),
        }
    }

    fn connected<P: Protocol>(&mut self, machine: &mut P, key: Key, error: Option<i32>) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        conn.connect = None;
        match (conn.state, error) {
            (State::Dialing, None) => {
                conn.state = State::Open;
                self.open(machine, key);
            }
            (State::Dialing, Some(errno)) => {
                self.stats.dial_failures += 1;
                self.end(machine, key, CloseReason::from_errno(errno));
            }
            _ => self.reclaim(key),
        }
    }

    pub(super) fn open<P: Protocol>(&mut self, machine: &mut P, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        tracing::debug!(conn = ?conn.id, "connection up");
        // Fails on a connection that is gone already, which its first receive tells.
        let peer = (!conn.id.is_dialed()).then(|| conn.socket.peer_addr().ok()?.as_socket()).flatten();
        let peer = peer.map(|peer| peer_seen(peer, conn.socket.local_addr().ok().and_then(|local| local.as_socket())));
        machine.handle_open(conn.id, peer, self.clock.now());
        self.unarmed.push(key);
        // The machine may have named it while it was being dialed.
        self.postpone(key);
    }

    fn dial<P: Protocol>(&mut self, machine: &mut P, id: ConnId, addr: SocketAddr) {
        self.stats.dials += 1;
        let now = self.clock.now();
        if self.names.contains_key(&id) {
            tracing::error!(conn = ?id, "the machine dials a connection it already has");
            return;
        }
        let socket = if self.stopping {
            Err(CloseReason::Local)
        } else if self.conns.len() >= self.max_connections {
            self.stats.refused += 1;
            Err(CloseReason::NoDescriptors)
        } else {
            let socket = self.options.dialer(id, addr, Type::STREAM);
            socket.map_err(|error| CloseReason::from_errno(error.raw_os_error().unwrap_or(0)))
        };
        let socket = match socket {
            Ok(socket) => Rc::new(socket),
            Err(why) => {
                self.stats.dial_failures += 1;
                self.stats.closes += 1;
                return machine.handle_close(id, why, now);
            }
        };
        let key = self.conns.insert(Conn::new(id, socket.clone(), State::Dialing));
        self.names.insert(id, key);
        let op = self.ring.push(Op::Connect { conn: key, socket, address: Box::new(addr.into()) });
        if let Some(conn) = self.conns.get_mut(key) {
            conn.connect = Some(op);
        }
    }

    fn close<P: Protocol>(&mut self, machine: &mut P, key: Key, how: Closing) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match (how, conn.state) {
            (Closing::Flush, State::Flushing) => {}
            (Closing::Flush, State::Open) if conn.failed.is_none() => {
                conn.state = State::Flushing;
                // A pause is over.
                self.unarmed.push(key);
                self.transmit_on(machine, key);
            }
            (Closing::Flush, _) => self.end(machine, key, CloseReason::Local),
            (Closing::Abort, _) => {
                // A reset instead of a FIN: the peer shall not take what it got for all there was.
                let _ = conn.socket.set_linger(Some(Duration::ZERO));
                self.end(machine, key, CloseReason::Local);
            }
        }
    }

    /// Frees the slot of a closing connection with its last completion; the socket goes with it.
    pub(crate) fn reclaim(&mut self, key: Key) {
        if self.conns.get(key).is_some_and(|conn| conn.state == State::Closing && conn.is_quiet()) {
            self.conns.remove(key);
        }
    }
}

impl<P: Protocol> Carry<P> for Net {
    fn transmit(&mut self, machine: &mut P) -> bool {
        let mut any = false;
        while let Some(id) = machine.poll_ready() {
            any = true;
            // One with more to write than its share names itself again at once.
            if let Some(key) = self.names.get(&id)
                && !self.conns.get(*key).is_some_and(|conn| conn.postponed)
            {
                self.transmit_on(machine, *key);
            }
        }
        any
    }

    fn act(&mut self, machine: &mut P) -> bool {
        let mut any = false;
        for _ in 0..ACTIONS {
            let Some(action) = machine.poll_action() else { break };
            any = true;
            match action {
                Action::Connect { conn, addr } => self.dial(machine, conn, addr),
                Action::Listen { addr } => self.listen(machine, addr),
                Action::Pause { conn } => self.pause(conn),
                Action::Resume { conn } => self.resume_receiving(conn),
                Action::Close { conn, how } => {
                    if let Some(key) = self.names.get(&conn) {
                        self.close(machine, *key, how);
                    }
                }
            }
        }
        any
    }
}
