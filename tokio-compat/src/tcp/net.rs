//! The IO half of a turn: sockets in, sockets out, on behalf of any machine.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::protocol::{Action, CloseReason, Closing, Protocol, peer_seen};
use ringplane_core::time::Instant;
use ringplane_driver::clock::Clock;
use ringplane_driver::config::Common;
use ringplane_driver::drain::Carry;
use ringplane_driver::socket::Options;
use ringplane_driver::stats::Stats;
use tokio::net::TcpStream;

use crate::tcp::accept::{Accepted, Acceptor};
use crate::tcp::config::Config;
use crate::tcp::connection::{Connection, Phase, close_reason};
use crate::tcp::gauge::Gauge;
use crate::tcp::linger::Lingering;
use crate::tcp::pool::{Queues, Slot, Slots};
use crate::tcp::ready::ReadyList;
use crate::tcp::socket;

/// Connections looked at in one turn.
const VISITS_PER_TURN: usize = 256;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Reads of one connection in one turn.
const READS_PER_VISIT: usize = 4;
/// Bytes written to one connection in one turn; one batch may overshoot.
const WRITE_BUDGET: usize = 1024 * 1024;
/// All sockets of a driver.
pub(crate) struct Net {
    acceptor: Option<Acceptor>,
    accepted: u64,
    /// For workers that bring responses home.
    homes: Option<Acceptor>,
    came_home: u64,
    /// `homes` has not been polled yet, so that nothing would wake for it.
    unpolled: bool,
    options: Options,
    clock: Rc<Clock>,
    max_connections: usize,
    slots: Slots,
    queues: Queues,
    buffer: Vec<u8>,
    ready: Arc<ReadyList>,
    taken: Vec<u32>,
    /// Slots to look at, oldest first; what does not fit into this turn waits for the next.
    pending: VecDeque<u32>,
    /// The machine heard something since its last drain began.
    dirty: bool,
    stopping: bool,
    gauge: Gauge,
    lingering: Lingering,
    pub(crate) stats: Stats,
}

/// Why writing to a connection stopped.
enum Pumped {
    /// Nothing left to write.
    Dry,
    /// The socket takes no more.
    Blocked,
    /// This connection's share of the turn is used up.
    Enough,
    Failed(io::Error),
}

impl Net {
    pub(crate) fn new(
        common: &Common,
        config: &Config,
        listener: Option<TcpListener>,
        ready: Arc<ReadyList>,
        clock: Rc<Clock>,
        gauge: Gauge,
    ) -> io::Result<Self> {
        let options = common.options();
        let acceptor = match listener {
            Some(listener) => Some(Acceptor::new(socket::listen(&options, listener, false)?)),
            None => None,
        };
        Ok(Self {
            acceptor,
            accepted: 0,
            homes: None,
            came_home: 0,
            unpolled: false,
            options,
            clock,
            max_connections: common.max_connections,
            slots: Slots::new(Arc::clone(&ready)),
            queues: Queues::new(common.send_batch),
            buffer: vec![0; config.recv_buffer],
            ready,
            taken: Vec::new(),
            pending: VecDeque::new(),
            dirty: false,
            stopping: false,
            gauge,
            lingering: Lingering::new(common.linger),
            stats: Stats::default(),
        })
    }

    /// Accepts what waits. `true` if more may wait.
    pub(crate) fn accept<M: Protocol>(&mut self, cx: &mut Context<'_>, machine: &mut M, now: Instant) -> bool {
        self.unpolled = false;
        let worker = self.accept_on(cx, machine, false, now);
        self.accept_on(cx, machine, true, now) || worker
    }

