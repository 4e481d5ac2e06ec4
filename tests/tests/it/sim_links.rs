//! The simulator under an echo machine: bytes stay whole, ends come once, silence is silent, runs repeat.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringplane_core::buf::send_queue::SendQueue;
use ringplane_core::id::ConnId;
use ringplane_core::local::env::{Env, Host};
use ringplane_core::protocol::{Action, CloseReason, Closing, Fault, Protocol};
use ringplane_core::time::{Deadline, Instant, Reason};
use ringplane_tests::sim::net::Stats;
use ringplane_tests::sim::{Faults, HostId, Rng, Sim, seeds};

/// How a machine misbehaves on purpose, to show that the simulator notices.
#[derive(Copy, Clone, PartialEq, Eq, Default)]
enum Vice {
    #[default]
    None,
    /// Names a connection ready for ever.
    EverReady,
    /// Says it appended bytes when it did not.
    Liar,
    /// Wants to be told the time, whatever it is told.
    Impatient,
    /// Calls everything a fault and closes nothing.
    Shirker,
    /// Dials the same name twice.
    Repeater,
}

#[derive(Default)]
struct Talk {
    open: bool,
    received: Vec<u8>,
    outgoing: VecDeque<u8>,
    sent: usize,
    named: bool,
}

/// Sends back what it receives, or keeps it; asserts what drivers promise.
#[derive(Default)]
struct Talker {
    echoes: bool,
    vice: Vice,
    talks: BTreeMap<ConnId, Talk>,
    over: BTreeMap<ConnId, (CloseReason, Vec<u8>)>,
    ready: VecDeque<ConnId>,
    actions: VecDeque<Action>,
    opened: usize,
    dials: u64,
    alarm: Option<Instant>,
    alarms: usize,
    now: Instant,
}

impl Talker {
    fn talk(&mut self, conn: ConnId) -> &mut Talk {
        self.talks.get_mut(&conn).expect("the driver names only connections that live")
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(talk) = self.talks.get_mut(&conn) else { return };
        talk.outgoing.extend(bytes);
        if talk.open && !std::mem::replace(&mut talk.named, true) {
            self.ready.push_back(conn);
        }
    }

    fn dial(&mut self, addr: SocketAddr) -> ConnId {
        let conn = ConnId::dialed(self.dials);
        if self.vice != Vice::Repeater {
            self.dials += 1;
        }
        self.talks.insert(conn, Talk::default());
        self.actions.push_back(Action::Connect { conn, addr });
        conn
    }

    fn pass(&mut self, now: Instant) {
        assert!(now >= self.now, "time ran backwards");
        self.now = now;
    }
}

impl Protocol for Talker {
    type Event = ();

    fn handle_open(&mut self, conn: ConnId, _: Option<SocketAddr>, now: Instant) {
        self.pass(now);
        assert!(!self.over.contains_key(&conn), "{conn:?} opened after its end");
        let talk = self.talks.entry(conn).or_default();
        assert!(!std::mem::replace(&mut talk.open, true), "{conn:?} opened twice");
        self.opened += 1;
        self.say(conn, &[]);
    }

    fn handle_recv(&mut self, conn: ConnId, bytes: &[u8], now: Instant) -> Result<(), Fault> {
        self.pass(now);
        let echoes = self.echoes;
        let talk = self.talk(conn);
        assert!(talk.open && !bytes.is_empty());
        talk.received.extend(bytes);
        if echoes {
            self.say(conn, bytes);
        }
        if self.vice == Vice::Shirker { Err(Fault::State) } else { Ok(()) }
    }

    fn handle_sent(&mut self, conn: ConnId, bytes: usize, now: Instant) {
        self.pass(now);
        self.talk(conn).sent += bytes;
    }

    fn handle_close(&mut self, conn: ConnId, why: CloseReason, now: Instant) {
        self.pass(now);
        let talk = self.talks.remove(&conn).expect("a connection ends once");
        assert!(self.over.insert(conn, (why, talk.received)).is_none(), "{conn:?} ended twice");
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.pass(now);
        if self.vice != Vice::Impatient && self.alarm.is_some_and(|alarm| alarm <= now) {
            self.alarm = None;
            self.alarms += 1;
        }
    }

    fn poll_ready(&mut self) -> Option<ConnId> {
        if self.vice == Vice::EverReady {
            return self.talks.keys().next().copied().filter(|conn| self.talks[conn].open);
        }
        self.ready.pop_front()
    }

