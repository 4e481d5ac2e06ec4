//! The drain rule, followed to the letter, and the promises of both sides asserted.

use std::net::SocketAddr;
use std::rc::Rc;

use ringplane_core::id::ConnId;
use ringplane_core::protocol::{Action, CloseReason, Closing};
use ringplane_core::time::Instant;

use super::host::{Driven, Place};
use super::link::Side;
use super::net::{Event, Sim};
use super::wire::State;

/// The port at which a host listens for those that come home to it.
const HOME: u16 = 4100;
/// Most polls in one drain, and most runs of tasks; a machine that has more to say in one turn is going round in circles.
const DRAIN_BOUND: usize = 1_000_000;
/// How often in a row a machine may be told the time without changing anything or its deadline.
const STRIKES: u8 = 2;

impl Sim {
    /// One turn of a host: the drain, with its tasks as the application.
    pub(super) fn turn(&mut self, host: u32) {
        let node = &self.hosts[host as usize];
        if node.frozen {
            return self.parked.push((host, Event::Turn(host)));
        }
        node.bell.answer();
        let Some(machine) = node.machine.clone() else { return };
        self.stats.turns += 1;
        if self.rng.chance(self.plan.early_timer) {
            machine.timeout(self.clock.now());
        }
        self.drain(host, &*machine);
    }

    fn drain(&mut self, host: u32, machine: &dyn Driven) {
        let mut progress = 0;
        loop {
            let mut round = self.drain_events(host, machine);
            round += self.run_tasks(host);
            round += self.drain_ready(host, machine);
            round += self.drain_actions(host, machine);
            if round == 0 {
                break;
            }
            progress += round;
            if progress > DRAIN_BOUND {
                self.fail(&format!("host {host} and its tasks keep each other busy for ever"));
            }
        }
        self.check_faulted(host);
        let deadline = machine.deadline();
        let node = &mut self.hosts[host as usize];
        let late = deadline.is_some_and(|deadline| deadline.at <= self.clock.now());
        let told = node.told.take();
        if late && progress == 0 && told.is_some() && told == deadline {
            node.strikes += 1;
            if node.strikes >= STRIKES {
                self.fail(&format!("told the time twice, the machine still wants {deadline:?}"));
            }
        } else if progress > 0 || !late {
            node.strikes = 0;
        }
        let timers = node.env.timers().next();
        let wish = [deadline.map(|deadline| deadline.at), timers].into_iter().flatten().min();
        if let Some(at) = wish {
            self.arm(host, at);
        }
    }

    fn run_tasks(&mut self, host: u32) -> usize {
        let ran = Rc::clone(&self.hosts[host as usize].tasks).run(DRAIN_BOUND);
        if ran == DRAIN_BOUND {
            self.fail(&format!("the tasks of host {host} wake each other for ever"));
        }
        ran
    }

    fn drain_ready(&mut self, host: u32, machine: &dyn Driven) -> usize {
        let mut named = 0;
        while let Some(conn) = machine.ready() {
            named += 1;
            if named > DRAIN_BOUND {
                self.fail(&format!("host {host} names {conn:?} ready for ever"));
            }
            match self.hosts[host as usize].conns.get(&conn) {
                Some(Place::At { wire, side }) => self.ready(*wire as usize, *side),
                Some(Place::Dead) => self.stats.stale += 1,
                None => self.fail(&format!("host {host} names {conn:?} ready, which it never had")),
            }
        }
        named
    }

    /// The machine has something to write here. With a write in flight it is asked again when that completes.
    fn ready(&mut self, slot: usize, side: Side) {
        let end = &mut self.wires[slot].ends[side.index()];
        match end.state {
            State::Open => {
                end.live = true;
                if !end.writing {
                    self.pull(slot, side);
                    self.start_write(slot, side);
                }
            }
            State::Dialing => self.fail("the machine wants to write before its dial is answered"),
            // It has asked for the close itself; what it says now is too late.
            _ => self.stats.stale += 1,
        }
    }