    fn accept_on<M: Protocol>(&mut self, cx: &mut Context<'_>, machine: &mut M, home: bool, now: Instant) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let acceptor = if home { &mut self.homes } else { &mut self.acceptor };
            let Some(acceptor) = acceptor else { return false };
            match acceptor.poll(cx, now) {
                Accepted::Stream(_) if self.gauge.count() >= self.max_connections => self.stats.refused += 1,
                Accepted::Stream(stream) => self.open_accepted(machine, stream, home, now),
                Accepted::Lost => {}
                Accepted::None => return false,
                Accepted::Exhausted => {
                    self.stats.accept_pauses += 1;
                    return false;
                }
            }
        }
        true
    }

    /// Reads and writes the connections whose sockets are ready, as many as a turn allows.
    pub(crate) fn visit_ready<M: Protocol>(&mut self, machine: &mut M, now: Instant) {
        self.ready.take(&mut self.taken);
        self.pending.extend(self.taken.drain(..));
        for _ in 0..self.pending.len().min(VISITS_PER_TURN) {
            if let Some(number) = self.pending.pop_front() {
                self.slots.get(number).id.begin();
                self.visit(machine, number, now);
            }
        }
    }

    /// Ends every connection and dial, and lets no new one begin. Accepted connections linger: a peer that still sends gets
    /// a FIN, not a reset.
    pub(crate) fn close_all<M: Protocol>(&mut self, machine: &mut M, now: Instant) {
        self.stopping = true;
        for stream in self.acceptor.iter().flat_map(Acceptor::waiting) {
            self.stats.refused += 1;
            self.lingering.keep(stream, self.gauge.one());
        }
        self.acceptor = None;
        self.homes = None;
        for number in 0..self.slots.bound() {
            match &self.slots.get(number).connection {
                Some(connection) if connection.may_linger() => self.farewell(machine, number, now),
                _ => self.close(machine, number, CloseReason::Local, now),
            }
        }
    }

    /// When accepting may be tried again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let not_before = |acceptor: &Option<Acceptor>| acceptor.as_ref().and_then(Acceptor::not_before);
        [not_before(&self.acceptor), not_before(&self.homes)].into_iter().flatten().min()
    }

    /// Whether a connection waits for its next share.
    pub(crate) fn has_pending(&self) -> bool {
        self.unpolled || !self.pending.is_empty()
    }

    /// What is left when all else has ended: connections that wait for the peer's FIN.
    pub(crate) fn into_lingering(self) -> Lingering {
        self.lingering
    }

    /// Open connections and dials.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn open_accepted<M: Protocol>(&mut self, machine: &mut M, stream: TcpStream, home: bool, now: Instant) {
        let (count, name): (_, fn(u64) -> ConnId) =
            if home { (&mut self.came_home, ConnId::accepted_home) } else { (&mut self.accepted, ConnId::accepted) };
        let name = name(std::mem::replace(count, *count + 1));
        self.stats.accepts += 1;
        // Fails on a connection that is gone already, which its first read tells.
        let peer = stream.peer_addr().ok().map(|peer| peer_seen(peer, stream.local_addr().ok()));
        let number = self.slots.insert(Connection::new(name, Phase::Open(stream), self.gauge.one()));
        self.dirty = true;
        machine.handle_open(name, peer, now);
        self.receive(machine, number, now);
    }

    fn listen<M: Protocol>(&mut self, machine: &mut M, addr: SocketAddr, now: Instant) {
        let bound = TcpListener::bind(addr).and_then(|listener| {
            let listener = socket::listen(&self.options, listener, true)?;
            let addr = listener.local_addr()?;
            self.homes = Some(Acceptor::new(listener));
            self.unpolled = true;
            Ok(addr)
        });
        self.dirty = true;
        machine.handle_listening(bound.map_err(|error| close_reason(&error)), now);
    }

    fn dial<M: Protocol>(&mut self, machine: &mut M, name: ConnId, addr: SocketAddr, now: Instant) {
        let refusal = if self.stopping {
            CloseReason::Local
        } else if self.gauge.count() >= self.max_connections {
            self.stats.refused += 1;
            CloseReason::NoDescriptors
        } else {
            self.stats.dials += 1;
            match socket::dial(&self.options, name, addr) {
                Ok(dial) => {
                    let phase = Phase::Dialing(Box::pin(dial));
                    let number = self.slots.insert(Connection::new(name, phase, self.gauge.one()));
                    return self.visit(machine, number, now);
                }
                Err(error) => close_reason(&error),
            }
        };
        self.stats.dial_failures += 1;
        self.stats.closes += 1;
        self.dirty = true;
        machine.handle_close(name, refusal, now);
    }

    fn end<M: Protocol>(&mut self, machine: &mut M, number: u32, how: Closing, now: Instant) {
        let Some(connection) = &mut self.slots.get(number).connection else { return };
        let dialing = matches!(connection.phase, Phase::Dialing(_));
        if how == Closing::Abort || dialing {
            connection.reset();
            return self.close(machine, number, CloseReason::Local, now);
        }
        connection.flushing = true;
        connection.deaf = false;
        connection.paused = false;
        if connection.blocked {
            // A deaf or paused connection has no waker for what it now has to drop.
            self.again(number);
        } else {
            self.transmit_on(machine, number, now);
        }
    }

    /// Has the connection's reads wait, or go on.
    fn pause(&mut self, name: ConnId, paused: bool) {
        let Some(number) = self.slots.find(name) else { return };
        if let Some(connection) = self.slots.get(number).connection.as_mut().filter(|connection| !connection.flushing) {
            connection.paused = paused;
            if !paused {
                // Its waker may have been used up meanwhile.
                self.again(number);
            }
        }
    }

    fn visit<M: Protocol>(&mut self, machine: &mut M, number: u32, now: Instant) {
        let slot = self.slots.get(number);
        let Some(connection) = &mut slot.connection else { return };
        if let Phase::Dialing(dial) = &mut connection.phase {
            match dial.as_mut().poll(&mut Context::from_waker(&slot.waker)) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    self.stats.dial_failures += 1;
                    return self.close(machine, number, close_reason(&error), now);
                }
                Poll::Ready(Ok(stream)) => {
                    connection.phase = Phase::Open(stream);
                    self.dirty = true;
                    machine.handle_open(connection.name, None, now);
                }
            }
        }
        connection.sated = false;
        if connection.blocked || connection.asked {
            connection.blocked = false;
            self.transmit_on(machine, number, now);
        }
        self.receive(machine, number, now);
    }

    fn receive<M: Protocol>(&mut self, machine: &mut M, number: u32, now: Instant) {
        for _ in 0..READS_PER_VISIT {
            let Slot { waker, connection: Some(connection), .. } = self.slots.get(number) else { return };
            if connection.deaf || connection.paused {
                return;
            }
            match connection.read(waker, &mut self.buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) if connection.flushing => connection.deaf = true,
                Poll::Ready(Ok(0)) if machine.handle_eof(connection.name, now) => {
                    connection.deaf = true;
                    self.dirty = true;
                }
                Poll::Ready(Ok(0)) => return self.close(machine, number, CloseReason::Eof, now),
                Poll::Ready(Ok(count)) => {
                    self.stats.reads += 1;
                    self.stats.bytes_in += count as u64;
                    if !connection.flushing {
                        self.dirty = true;
                        let bytes = self.buffer.get(..count).unwrap_or_default();
                        if let Err(fault) = machine.handle_recv(connection.name, bytes, now) {
                            self.stats.faults += 1;
                            connection.deaf = true;
                            tracing::debug!(connection = ?connection.name, %fault, "protocol violation");
                        }
                    }
                }
                Poll::Ready(Err(error)) => return self.close(machine, number, close_reason(&error), now),
            }
        }
        self.again(number);
    }

    fn transmit_on<M: Protocol>(&mut self, machine: &mut M, number: u32, now: Instant) {
        let slot = self.slots.get(number);
        let Some(connection) = &mut slot.connection else { return };
        if connection.blocked || matches!(connection.phase, Phase::Dialing(_)) {
            return;
        }
        let mut queue = connection.queue.take().unwrap_or_else(|| self.queues.take());
        let pumped = pump(connection, &slot.waker, &mut queue, machine, &mut self.stats, now);
        if queue.is_empty() {
            self.queues.give(queue);
        } else {
            connection.queue = Some(queue);
        }
        match pumped {
            Pumped::Dry if connection.flushing => self.farewell(machine, number, now),
            Pumped::Dry | Pumped::Blocked => {}
            Pumped::Enough => {
                if let Some(connection) = &mut self.slots.get(number).connection {
                    connection.sated = true;
                }
                self.again(number);
            }
            Pumped::Failed(error) => self.close(machine, number, close_reason(&error), now),
        }
    }

    /// FIN. The machine is told at once, the socket closes once the peer has finished too.
    fn farewell<M: Protocol>(&mut self, machine: &mut M, number: u32, now: Instant) {
        let Some(connection) = self.slots.remove(number) else { return };
        let name = connection.name;
        if let Some((stream, alive)) = connection.into_stream() {
            self.lingering.keep(stream, alive);
        }
        self.tell_closed(machine, name, CloseReason::Local, now);
    }

    /// Closes the socket. A connection the machine closed ends for that reason, whatever the socket says.
    fn close<M: Protocol>(&mut self, machine: &mut M, number: u32, why: CloseReason, now: Instant) {
        let Some(connection) = self.slots.remove(number) else { return };
        let name = connection.name;
        let why = if connection.flushing { CloseReason::Local } else { why };
        drop(connection);
        self.tell_closed(machine, name, why, now);
    }

    fn tell_closed<M: Protocol>(&mut self, machine: &mut M, name: ConnId, why: CloseReason, now: Instant) {
        tracing::debug!(connection = ?name, %why, "connection closed");
        self.stats.closes += 1;
        self.dirty = true;
        machine.handle_close(name, why, now);
    }

    /// Looks at the slot again in the next turn.
    fn again(&mut self, number: u32) {
        if self.slots.get(number).id.requeue() {
            self.pending.push_back(number);
        }
    }
}