    fn poll_transmit(&mut self, conn: ConnId, out: &mut SendQueue, _: Instant) -> bool {
        let lies = self.vice == Vice::Liar;
        let talk = self.talk(conn);
        let len = talk.outgoing.len().min(1000);
        let piece: Vec<u8> = talk.outgoing.drain(..len).collect();
        out.push(&piece);
        talk.named = len > 0;
        len > 0 || lies
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.alarm.map(|at| Deadline { at, why: Reason::Idle })
    }

    fn bytes_wanted(&self, conn: ConnId) -> usize {
        self.talks.get(&conn).map_or(0, |talk| 7 - talk.received.len() % 7)
    }
}

struct Double {
    machine: RefCell<Talker>,
    env: Env,
}

impl Host for Double {
    type Machine = Talker;

    fn with<R>(&self, f: impl FnOnce(&mut Talker) -> R) -> R {
        f(&mut self.machine.borrow_mut())
    }

    fn deliver(&self, (): ()) {}
}

impl Double {
    fn command<R>(&self, f: impl FnOnce(&mut Talker) -> R) -> R {
        let outcome = self.with(f);
        self.env.touch();
        outcome
    }

    fn received(&self, conn: ConnId) -> Vec<u8> {
        self.with(|machine| match machine.over.get(&conn) {
            Some((_, received)) => received.clone(),
            None => machine.talk(conn).received.clone(),
        })
    }

    fn ends(&self) -> Vec<CloseReason> {
        self.with(|machine| machine.over.values().map(|(why, _)| *why).collect())
    }
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn double(env: &Env, machine: Talker) -> Rc<Double> {
    Rc::new(Double { machine: RefCell::new(machine), env: env.clone() })
}

fn echo(env: &Env) -> Rc<Double> {
    double(env, Talker { echoes: true, ..Talker::default() })
}

struct Pair {
    sim: Sim,
    caller: HostId,
    server: HostId,
    near: Rc<Double>,
    far: Rc<Double>,
    conn: ConnId,
}

/// A caller that has dialed an echo server; nothing has run yet.
fn pair(seed: u64, plan: Faults) -> Pair {
    let mut sim = Sim::with_faults(seed, plan);
    let (caller, near) = sim.host(addr(1), |env| double(env, Talker::default()));
    let (server, far) = sim.host(addr(2), echo);
    let conn = near.command(|machine| machine.dial(addr(2)));
    Pair { sim, caller, server, near, far, conn }
}

fn open_pair(plan: Faults) -> Pair {
    let mut pair = pair(1, plan);
    pair.sim.run_for(Duration::from_millis(1));
    assert_eq!(pair.sim.stats().opened, 2);
    pair
}

fn pattern(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.next() as u8).collect()
}

fn ring(plan: Faults, bytes: &[u8]) -> Pair {
    let mut pair = open_pair(plan);
    pair.near.command(|machine| machine.say(pair.conn, bytes));
    pair.sim.run_for(Duration::from_millis(1));
    pair
}

#[test]
fn every_byte_comes_back_whole_in_whatever_portions_it_travels() {
    for seed in seeds(300) {
        let mut rng = Rng::new(seed);
        let mut pair = pair(seed, Faults::ragged(seed));
        let len = 1 + rng.index(20_000);
        let sent = pattern(&mut rng, len);
        pair.near.command(|machine| machine.say(pair.conn, &sent));
        let (near, conn) = (Rc::clone(&pair.near), pair.conn);
        let whole = pair.sim.run_until(|_| near.with(|machine| machine.talk(conn).received.len() >= len));
        assert!(whole && near.received(conn) == sent, "seed {seed}");
        near.command(|machine| machine.actions.push_back(Action::Close { conn, how: Closing::Flush }));
        assert!(pair.sim.run_until_idle(Duration::from_secs(60)));
        assert_eq!(near.ends(), [CloseReason::Local], "seed {seed}");
        assert_eq!(pair.far.ends().len(), 1, "seed {seed}");
        assert_eq!(pair.sim.connections(), 0);
    }
}

