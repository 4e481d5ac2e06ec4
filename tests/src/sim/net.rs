//! The simulation as a whole: hosts, paths between them, and the loop that lets things happen.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringplane_core::id::ConnId;
use ringplane_core::local::env::{Env, Host};
use ringplane_core::protocol::CloseReason;
use ringplane_core::time::Instant;

use super::clock::{Agenda, Clock};
use super::executor::Attention;
use super::faults::Faults;
use super::host::{Driver, Node};
use super::link::Side;
use super::rng::Rng;
use super::trace::{Note, Trace};
use super::wire::{State, Wire, WireRef};

/// Events a run may take unless [`Sim::budget`] says otherwise.
const BUDGET: u64 = 50_000_000;
/// Steps that may happen in one instant.
const INSTANT_BOUND: u64 = 1_000_000;

/// A host of a [`Sim`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(u32);

/// What has happened so far, in numbers. A test that relies on a fault checks here that it occurred.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Things taken off the agenda.
    pub events: u64,
    /// Turns hosts took.
    pub turns: u64,
    /// Dials machines asked for.
    pub dials: u64,
    /// Ends of connections machines were told are open.
    pub opened: u64,
    /// Ends of connections, and dials, machines were told are over.
    pub closed: u64,
    /// Bytes machines received.
    pub bytes: u64,
    /// Receives machines called a fault.
    pub faults: u64,
    /// Connections the network reset.
    pub resets: u64,
    /// Connections whose path went silent.
    pub holes: u64,
    /// Dials that failed or went unanswered by plan.
    pub dial_errors: u64,
    /// Bits flipped on connections that are over.
    pub flips: u64,
    /// Connections machines paused.
    pub pauses: u64,
    /// Words of machines about connections that were over, or being closed.
    pub stale: u64,
}

/// Something that is going to happen.
#[derive(Copy, Clone, Debug)]
pub(super) enum Event {
    Syn(WireRef),
    Opened(WireRef),
    Accept(WireRef),
    Arrive(WireRef, Side),
    Write(WireRef, Side),
    Expire(WireRef, Side),
    Gone(WireRef, Side, CloseReason),
    Reset(WireRef),
    Hole(WireRef),
    Timer { host: u32, arm: u32 },
    Turn(u32),
    Listening(u32),
    Script(u32),
}

type Script = Box<dyn FnOnce(&mut Sim)>;

/// A network of simulated hosts in virtual time.
///
/// # Run recipe
/// Make hosts with [`Sim::host`], command their machines or spawn tasks on their environments, then let time pass with
/// one of the `run_` methods. Whoever commands a machine from outside its tasks calls the environment's `touch`.
///
/// # Panics
/// Running panics, with the seed and the last notes printed, when a machine or the simulator breaks the contract of
/// `ringplane_core::protocol`, when nothing moves any more but keeps happening, or when the budget is spent.
pub struct Sim {
    pub(super) seed: u64,
    pub(super) clock: Clock,
    pub(super) agenda: Agenda<Event>,
    pub(super) rng: Rng,
    pub(super) plan: Faults,
    pub(super) hosts: Vec<Node>,
    pub(super) listeners: HashMap<SocketAddr, u32>,
    pub(super) wires: Vec<Wire>,
    pub(super) free: Vec<u32>,
    /// What happened to frozen hosts and waits for them.
    pub(super) parked: Vec<(u32, Event)>,
    pub(super) trace: Trace,
    pub(super) stats: Stats,
    attention: Arc<Attention>,
    cuts: Vec<(u32, u32)>,
    scripts: Vec<Option<Script>>,
    /// Whether the next event comes before the turns it could wait for.
    gathering: bool,
    budget: u64,
    steps_in_instant: u64,
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("seed", &self.seed).field("now", &self.clock.now()).finish_non_exhaustive()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last things that happened:\n{}", self.trace);
            eprintln!("the simulation failed; run it again with RINGPLANE_SEED={:#x}", self.seed);
        }
    }
}

