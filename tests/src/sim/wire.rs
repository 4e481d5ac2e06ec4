//! Connections of a simulation: a link, its two ends, and what happens to them by themselves.

use std::net::SocketAddr;
use std::rc::Rc;

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::protocol::CloseReason;
use ringplane_core::time::Instant;

use super::host::{Driven, Place};
use super::link::{Link, Side, Written};
use super::net::{Event, Sim};

/// The host of an end that belongs to none.
const NOBODY: u32 = u32::MAX;

/// How far one end of a connection has come.
///
/// ```text
///   Dialing ──opened──> Open ──Close{Flush}──> Flushing ──all written──> Lingering ──FIN──> Closing ──told──> Closed
///   Accepting ─accept──> Open ──Close{Abort}──────────────────────────────────────────────> Closing
///   any ──FIN, reset, refusal, kill──> Closed
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The machine asked; nobody has answered.
    Dialing,
    /// The kernel has accepted; the machine has not been told.
    Accepting,
    Open,
    /// What has been pulled is being written; received bytes are dropped.
    Flushing,
    /// FIN is sent; waiting for the peer's.
    Lingering,
    /// The socket is gone; the machine is about to be told.
    Closing,
    /// The machine has been told, or never will be.
    Closed,
}

/// One end of a wire.
pub(super) struct End {
    pub(super) host: u32,
    pub(super) conn: ConnId,
    pub(super) state: State,
    pub(super) queue: SendQueue,
    /// The machine named this connection and has not run dry since.
    pub(super) live: bool,
    /// A write is in flight.
    pub(super) writing: bool,
    /// The write in flight waits for room.
    blocked: bool,
    /// A landing is on the agenda.
    arriving: bool,
    /// The operating system's patience is on the agenda.
    expiring: bool,
    /// The peer's FIN has been told, and the machine keeps the connection.
    heard_all: bool,
    /// The machine has paused it; pieces that are delivered all the same, because they had been received by then.
    pub(super) surplus: Option<u8>,
}

impl End {
    fn closed(queue: SendQueue) -> Self {
        Self {
            host: NOBODY,
            conn: ConnId::accepted(0),
            state: State::Closed,
            queue,
            live: false,
            writing: false,
            blocked: false,
            arriving: false,
            expiring: false,
            heard_all: false,
            surplus: None,
        }
    }

    fn is_reading(&self) -> bool {
        match self.state {
            State::Open => self.surplus != Some(0),
            State::Flushing | State::Lingering => true,
            _ => false,
        }
    }
}

/// One connection, or what is going to be one.
pub(super) struct Wire {
    pub(super) link: Link,
    pub(super) ends: [End; 2],
    generation: u32,
    target: SocketAddr,
    dialed_at: Instant,
    tries: u32,
    /// Swallows everything for good: healing does not help.
    holed: bool,
}

/// A wire as the agenda names it: events of an earlier user of the slot are ignored.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct WireRef {
    pub(super) slot: u32,
    generation: u32,
}

impl Sim {
    /// A wire for a dial of `host`, in the memory of an old one if there is one.
    pub(super) fn new_wire(&mut self, host: u32, conn: ConnId, target: SocketAddr) -> WireRef {
        let slot = self.free.pop().unwrap_or_else(|| {
            let queue = || SendQueue::new(self.plan.queue);
            let ends = [End::closed(queue()), End::closed(queue())];
            let (dialed_at, link) = (Instant::ZERO, Link::default());
            self.wires.push(Wire { link, ends, generation: 0, target, dialed_at, tries: 0, holed: false });
            self.wires.len() as u32 - 1
        });
        let now = self.clock.now();
        let wire = &mut self.wires[slot as usize];
        (wire.target, wire.dialed_at, wire.tries, wire.holed) = (target, now, 0, false);
        let dialer = &mut wire.ends[Side::Dialer.index()];
        (dialer.host, dialer.conn, dialer.state) = (host, conn, State::Dialing);
        WireRef { slot, generation: wire.generation }
    }

    /// The slot of a wire that is still the one meant.
    pub(super) fn current(&self, wire: WireRef) -> Option<usize> {
        let slot = wire.slot as usize;
        (self.wires[slot].generation == wire.generation).then_some(slot)
    }

    pub(super) fn wire_ref(&self, slot: usize) -> WireRef {
        WireRef { slot: slot as u32, generation: self.wires[slot].generation }
    }

    fn end(&mut self, slot: usize, side: Side) -> &mut End {
        &mut self.wires[slot].ends[side.index()]
    }