/// Ten connections under every fault there is, dialed over a second. Returns the hash of the course it took.
fn rough_run(seed: u64, total: &mut Stats) -> u64 {
    let mut rng = Rng::new(seed);
    let mut pair = pair(seed, Faults::rough(seed));
    let mut sent = vec![(pair.conn, pattern(&mut rng, 5000))];
    for _ in 0..9 {
        let len = 1 + rng.index(5000);
        let conn = pair.near.command(|machine| machine.dial(addr(2)));
        sent.push((conn, pattern(&mut rng, len)));
    }
    for (conn, bytes) in &sent {
        pair.near.command(|machine| machine.say(*conn, bytes));
        pair.sim.run_for(rng.up_to(Duration::from_millis(5)));
    }
    pair.sim.run_for(Duration::from_secs(2000));
    for (conn, bytes) in &sent {
        assert!(bytes.starts_with(&pair.near.received(*conn)), "seed {seed}: {conn:?} received what was never sent");
        let answered = pair.near.with(|machine| machine.over.contains_key(conn) || machine.talk(*conn).open);
        assert!(answered, "seed {seed}: nobody answered {conn:?}");
    }
    let stats = pair.sim.stats();
    total.resets += stats.resets;
    total.holes += stats.holes;
    total.dial_errors += stats.dial_errors;
    pair.sim.trace_hash()
}

#[test]
fn under_every_fault_what_arrives_was_sent_and_every_dial_is_answered() {
    let mut total = Stats::default();
    seeds(300).for_each(|seed| {
        rough_run(seed, &mut total);
    });
    if seeds(300).count() == 300 {
        assert!(total.resets > 30 && total.holes > 30 && total.dial_errors > 100, "{total:?}");
    }
}

#[test]
fn the_same_seed_takes_the_same_course_and_another_seed_another() {
    let hashes = || (0..20).map(|seed| rough_run(seed, &mut Stats::default())).collect::<Vec<_>>();
    let first = hashes();
    assert_eq!(first, hashes());
    let mut distinct = first.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), first.len());
}

#[test]
fn a_reset_ends_the_connection_once_at_both_ends() {
    let mut pair = ring(Faults::calm(), b"hello");
    pair.sim.reset(pair.caller, pair.server);
    assert!(pair.sim.run_until_idle(Duration::from_secs(1)));
    assert_eq!(pair.near.ends(), [CloseReason::Reset]);
    assert_eq!(pair.far.ends(), [CloseReason::Reset]);
    assert_eq!(pair.sim.connections(), 0);
}

#[test]
fn a_cut_path_is_silent_until_it_heals() {
    let mut pair = ring(Faults::calm(), b"before");
    pair.sim.cut(pair.caller, pair.server);
    pair.near.command(|machine| machine.say(pair.conn, b" after"));
    pair.sim.run_for(Duration::from_secs(100));
    assert_eq!(pair.near.received(pair.conn), b"before");
    assert!(pair.near.ends().is_empty() && pair.far.ends().is_empty());
    pair.sim.heal(pair.caller, pair.server);
    pair.sim.run_for(Duration::from_secs(1));
    assert_eq!(pair.near.received(pair.conn), b"before after");
}

#[test]
fn the_operating_system_gives_up_on_a_cut_path_only_if_bytes_are_unacknowledged() {
    let mut pair = ring(Faults::calm(), b"before");
    pair.sim.cut(pair.caller, pair.server);
    pair.near.command(|machine| machine.say(pair.conn, b"lost"));
    pair.sim.run_for(Duration::from_secs(1000));
    assert_eq!(pair.near.ends(), [CloseReason::TimedOut]);
    assert!(pair.far.ends().is_empty());
    pair.sim.heal(pair.caller, pair.server);
    pair.sim.run_for(Duration::from_secs(1));
    assert_eq!(pair.far.ends(), [CloseReason::Reset]);
    assert_eq!(pair.far.with(|machine| machine.over.values().next().unwrap().1.clone()), b"before");
}

#[test]
fn a_cut_in_one_direction_leaves_the_other_alone() {
    let mut pair = ring(Faults::calm(), b"one");
    pair.sim.cut_one_way(pair.server, pair.caller);
    pair.near.command(|machine| machine.say(pair.conn, b"two"));
    pair.sim.run_for(Duration::from_secs(1));
    let there = pair.far.with(|machine| machine.talks.values().next().unwrap().received.clone());
    assert_eq!(there, b"onetwo");
    assert_eq!(pair.near.received(pair.conn), b"one");
}

#[test]
fn a_frozen_host_takes_what_its_kernel_holds_and_answers_when_it_thaws() {
    let plan = Faults { buffer: 4000, ..Faults::calm() };
    let mut pair = open_pair(plan);
    pair.sim.freeze(pair.server);
    let sent = pattern(&mut Rng::new(1), 50_000);
    pair.near.command(|machine| machine.say(pair.conn, &sent));
    pair.sim.run_for(Duration::from_secs(5));
    assert_eq!(pair.near.with(|machine| machine.talk(pair.conn).sent), 4000);
    assert!(pair.near.received(pair.conn).is_empty());
    pair.sim.thaw(pair.server);
    pair.sim.run_for(Duration::from_secs(5));
    assert_eq!(pair.near.received(pair.conn), sent);
}