impl Sim {
    /// An empty network on which nothing goes wrong.
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::calm())
    }

    /// An empty network with its own plan of what goes wrong.
    pub fn with_faults(seed: u64, plan: Faults) -> Self {
        Self {
            seed,
            clock: Clock::default(),
            agenda: Agenda::default(),
            rng: Rng::new(seed),
            plan,
            hosts: Vec::new(),
            listeners: HashMap::new(),
            wires: Vec::new(),
            free: Vec::new(),
            parked: Vec::new(),
            trace: Trace::default(),
            stats: Stats::default(),
            attention: Arc::default(),
            cuts: Vec::new(),
            scripts: Vec::new(),
            gathering: false,
            budget: BUDGET,
            steps_in_instant: 0,
        }
    }

    /// Bounds the events of the whole run.
    #[must_use]
    pub const fn budget(mut self, events: u64) -> Self {
        self.budget = events;
        self
    }

    /// Adds a host that listens at `addr`. `make` builds the machine, and keeps the environment if it wants tasks.
    pub fn host<H: Host>(&mut self, addr: SocketAddr, make: impl FnOnce(&Env) -> Rc<H>) -> (HostId, Rc<H>) {
        let host = self.hosts.len() as u32;
        let node = self.new_node(host, addr);
        self.hosts.push(node);
        if self.listeners.insert(addr, host).is_some() {
            self.fail(&format!("two hosts listen at {addr}"));
        }
        (HostId(host), self.boot(host, make))
    }

    /// Lets a host listen at one more address.
    pub fn listen(&mut self, host: HostId, addr: SocketAddr) {
        if self.listeners.insert(addr, host.0).is_some_and(|other| other != host.0) {
            self.fail(&format!("two hosts listen at {addr}"));
        }
    }

    /// The process of `host` dies: its machine and tasks are dropped, each of its connections is reset.
    pub fn kill(&mut self, host: HostId) {
        self.note(host.0, "killed", None, 0);
        for slot in 0..self.wires.len() {
            for side in Side::BOTH {
                let end = &self.wires[slot].ends[side.index()];
                if end.host == host.0 && end.state != State::Closed {
                    self.lose_end(slot, side);
                }
            }
        }
        self.parked.retain(|(parked, _)| *parked != host.0);
        let mut fresh = self.new_node(host.0, self.hosts[host.0 as usize].addr);
        fresh.arm = self.hosts[host.0 as usize].arm + 1;
        let dead = std::mem::replace(&mut self.hosts[host.0 as usize], fresh);
        dead.tasks.clear();
    }

    /// Starts a new process on a host that has been killed, under the same addresses.
    pub fn restart<H: Host>(&mut self, host: HostId, make: impl FnOnce(&Env) -> Rc<H>) -> Rc<H> {
        if self.hosts[host.0 as usize].machine.is_some() {
            self.kill(host);
        }
        self.note(host.0, "restarted", None, 0);
        self.boot(host.0, make)
    }

    /// The process of `host` stops running. Its kernel still takes bytes, as many as the buffers hold.
    pub fn freeze(&mut self, host: HostId) {
        self.note(host.0, "frozen", None, 0);
        self.hosts[host.0 as usize].frozen = true;
    }

    /// The process of `host` runs on, and finds everything that happened meanwhile.
    pub fn thaw(&mut self, host: HostId) {
        self.note(host.0, "thawed", None, 0);
        self.hosts[host.0 as usize].frozen = false;
        let now = self.clock.now();
        let agenda = &mut self.agenda;
        self.parked.retain(|(parked, event)| {
            if *parked == host.0 {
                agenda.schedule(now, *event);
            }
            *parked != host.0
        });
    }

    /// Both paths between two hosts swallow everything from now on; nobody is told.
    pub fn cut(&mut self, a: HostId, b: HostId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// The path from one host to another swallows everything from now on.
    pub fn cut_one_way(&mut self, from: HostId, to: HostId) {
        if !self.is_cut(from.0, to.0) {
            self.cuts.push((from.0, to.0));
        }
        self.on_path(from.0, to.0, Self::stall);
    }

    /// Both paths between two hosts work again; what was under way arrives.
    pub fn heal(&mut self, a: HostId, b: HostId) {
        self.cuts.retain(|cut| *cut != (a.0, b.0) && *cut != (b.0, a.0));
        self.on_path(a.0, b.0, Self::resume);
        self.on_path(b.0, a.0, Self::resume);
    }

    /// The network resets every connection between two hosts; both processes live on.
    pub fn reset(&mut self, a: HostId, b: HostId) {
        self.on_path(a.0, b.0, |sim, slot, _| sim.on_reset(slot));
    }

    /// Changes what goes wrong from now on. The queue limit of existing connections stays.
    pub fn set_faults(&mut self, plan: Faults) {
        self.plan = plan;
    }

    /// Calls `script` at `at`, or now if that has passed.
    pub fn at(&mut self, at: Instant, script: impl FnOnce(&mut Self) + 'static) {
        self.scripts.push(Some(Box::new(script)));
        self.agenda.schedule(at.max(self.clock.now()), Event::Script(self.scripts.len() as u32 - 1));
    }

    /// Runs until `done`, checked after every step. False if nothing can happen any more before that.
    pub fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if !self.step() {
                return false;
            }
        }
    }

    /// Runs everything up to and including `at`, then stands there.
    pub fn run_to(&mut self, at: Instant) {
        self.settle();
        while self.agenda.next_at().is_some_and(|next| next <= at) {
            self.step();
            if self.agenda.next_at().is_none_or(|next| next > at) {
                self.settle();
            }
        }
        self.clock.advance_to(at);
    }

    /// Runs for this long.
    pub fn run_for(&mut self, span: Duration) {
        self.run_to(self.clock.now() + span);
    }

    /// Runs until nothing can happen any more, for at most this long. True if that came first.
    pub fn run_until_idle(&mut self, within: Duration) -> bool {
        let end = self.clock.now() + within;
        while self.agenda.next_at().is_none_or(|next| next <= end) {
            if !self.step() {
                return true;
            }
        }
        self.settle();
        self.agenda.next_at().is_none()
    }

    /// The simulated time.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The environment of a host, for spawning tasks and touching its machine.
    pub fn env(&self, host: HostId) -> Env {
        self.hosts[host.0 as usize].env.clone()
    }

    /// The seed of this run.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// What has happened so far.
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// A number that differs between runs that took different courses.
    pub const fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Tasks of a host that have not finished.
    pub fn tasks_alive(&self, host: HostId) -> usize {
        self.hosts[host.0 as usize].tasks.alive()
    }

    /// Connections and dials that are not over at both ends.
    pub const fn connections(&self) -> usize {
        self.wires.len() - self.free.len()
    }

    /// Lets one thing happen: a turn of a host that wants one, or the next event. False if there is neither.
    pub fn step(&mut self) -> bool {
        if !std::mem::take(&mut self.gathering)
            && let Some(host) = self.attention.pop()
        {
            self.count_step();
            self.turn(host);
            return true;
        }
        let Some((at, event)) = self.agenda.pop() else { return self.settle() };
        if at > self.clock.now() {
            self.steps_in_instant = 0;
        }
        self.count_step();
        self.clock.advance_to(at);
        self.stats.events += 1;
        if self.stats.events > self.budget {
            self.fail("the event budget is spent");
        }
        self.happen(event);
        let soon = self.clock.now() + self.plan.turn;
        self.gathering = self.agenda.next_at().is_some_and(|next| next <= soon) && self.rng.chance(self.plan.batch);
        true
    }

    /// Ends the run as a failure of whoever broke the contract.
    pub(super) fn fail(&self, what: &str) -> ! {
        panic!("seed {:#x} at {:?}: {what}", self.seed, self.clock.now())
    }

    pub(super) fn note(&mut self, host: u32, what: &'static str, conn: Option<ConnId>, amount: u64) {
        self.trace.note(Note { at: self.clock.now(), host, what, conn, amount });
    }

    pub(super) fn ring(&self, host: u32) {
        self.hosts[host as usize].bell.ring();
    }

    pub(super) fn is_cut(&self, from: u32, to: u32) -> bool {
        self.cuts.contains(&(from, to))
    }

    fn new_node(&mut self, host: u32, addr: SocketAddr) -> Node {
        let rng = self.plan.shuffled_tasks.then(|| self.rng.fork());
        Node::new(host, addr, &self.clock, &self.attention, rng)
    }

    fn boot<H: Host>(&mut self, host: u32, make: impl FnOnce(&Env) -> Rc<H>) -> Rc<H> {
        let env = self.hosts[host as usize].env.clone();
        let made = make(&env);
        self.hosts[host as usize].machine = Some(Rc::new(Driver(Rc::clone(&made))));
        self.ring(host);
        made
    }

    /// Lets every host that wants a turn have it. False if none did.
    fn settle(&mut self) -> bool {
        let mut any = false;
        while let Some(host) = self.attention.pop() {
            any = true;
            self.count_step();
            self.turn(host);
        }
        any
    }

    fn count_step(&mut self) {
        self.steps_in_instant += 1;
        if self.steps_in_instant > INSTANT_BOUND {
            self.fail("things keep happening but time stands still");
        }
    }

    /// Calls `act` for each connection with bytes from `from` to `to`, with the side that `from` holds.
    fn on_path(&mut self, from: u32, to: u32, act: impl Fn(&mut Self, usize, Side)) {
        for slot in 0..self.wires.len() {
            for side in Side::BOTH {
                let ends = &self.wires[slot].ends;
                if ends[side.index()].host == from && ends[side.other().index()].host == to {
                    act(self, slot, side);
                }
            }
        }
    }

    /// The host an event is for, if it runs on one.
    fn bearer(&self, event: Event) -> Option<u32> {
        let at = |wire: WireRef, side: Side| {
            self.current(wire).map(|slot| &self.wires[slot].ends[side.index()]).map(|end| end.host)
        };
        match event {
            Event::Opened(wire) => at(wire, Side::Dialer),
            Event::Accept(wire) => at(wire, Side::Listener),
            Event::Arrive(wire, side) | Event::Write(wire, side) | Event::Gone(wire, side, _) => at(wire, side),
            Event::Timer { host, .. } | Event::Turn(host) | Event::Listening(host) => Some(host),
            Event::Syn(_) | Event::Expire(..) | Event::Reset(_) | Event::Hole(_) | Event::Script(_) => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(host) = self.bearer(event)
            && self.hosts[host as usize].frozen
        {
            return self.parked.push((host, event));
        }
        match event {
            Event::Timer { host, arm } => self.on_timer(host, arm),
            Event::Turn(host) => {
                self.hosts[host as usize].bell.answer();
                self.ring(host);
            }
            Event::Listening(host) => self.on_listening(host),
            Event::Script(number) => {
                let script = self.scripts.get_mut(number as usize).and_then(Option::take);
                script.into_iter().for_each(|script| script(self));
            }
            Event::Syn(wire)
            | Event::Opened(wire)
            | Event::Accept(wire)
            | Event::Arrive(wire, _)
            | Event::Write(wire, _)
            | Event::Expire(wire, _)
            | Event::Gone(wire, ..)
            | Event::Reset(wire)
            | Event::Hole(wire) => {
                if let Some(slot) = self.current(wire) {
                    self.happen_on_wire(slot, event);
                }
            }
        }
    }

    fn happen_on_wire(&mut self, slot: usize, event: Event) {
        match event {
            Event::Syn(_) => self.on_syn(slot),
            Event::Opened(_) => self.on_opened(slot),
            Event::Accept(_) => self.on_accept(slot),
            Event::Arrive(_, side) => self.on_arrive(slot, side),
            Event::Write(_, side) => self.on_write(slot, side),
            Event::Expire(_, side) => self.on_expire(slot, side),
            Event::Gone(_, side, why) => self.on_gone(slot, side, why),
            Event::Reset(_) => self.on_reset(slot),
            Event::Hole(_) => self.on_hole(slot),
            Event::Timer { .. } | Event::Turn(_) | Event::Listening(_) | Event::Script(_) => {}
        }
    }
}