    fn state(&self, slot: usize, side: Side) -> State {
        self.wires[slot].ends[side.index()].state
    }

    fn machine_at(&self, slot: usize, side: Side) -> (Rc<dyn Driven>, ConnId, u32) {
        let end = &self.wires[slot].ends[side.index()];
        match &self.hosts[end.host as usize].machine {
            Some(machine) => (Rc::clone(machine), end.conn, end.host),
            None => self.fail("a connection outlived the machine it belonged to"),
        }
    }

    /// The first packet of a dial reaches its target, or does not.
    pub(super) fn on_syn(&mut self, slot: usize) {
        let (dialer, target) = (self.wires[slot].ends[0].host, self.wires[slot].target);
        if self.state(slot, Side::Dialer) != State::Dialing {
            return;
        }
        let now = self.clock.now();
        let wire = self.wire_ref(slot);
        let listener = self.listeners.get(&target).copied();
        if listener.is_some_and(|host| self.is_cut(dialer, host) || self.is_cut(host, dialer)) {
            let wait = std::time::Duration::from_secs(1 << self.wires[slot].tries.min(16));
            self.wires[slot].tries += 1;
            let end = self.wires[slot].dialed_at + self.plan.dial_timeout;
            if now + wait < end {
                self.agenda.schedule(now + wait, Event::Syn(wire));
            } else {
                self.agenda.schedule(end.max(now), Event::Gone(wire, Side::Dialer, CloseReason::TimedOut));
            }
            return;
        }
        let back = now + self.plan.latency + self.rng.up_to(self.plan.jitter);
        let Some(host) = listener.filter(|host| self.hosts[*host as usize].machine.is_some()) else {
            self.agenda.schedule(back, Event::Gone(wire, Side::Dialer, CloseReason::Refused));
            return;
        };
        let end = self.end(slot, Side::Listener);
        (end.host, end.state) = (host, State::Accepting);
        self.agenda.schedule(back, Event::Opened(wire));
        let accept = now + self.plan.latency + self.rng.up_to(self.plan.jitter + self.plan.turn);
        self.agenda.schedule(accept, Event::Accept(wire));
        if self.rng.chance(self.plan.hole) {
            let scale = self.rng.below(20);
            let after = self.rng.up_to(std::time::Duration::from_micros(1 << scale));
            self.agenda.schedule(back + after, Event::Hole(wire));
        }
    }

    /// A dial has succeeded.
    pub(super) fn on_opened(&mut self, slot: usize) {
        if self.state(slot, Side::Dialer) == State::Dialing {
            self.open_end(slot, Side::Dialer);
        }
    }

    /// A listener hears of a connection its kernel has accepted.
    pub(super) fn on_accept(&mut self, slot: usize) {
        if self.state(slot, Side::Listener) != State::Accepting {
            return;
        }
        let host = self.wires[slot].ends[Side::Listener.index()].host;
        let target = self.wires[slot].target;
        let node = &mut self.hosts[host as usize];
        let comes_home = node.home == Some(target);
        let conn = if comes_home { ConnId::accepted_home(node.accepted) } else { ConnId::accepted(node.accepted) };
        node.accepted += 1;
        node.conns.insert(conn, Place::At { wire: slot as u32, side: Side::Listener });
        self.end(slot, Side::Listener).conn = conn;
        self.open_end(slot, Side::Listener);
    }

    fn open_end(&mut self, slot: usize, side: Side) {
        self.end(slot, side).state = State::Open;
        let (machine, conn, host) = self.machine_at(slot, side);
        self.stats.opened += 1;
        self.note(host, "open", Some(conn), 0);
        let dialer = self.wires[slot].ends[Side::Dialer.index()].host;
        let peer = (side == Side::Listener).then(|| self.hosts[dialer as usize].addr);
        machine.open(conn, peer, self.clock.now());
        self.ring(host);
        self.expect_more(slot, side);
    }

    /// Puts the next landing at `to` on the agenda, unless it is there.
    fn expect_landing(&mut self, slot: usize, to: Side) {
        let wire = self.wire_ref(slot);
        let found = &mut self.wires[slot];
        if found.ends[to.index()].arriving {
            return;
        }
        if let Some(at) = found.link.next_landing(to) {
            found.ends[to.index()].arriving = true;
            self.agenda.schedule(at.max(self.clock.now()), Event::Arrive(wire, to));
        }
    }