    /// Asks the machine for bytes until the queue is full or the connection runs dry.
    pub(super) fn pull(&mut self, slot: usize, side: Side) {
        let now = self.clock.now();
        let end = &mut self.wires[slot].ends[side.index()];
        let Some(machine) = &self.hosts[end.host as usize].machine else { return };
        while !end.queue.is_full() {
            let before = end.queue.len();
            let said = machine.transmit(end.conn, &mut end.queue, now);
            if said != (end.queue.len() > before) {
                let (conn, after) = (end.conn, end.queue.len());
                self.fail(&format!("poll_transmit of {conn:?} said {said}, the queue went from {before} to {after}"));
            }
            if !said {
                end.live = false;
                return;
            }
        }
    }

    fn drain_actions(&mut self, host: u32, machine: &dyn Driven) -> usize {
        let mut done = 0;
        while let Some(action) = machine.action() {
            done += 1;
            if done > DRAIN_BOUND {
                self.fail(&format!("host {host} acts for ever, last {action:?}"));
            }
            match action {
                Action::Connect { conn, addr } => self.dial(host, conn, addr),
                Action::Close { conn, how } => self.close(host, conn, how),
                Action::Pause { conn } => self.pause(host, conn, true),
                Action::Resume { conn } => self.pause(host, conn, false),
                Action::Listen { .. } => self.listen_at_home(host),
            }
        }
        done
    }

    /// A machine listens, at its host's address and a port of its own, for those that come home to it.
    fn listen_at_home(&mut self, host: u32) {
        let node = &mut self.hosts[host as usize];
        let home = SocketAddr::new(node.addr.ip(), HOME);
        node.home = Some(home);
        if self.listeners.insert(home, host).is_some_and(|other| other != host) {
            self.fail(&format!("two hosts listen at {home}"));
        }
        self.agenda.schedule(self.clock.now(), Event::Listening(host));
    }

    /// The machine hears that it listens, unless it has died meanwhile.
    pub(super) fn on_listening(&mut self, host: u32) {
        let node = &self.hosts[host as usize];
        if let (Some(home), Some(machine)) = (node.home, node.machine.clone()) {
            machine.listening(home, self.clock.now());
            self.ring(host);
        }
    }

    fn drain_events(&mut self, host: u32, machine: &dyn Driven) -> usize {
        let mut heard = 0;
        while machine.event() {
            heard += 1;
            if heard > DRAIN_BOUND {
                self.fail(&format!("host {host} has events for ever"));
            }
        }
        if heard > 0 {
            self.note(host, "events", None, heard as u64);
        }
        heard
    }

    /// A machine that reports a fault owes the close of that connection by the end of the drain, or, while a write in
    /// flight keeps its farewell from being pulled, by the end of the drain after that.
    fn check_faulted(&mut self, host: u32) {
        let faulted = std::mem::take(&mut self.hosts[host as usize].faulted);
        for conn in faulted {
            let Some(Place::At { wire, side }) = self.hosts[host as usize].conns.get(&conn) else { continue };
            let end = &self.wires[*wire as usize].ends[side.index()];
            match (end.state, end.writing) {
                (State::Open, true) => self.hosts[host as usize].faulted.push(conn),
                (State::Open, false) => {
                    self.fail(&format!("host {host} reported a fault of {conn:?} and did not close it"));
                }
                _ => {}
            }
        }
    }

    fn dial(&mut self, host: u32, conn: ConnId, addr: SocketAddr) {
        if !conn.is_dialed() {
            self.fail(&format!("host {host} dials under the name {conn:?}, which is the driver's to give"));
        }
        self.stats.dials += 1;
        self.note(host, "dial", Some(conn), u64::from(addr.port()));
        let wire = self.new_wire(host, conn, addr);
        let place = Place::At { wire: wire.slot, side: Side::Dialer };
        if self.hosts[host as usize].conns.insert(conn, place).is_some() {
            self.fail(&format!("host {host} dials {conn:?} twice"));
        }
        let now = self.clock.now();
        if self.rng.chance(self.plan.dial_error) {
            self.stats.dial_errors += 1;
            let whys =
                [CloseReason::Refused, CloseReason::Unreachable, CloseReason::NoDescriptors, CloseReason::NoPorts];
            let why = whys[self.rng.index(whys.len())];
            let at = now + self.rng.up_to(self.plan.turn + self.plan.latency);
            self.agenda.schedule(at, Event::Gone(wire, Side::Dialer, why));
        } else if self.rng.chance(self.plan.dial_lost) {
            self.stats.dial_errors += 1;
            self.agenda.schedule(now + self.plan.dial_timeout, Event::Gone(wire, Side::Dialer, CloseReason::TimedOut));
        } else {
            let at = now + self.plan.latency + self.rng.up_to(self.plan.jitter);
            self.agenda.schedule(at, Event::Syn(wire));
        }
    }