#[test]
fn a_frozen_host_accepts_in_its_kernel_and_runs_no_task_and_no_timer() {
    let mut pair = pair(1, Faults::calm());
    let env = pair.sim.env(pair.server);
    let sleeper = env.clone();
    env.spawn(async move { sleeper.sleep(Duration::from_secs(1)).await });
    pair.far.command(|machine| machine.alarm = Some(Instant::from_nanos(5)));
    pair.sim.freeze(pair.server);
    pair.sim.run_for(Duration::from_secs(5));
    assert!(pair.near.with(|machine| machine.talk(pair.conn).open));
    assert_eq!(pair.far.with(|machine| (machine.opened, machine.alarms)), (0, 0));
    assert_eq!(pair.sim.tasks_alive(pair.server), 1);
    pair.sim.thaw(pair.server);
    pair.sim.run_for(Duration::from_secs(2));
    assert_eq!(pair.far.with(|machine| (machine.opened, machine.alarms)), (1, 1));
    assert_eq!(pair.sim.tasks_alive(pair.server), 0);
}

#[test]
fn a_killed_host_resets_its_peers_refuses_dials_and_serves_again_after_a_restart() {
    let mut pair = ring(Faults::calm(), b"hello");
    pair.sim.kill(pair.server);
    pair.sim.run_for(Duration::from_secs(1));
    assert_eq!(pair.near.ends(), [CloseReason::Reset]);
    pair.near.command(|machine| machine.dial(addr(2)));
    pair.sim.run_for(Duration::from_secs(1));
    assert_eq!(pair.near.ends(), [CloseReason::Reset, CloseReason::Refused]);
    let weak = Rc::downgrade(&pair.far);
    drop(pair.far);
    assert!(weak.upgrade().is_none(), "somebody keeps the dead machine");
    pair.sim.restart(pair.server, echo);
    let conn = pair.near.command(|machine| machine.dial(addr(2)));
    pair.near.command(|machine| machine.say(conn, b"again"));
    pair.sim.run_for(Duration::from_secs(1));
    assert_eq!(pair.near.received(conn), b"again");
}

#[test]
fn a_dial_into_a_cut_path_times_out_and_one_that_heals_in_time_succeeds() {
    for (heals_after, opened) in [(10, 2), (200, 0)] {
        let mut pair = pair(1, Faults::calm());
        let (caller, server) = (pair.caller, pair.server);
        pair.sim.cut(caller, server);
        pair.sim.at(Instant::ZERO + Duration::from_secs(heals_after), move |sim| sim.heal(caller, server));
        pair.sim.run_for(Duration::from_secs(300));
        assert_eq!(pair.sim.stats().opened, opened);
        assert_eq!(pair.near.ends(), [CloseReason::TimedOut][..usize::from(opened == 0)]);
    }
}

#[test]
fn a_dial_that_is_taken_back_is_answered_by_one_close() {
    for seed in seeds(50) {
        let mut pair = pair(seed, Faults::ragged(seed));
        let conn = pair.conn;
        pair.sim.run_for(Rng::new(seed).up_to(Duration::from_micros(300)));
        pair.near.command(|machine| machine.actions.push_back(Action::Close { conn, how: Closing::Abort }));
        assert!(pair.sim.run_until_idle(Duration::from_secs(10)));
        assert_eq!(pair.near.ends(), [CloseReason::Local]);
        assert_eq!(pair.far.with(|machine| machine.talks.len()), 0);
        assert_eq!(pair.sim.connections(), 0);
    }
}

#[test]
fn a_flush_delivers_everything_that_was_pulled_before_the_end() {
    let plan = Faults { buffer: 100, linger: 1_000_000, ..Faults::calm() };
    let mut pair = open_pair(plan);
    let (conn, sent) = (pair.conn, pattern(&mut Rng::new(1), 5000));
    pair.far.with(|machine| machine.echoes = false);
    pair.near.command(|machine| {
        machine.say(conn, &sent);
        machine.actions.push_back(Action::Close { conn, how: Closing::Flush });
    });
    assert!(pair.sim.run_until_idle(Duration::from_secs(10)));
    assert_eq!(pair.near.ends(), [CloseReason::Local]);
    assert_eq!(pair.far.ends(), [CloseReason::Eof]);
    assert_eq!(pair.far.with(|machine| machine.over.values().next().unwrap().1.clone()), sent);
}