    /// Something lands at `to`, or there is more to read.
    pub(super) fn on_arrive(&mut self, slot: usize, to: Side) {
        let now = self.clock.now();
        let wire = &mut self.wires[slot];
        wire.ends[to.index()].arriving = false;
        wire.link.land(to, now);
        let end = &wire.ends[to.index()];
        if end.is_reading() {
            if wire.link.readable(to) > 0 {
                self.read(slot, to);
            } else if wire.link.at_end(to) {
                match end.state {
                    State::Open if end.heard_all => {}
                    State::Open => return self.heard_all(slot, to),
                    State::Lingering => self.finish_closing(slot, to),
                    _ => {}
                }
            }
        } else if matches!(end.state, State::Closing | State::Closed) && wire.link.readable(to) > 0 {
            let unread = wire.link.readable(to);
            wire.link.consume(to, unread);
            self.send_reset(slot, to.other());
        }
        self.expect_more(slot, to);
    }

    /// The peer's FIN: the machine may keep the connection to write to.
    fn heard_all(&mut self, slot: usize, side: Side) {
        let (machine, conn, host) = self.machine_at(slot, side);
        if !machine.eof(conn, self.clock.now()) {
            return self.close_end(slot, side, CloseReason::Eof);
        }
        self.note(host, "half closed", Some(conn), 0);
        self.ring(host);
        self.end(slot, side).heard_all = true;
        self.expect_more(slot, side);
    }

    /// Reads on soon if there is something to read, else waits for the next landing.
    pub(super) fn expect_more(&mut self, slot: usize, to: Side) {
        let wire = &mut self.wires[slot];
        let end = &mut wire.ends[to.index()];
        let waits_for_end = match end.state {
            State::Open => !end.heard_all,
            State::Lingering => true,
            _ => false,
        };
        let more = wire.link.readable(to) > 0 || (waits_for_end && wire.link.at_end(to));
        if end.is_reading() && more && !end.arriving {
            end.arriving = true;
            let at = self.clock.now() + self.rng.up_to(self.plan.turn);
            let wire = self.wire_ref(slot);
            self.agenda.schedule(at, Event::Arrive(wire, to));
        } else {
            self.expect_landing(slot, to);
        }
    }

    /// Delivers one piece of what has landed.
    fn read(&mut self, slot: usize, to: Side) {
        let (machine, conn, host) = self.machine_at(slot, to);
        let mut most = self.plan.receive;
        if self.rng.chance(self.plan.short_read) {
            // Exactly up to the end of a frame is the piece most likely to show an error by one.
            most = Some(machine.bytes_wanted(conn)).filter(|wanted| *wanted > 0).unwrap_or(most).min(most);
        }
        let wire = &mut self.wires[slot];
        let open = wire.ends[to.index()].state == State::Open;
        let piece = wire.link.peek(to, most, &self.plan, &mut self.rng);
        let len = piece.len();
        let now = self.clock.now();
        let outcome = if open { machine.recv(conn, piece, now) } else { Ok(()) };
        if open {
            self.trace.bytes(piece);
            self.stats.bytes += len as u64;
        }
        wire.link.consume(to, len);
        if let Some(left) = &mut wire.ends[to.index()].surplus {
            *left -= 1;
        }
        self.note(host, if open { "recv" } else { "drop" }, Some(conn), len as u64);
        if outcome.is_err() {
            self.stats.faults += 1;
            self.note(host, "fault", Some(conn), 0);
            self.hosts[host as usize].faulted.push(conn);
        }
        self.ring(host);
        self.unblock(slot, to.other());
    }

    /// The reader has made room: a write that waits for it goes on when word of it arrives.
    fn unblock(&mut self, slot: usize, from: Side) {
        let wire = self.wire_ref(slot);
        let found = &mut self.wires[slot];
        if found.link.is_stalled(from.other()) {
            return;
        }
        if std::mem::take(&mut found.ends[from.index()].blocked) {
            self.agenda.schedule(self.clock.now() + self.plan.latency, Event::Write(wire, from));
        }
    }