impl<M: Protocol> Carry<M> for Net {
    fn transmit(&mut self, machine: &mut M) -> bool {
        let now = self.clock.read();
        self.dirty = false;
        while let Some(name) = machine.poll_ready() {
            if let Some(number) = self.slots.find(name)
                && let Some(connection) = &mut self.slots.get(number).connection
            {
                connection.asked = true;
                // One with more to write than its share names itself again at once.
                if !connection.sated {
                    self.transmit_on(machine, number, now);
                }
            }
        }
        self.dirty
    }

    fn act(&mut self, machine: &mut M) -> bool {
        let now = self.clock.now();
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Connect { conn, addr } => self.dial(machine, conn, addr, now),
                Action::Listen { addr } => self.listen(machine, addr, now),
                Action::Pause { conn } => self.pause(conn, true),
                Action::Resume { conn } => self.pause(conn, false),
                Action::Close { conn, how } => {
                    if let Some(number) = self.slots.find(conn) {
                        self.end(machine, number, how, now);
                    }
                }
            }
        }
        self.dirty
    }
}

/// Pulls and writes until the machine is dry, the socket full or the turn's share used up.
fn pump<M: Protocol>(
    connection: &mut Connection,
    waker: &Waker,
    queue: &mut SendQueue,
    machine: &mut M,
    stats: &mut Stats,
    now: Instant,
) -> Pumped {
    let mut budget = WRITE_BUDGET;
    loop {
        if queue.is_empty() {
            if !connection.asked || connection.flushing {
                return Pumped::Dry;
            }
            if budget == 0 {
                return Pumped::Enough;
            }
            connection.asked = machine.poll_transmit(connection.name, queue, now);
            if queue.is_empty() {
                connection.asked = false;
                return Pumped::Dry;
            }
        }
        match connection.write(waker, queue) {
            Poll::Pending => {
                connection.blocked = true;
                return Pumped::Blocked;
            }
            Poll::Ready(Ok(0)) => return Pumped::Failed(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => {
                stats.writes += 1;
                stats.short_writes += u64::from(count < queue.len());
                stats.bytes_out += count as u64;
                budget = budget.saturating_sub(count);
                queue.advance(count);
                machine.handle_sent(connection.name, count, now);
            }
            Poll::Ready(Err(error)) => return Pumped::Failed(error),
        }
    }
}