#[test]
fn a_paused_connection_delivers_what_had_been_received_and_the_rest_after_it_resumes() {
    for seed in seeds(100) {
        let mut pair = pair(seed, Faults { receive: 4096, linger: 1_000_000, ..Faults::ragged(seed) });
        let (conn, sent) = (pair.conn, pattern(&mut Rng::new(seed), 20_000));
        assert!(pair.sim.run_until(|sim| sim.stats().opened == 2));
        pair.near.command(|machine| machine.actions.push_back(Action::Pause { conn }));
        pair.near.command(|machine| machine.say(conn, &sent));
        pair.sim.run_for(Duration::from_secs(20));
        let early = pair.near.received(conn).len();
        pair.sim.run_for(Duration::from_secs(20));
        assert_eq!(pair.near.received(conn).len(), early, "seed {seed}");
        assert!(early < sent.len() && pair.sim.stats().pauses == 1, "seed {seed}: {early} bytes while it paused");
        if seed % 2 == 0 {
            pair.near.command(|machine| machine.actions.push_back(Action::Resume { conn }));
            let (near, len) = (Rc::clone(&pair.near), sent.len());
            assert!(pair.sim.run_until(|_| near.received(conn).len() == len) && near.received(conn) == sent);
        }
        // A close ends a pause: what still comes is dropped, and the peer's end is seen.
        pair.near.command(|machine| machine.actions.push_back(Action::Close { conn, how: Closing::Flush }));
        assert!(pair.sim.run_until_idle(Duration::from_secs(60)));
        assert_eq!((pair.near.ends(), pair.sim.connections()), (vec![CloseReason::Local], 0), "seed {seed}");
    }
}

#[test]
fn flipped_bits_reach_the_machine_when_asked_for() {
    let pair = ring(Faults { flip: 1_000_000, ..Faults::calm() }, &[0; 64]);
    let ones: u32 = pair.near.received(pair.conn).iter().map(|byte| byte.count_ones()).sum();
    assert!(ones > 0 && ones <= 2, "one flip each way, found {ones}");
}

#[test]
fn tasks_sleep_in_virtual_time() {
    let mut sim = Sim::new(1);
    let (host, _) = sim.host(addr(1), echo);
    let env = sim.env(host);
    let woke = Rc::new(RefCell::new(Vec::new()));
    for seconds in [3, 1, 2] {
        let (sleeper, woke) = (env.clone(), Rc::clone(&woke));
        env.spawn(async move {
            sleeper.sleep(Duration::from_secs(seconds)).await;
            woke.borrow_mut().push((seconds, sleeper.now()));
        });
    }
    assert!(sim.run_until_idle(Duration::from_secs(10)));
    let expected = [1, 2, 3].map(|seconds| (seconds, Instant::ZERO + Duration::from_secs(seconds)));
    assert_eq!(*woke.borrow(), expected);
}

fn indulge(vice: Vice) {
    let mut pair = open_pair(Faults::calm());
    pair.far.command(|machine| {
        machine.vice = vice;
        machine.alarm = Some(Instant::ZERO);
        if vice == Vice::Repeater {
            machine.dial(addr(1));
            machine.dial(addr(1));
        }
    });
    pair.near.command(|machine| machine.say(pair.conn, b"hello"));
    pair.sim.run_for(Duration::from_secs(1));
}

#[test]
fn a_machine_without_vices_passes_the_same_course() {
    indulge(Vice::None);
}

#[test]
#[should_panic(expected = "ready for ever")]
fn a_machine_that_is_ever_ready_fails_the_run() {
    indulge(Vice::EverReady);
}

#[test]
#[should_panic(expected = "poll_transmit of conn0 said true")]
fn a_machine_that_claims_bytes_it_did_not_append_fails_the_run() {
    indulge(Vice::Liar);
}

#[test]
#[should_panic(expected = "told the time twice")]
fn a_machine_that_ignores_its_own_deadline_fails_the_run() {
    indulge(Vice::Impatient);
}

#[test]
#[should_panic(expected = "did not close it")]
fn a_machine_that_reports_a_fault_and_does_not_close_fails_the_run() {
    indulge(Vice::Shirker);
}

#[test]
#[should_panic(expected = "twice")]
fn a_machine_that_dials_one_name_twice_fails_the_run() {
    indulge(Vice::Repeater);
}

#[test]
#[should_panic(expected = "the event budget is spent")]
fn a_run_that_takes_too_many_events_fails() {
    let pair = pair(3, Faults::calm());
    pair.near.command(|machine| machine.say(pair.conn, &[0; 1000]));
    let mut sim = pair.sim.budget(5);
    sim.run_for(Duration::from_secs(1));
}