    /// The write in flight meets the kernel.
    pub(super) fn on_write(&mut self, slot: usize, from: Side) {
        let now = self.clock.now();
        let wire = &mut self.wires[slot];
        let end = &mut wire.ends[from.index()];
        if !matches!(end.state, State::Open | State::Flushing) {
            return;
        }
        let mut parts = [&[][..]; 32];
        let used = end.queue.slices(&mut parts);
        let written = wire.link.write(from, &parts[..used], now, &self.plan, &mut self.rng);
        let Written::Taken(len) = written else {
            end.blocked = true;
            return self.expect_expiry(slot, from);
        };
        end.queue.advance(len);
        let (machine, conn, host) = self.machine_at(slot, from);
        machine.sent(conn, len, now);
        self.note(host, "sent", Some(conn), len as u64);
        self.ring(host);
        self.expect_landing(slot, from.other());
        self.expect_expiry(slot, from);
        if self.rng.chance(self.plan.reset) {
            let after = self.rng.up_to((self.plan.latency + self.plan.jitter) * 2);
            let wire = self.wire_ref(slot);
            self.agenda.schedule(now + after, Event::Reset(wire));
        }
        self.after_write(slot, from);
    }

    /// Writes on, asks for more, or ends a flush.
    fn after_write(&mut self, slot: usize, from: Side) {
        let end = self.end(slot, from);
        end.writing = false;
        let (rest, open, live) = (!end.queue.is_empty(), end.state == State::Open, end.live);
        let may_pull = live && (open || self.plan.pull_flushing);
        if may_pull && (!rest || self.rng.chance(self.plan.batch)) {
            self.pull(slot, from);
        }
        self.start_write(slot, from);
        if !open && !self.end(slot, from).writing {
            self.flushed(slot, from);
        }
    }

    /// Puts a write on the agenda if there is something to write and no write in flight.
    pub(super) fn start_write(&mut self, slot: usize, from: Side) {
        let end = self.end(slot, from);
        if !end.writing && !end.queue.is_empty() {
            end.writing = true;
            let at = self.clock.now() + self.rng.up_to(self.plan.turn);
            let wire = self.wire_ref(slot);
            self.agenda.schedule(at, Event::Write(wire, from));
        }
    }

    /// On a stalled path the operating system waits for an acknowledgement only so long.
    fn expect_expiry(&mut self, slot: usize, from: Side) {
        let wire = self.wire_ref(slot);
        let found = &mut self.wires[slot];
        let end = &mut found.ends[from.index()];
        if found.link.is_stalled(from) && found.link.is_flying(from) && !end.expiring {
            end.expiring = true;
            self.agenda.schedule(self.clock.now() + self.plan.silence_timeout, Event::Expire(wire, from));
        }
    }

    /// The operating system's patience with unacknowledged bytes ends.
    pub(super) fn on_expire(&mut self, slot: usize, from: Side) {
        let wire = &mut self.wires[slot];
        wire.ends[from.index()].expiring = false;
        if wire.link.is_stalled(from) && wire.link.is_flying(from) {
            wire.link.break_off(None);
            let wire = self.wire_ref(slot);
            self.agenda.schedule(self.clock.now(), Event::Gone(wire, from, CloseReason::TimedOut));
        }
    }

    /// The network resets the connection at both ends.
    pub(super) fn on_reset(&mut self, slot: usize) {
        self.stats.resets += 1;
        let wire = self.wire_ref(slot);
        self.wires[slot].link.break_off(None);
        for side in Side::BOTH {
            let at = self.clock.now() + self.rng.up_to(self.plan.latency);
            self.agenda.schedule(at, Event::Gone(wire, side, CloseReason::Reset));
        }
    }

    /// The path swallows everything from now on.
    pub(super) fn on_hole(&mut self, slot: usize) {
        self.stats.holes += 1;
        self.wires[slot].holed = true;
        Side::BOTH.into_iter().for_each(|side| self.stall(slot, side));
    }

    /// Nothing from `from` lands any more.
    pub(super) fn stall(&mut self, slot: usize, from: Side) {
        self.wires[slot].link.stall(from);
        self.expect_expiry(slot, from);
    }

    /// The path from `from` works again.
    pub(super) fn resume(&mut self, slot: usize, from: Side) {
        let now = self.clock.now();
        let wire = &mut self.wires[slot];
        if wire.holed {
            return;
        }
        wire.link.resume(from, now, &self.plan);
        if wire.link.is_broken() {
            // Whoever is left finds out now that there is nobody to talk to.
            let wire = self.wire_ref(slot);
            for side in Side::BOTH {
                self.agenda.schedule(now + self.plan.latency, Event::Gone(wire, side, CloseReason::Reset));
            }
        }
        self.expect_landing(slot, from.other());
        Side::BOTH.into_iter().for_each(|side| self.unblock(slot, side));
    }