    fn close(&mut self, host: u32, conn: ConnId, how: Closing) {
        let (slot, side) = match self.hosts[host as usize].conns.get(&conn) {
            Some(Place::At { wire, side }) => (*wire as usize, *side),
            // The close crossed the end of the connection in the same turn.
            Some(Place::Dead) => return self.stats.stale += 1,
            None => self.fail(&format!("host {host} closes {conn:?}, which it never had")),
        };
        self.note(host, if how == Closing::Flush { "flush" } else { "abort" }, Some(conn), 0);
        let end = &mut self.wires[slot].ends[side.index()];
        match (end.state, how) {
            (State::Dialing, _) => {
                self.finish_closing(slot, side);
                self.abandon(slot, side);
            }
            (State::Open, Closing::Flush) => {
                end.state = State::Flushing;
                if end.surplus.take().is_some() {
                    self.expect_more(slot, side);
                }
                if !self.wires[slot].ends[side.index()].writing {
                    self.flushed(slot, side);
                }
            }
            (State::Open | State::Flushing | State::Lingering, Closing::Abort) => {
                self.finish_closing(slot, side);
                self.hang_up(slot, side);
            }
            // It is being closed already.
            _ => {}
        }
    }

    /// Reads stop, or go on. What the driver had received when it was told to stop may still be delivered.
    fn pause(&mut self, host: u32, conn: ConnId, paused: bool) {
        let (slot, side) = match self.hosts[host as usize].conns.get(&conn) {
            Some(Place::At { wire, side }) => (*wire as usize, *side),
            Some(Place::Dead) => return self.stats.stale += 1,
            None => self.fail(&format!("host {host} pauses {conn:?}, which it never had")),
        };
        let end = &self.wires[slot].ends[side.index()];
        match (end.state, end.surplus.is_some()) {
            (State::Open, before) if before == paused => {
                self.fail(&format!("host {host} pauses or resumes {conn:?} twice"));
            }
            (State::Open, _) => {}
            (State::Dialing | State::Accepting, _) => self.fail("a connection that is not up is paused"),
            // It is being closed already.
            _ => return self.stats.stale += 1,
        }
        self.note(host, if paused { "pause" } else { "resume" }, Some(conn), 0);
        self.stats.pauses += u64::from(paused);
        let surplus = paused.then(|| self.rng.index(3) as u8);
        self.wires[slot].ends[side.index()].surplus = surplus;
        self.expect_more(slot, side);
    }

    /// A dial is taken back; if the listener has accepted it meanwhile, it hears so.
    fn abandon(&mut self, slot: usize, side: Side) {
        if self.wires[slot].ends[side.other().index()].state != State::Closed {
            self.hang_up(slot, side);
        }
    }

    /// Arms the timer of a host, unless it is armed for no later.
    fn arm(&mut self, host: u32, at: Instant) {
        let node = &mut self.hosts[host as usize];
        if at >= node.armed {
            return;
        }
        node.armed = at;
        node.arm += 1;
        let fires = at.max(self.clock.now()) + self.rng.up_to(self.plan.late_timer);
        self.agenda.schedule(fires, Event::Timer { host, arm: node.arm });
    }

    /// The timer of a host fires.
    pub(super) fn on_timer(&mut self, host: u32, arm: u32) {
        let now = self.clock.now();
        let node = &mut self.hosts[host as usize];
        let Some(machine) = node.machine.clone().filter(|_| node.arm == arm) else { return };
        node.armed = Instant::FAR;
        node.env.timers().fire(now);
        if let Some(deadline) = machine.deadline().filter(|deadline| deadline.at <= now) {
            node.told = Some(deadline);
            machine.timeout(now);
            self.note(host, "timeout", None, deadline.why as u64);
        }
        self.ring(host);
    }
}