    /// One end is over, for the reason given.
    pub(super) fn on_gone(&mut self, slot: usize, side: Side, why: CloseReason) {
        match self.state(slot, side) {
            State::Closed => return,
            State::Accepting => {
                self.end(slot, side).state = State::Closed;
                return self.release(slot);
            }
            State::Open if why == CloseReason::Reset && self.rng.chance(500_000) => {
                while self.wires[slot].link.readable(side) > 0 && self.wires[slot].ends[side.index()].is_reading() {
                    self.read(slot, side);
                }
            }
            _ => {}
        }
        self.close_end(slot, side, why);
    }

    /// The one place where a machine hears that a connection is over.
    fn close_end(&mut self, slot: usize, side: Side, why: CloseReason) {
        let (machine, conn, host) = self.machine_at(slot, side);
        let told = self.hosts[host as usize].conns.insert(conn, Place::Dead);
        if told.is_none_or(|place| place == Place::Dead) {
            self.fail("a connection was closed twice, or never known");
        }
        self.stats.closed += 1;
        self.note(host, why_text(why), Some(conn), 0);
        machine.close(conn, why, self.clock.now());
        self.ring(host);
        self.end(slot, side).state = State::Closed;
        if why == CloseReason::Eof {
            self.finish(slot, side);
        }
        self.release(slot);
    }

    fn finish(&mut self, slot: usize, from: Side) {
        let now = self.clock.now();
        self.wires[slot].link.finish(from, now, &self.plan, &mut self.rng);
        self.expect_landing(slot, from.other());
        self.expect_expiry(slot, from);
    }

    /// Everything that had been pulled is written.
    pub(super) fn flushed(&mut self, slot: usize, side: Side) {
        self.finish(slot, side);
        if self.rng.chance(self.plan.linger) && !self.wires[slot].link.at_end(side) {
            self.end(slot, side).state = State::Lingering;
        } else {
            self.finish_closing(slot, side);
        }
    }

    /// The socket is closed; the machine hears of it soon.
    pub(super) fn finish_closing(&mut self, slot: usize, side: Side) {
        let end = self.end(slot, side);
        end.state = State::Closing;
        end.live = false;
        end.queue.clear();
        let at = self.clock.now() + self.rng.up_to(self.plan.turn);
        let wire = self.wire_ref(slot);
        self.agenda.schedule(at, Event::Gone(wire, side, CloseReason::Local));
    }

    /// A socket is closed without flushing: the peer sees FIN after what was written, or a reset.
    pub(super) fn hang_up(&mut self, slot: usize, side: Side) {
        let unread = self.wires[slot].link.readable(side) > 0;
        if unread || self.rng.chance(self.plan.hard_close) {
            self.send_reset(slot, side.other());
        } else {
            self.finish(slot, side);
        }
    }

    /// Tells `to` that there is nobody at the other end any more.
    fn send_reset(&mut self, slot: usize, to: Side) {
        let from = to.other();
        let now = self.clock.now();
        let wire = self.wire_ref(slot);
        let keep = self.rng.chance(500_000);
        let link = &mut self.wires[slot].link;
        let mut at = now + self.plan.latency;
        if keep {
            at = at.max(link.last_landing(from));
        }
        link.break_off(keep.then_some(from));
        if !link.is_stalled(from) {
            self.agenda.schedule(at, Event::Gone(wire, to, CloseReason::Reset));
        }
    }

    /// The process behind this end dies: the machine hears nothing, the peer a reset.
    pub(super) fn lose_end(&mut self, slot: usize, side: Side) {
        self.end(slot, side).state = State::Closed;
        self.send_reset(slot, side.other());
        self.release(slot);
    }

    /// Gives the wire back once both ends are closed.
    fn release(&mut self, slot: usize) {
        let wire = &mut self.wires[slot];
        if wire.ends.iter().any(|end| end.state != State::Closed) {
            return;
        }
        self.stats.flips += wire.link.flips();
        wire.generation += 1;
        wire.link.renew();
        for end in &mut wire.ends {
            end.queue.clear();
            let queue = std::mem::replace(&mut end.queue, SendQueue::new(0));
            *end = End::closed(queue);
        }
        self.free.push(slot as u32);
    }
}

const fn why_text(why: CloseReason) -> &'static str {
    match why {
        CloseReason::Eof => "close: eof",
        CloseReason::Local => "close: local",
        CloseReason::Reset => "close: reset",
        CloseReason::Refused => "close: refused",
        CloseReason::TimedOut => "close: timed out",
        _ => "close: local failure",
    }
}
