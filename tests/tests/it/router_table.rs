//! What Dynamo's rule does and what ours does, on one simulated trace each: `cargo test -p ringplane-tests --test it --
//! --nocapture router_table`. The weak points are those of the specification of routing; Dynamo's side is its rule as the
//! specification has it, with its constants, in the few lines it takes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringplane_core::caller::config::Dialect;
use ringplane_core::caller::request::{EndpointKey, Request};
use ringplane_core::caller::target::Target;
use ringplane_core::discovery::trouble::Cause;
use ringplane_core::discovery::watch::{self, Lost, Watch};
use ringplane_core::id::InstanceId;
use ringplane_core::local::env::Env;
use ringplane_core::local::host::LocalNode;
use ringplane_core::node::Node;
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::Ask;
use ringplane_core::route::health::Outcome;
use ringplane_core::route::instances::{Instances, Wish};
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::route::rules::Config;
use ringplane_core::task::schedule::{Asked, Gate, SemaphoreScheduler};
use ringplane_core::time::Instant;
use ringplane_core::wire::mux::CancelMode;
use ringplane_core::{caller, worker};
use ringplane_tests::sim::{HostId, Sim};

const START: Instant = Instant::from_nanos(1_000_000_000);

fn after(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

/// What a worker of the trace does with a call.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Does {
    Answers,
    /// Its handler fails before the stream begins.
    Fails,
    /// Nobody takes the connection.
    Refuses,
}

/// A rule that picks and learns.
trait Rule {
    fn pick(&mut self, avoid: &[u64], now: Instant) -> Option<u64>;
    fn told(&mut self, id: u64, does: Does, now: Instant);
    fn members(&mut self, ids: &[u64], now: Instant);
    /// How many tries a call has.
    fn tries(&self) -> usize;
    /// Whether a call that met this is tried again.
    fn again(&self, does: Does) -> bool;
}

/// Dynamo 1.6.1: one failure of any kind before the stream takes a worker out until the next tick of 5 s, which all share, or
/// until any worker joins or leaves; the next of those left is the counter modulo their number.
struct Dynamo {
    discovered: Vec<u64>,
    routable: Vec<u64>,
    counter: usize,
    tick: Instant,
    migrations: usize,
}

impl Dynamo {
    fn new(migrations: usize) -> Self {
        Self { discovered: vec![], routable: vec![], counter: 0, tick: START, migrations }
    }
}

impl Rule for Dynamo {
    fn pick(&mut self, _: &[u64], now: Instant) -> Option<u64> {
        if now >= self.tick {
            self.routable = self.discovered.clone();
            self.tick = now + Duration::from_secs(5);
        }
        self.counter += 1;
        let count = self.routable.len();
        (count > 0).then(|| self.routable[(self.counter - 1) % count])
    }

    fn told(&mut self, id: u64, does: Does, _: Instant) {
        if does != Does::Answers {
            self.routable.retain(|other| *other != id);
        }
    }

    fn members(&mut self, ids: &[u64], now: Instant) {
        (self.discovered, self.routable) = (ids.to_vec(), ids.to_vec());
        self.tick = now + Duration::from_secs(5);
    }

    fn tries(&self) -> usize {
        1 + self.migrations
    }

    fn again(&self, does: Does) -> bool {
        does != Does::Answers
    }
}

/// Ours, as the caller uses it.
struct Ours {
    instances: Instances<()>,
    policy: AnyPolicy,
    rng: Rng,
}

impl Ours {
    fn new() -> Self {
        Self { instances: Instances::new(Config::default()), policy: AnyPolicy::default(), rng: Rng::new(7) }
    }
}

impl Rule for Ours {
    fn pick(&mut self, avoid: &[u64], now: Instant) -> Option<u64> {
        let avoid: Vec<InstanceId> = avoid.iter().copied().map(InstanceId).collect();
        let wish = Wish { ask: Ask::default(), allow: &[], avoid: &avoid, now };
        self.instances.pick(&mut self.policy, wish, &mut self.rng).ok().map(|(one, ())| one.id.0)
    }

    fn told(&mut self, id: u64, does: Does, now: Instant) {
        let outcome = if does == Does::Refuses { Outcome::Lost } else { Outcome::Answered };
        let probe = self.instances.began(InstanceId(id), now);
        self.instances.on_outcome(InstanceId(id), outcome, probe, now, &mut self.rng);
        self.instances.ended(InstanceId(id), probe, now);
    }

    fn members(&mut self, ids: &[u64], _: Instant) {
        self.instances.update(ids.iter().map(|id| (InstanceId(*id), ())), |_, ()| {});
    }

    fn tries(&self) -> usize {
        3
    }

    fn again(&self, does: Does) -> bool {
        does == Does::Refuses
    }
}

/// What came of a trace.
#[derive(Default)]
struct Sums {
    calls: u64,
    tries: u64,
    /// Calls that nobody answered.
    lost: u64,
    /// Tries at each worker that did not come off.
    failed: BTreeMap<u64, u64>,
}

impl Sums {
    /// One call.
    fn call(&mut self, rule: &mut dyn Rule, now: Instant, does: impl Fn(u64) -> Does) {
        self.calls += 1;
        let mut avoid = Vec::new();
        for _ in 0..rule.tries() {
            let Some(id) = rule.pick(&avoid, now) else { break };
            self.tries += 1;
            rule.told(id, does(id), now);
            if does(id) == Does::Answers {
                return;
            }
            *self.failed.entry(id).or_default() += 1;
            if !rule.again(does(id)) {
                break;
            }
            avoid.push(id);
        }
        self.lost += 1;
    }

    fn failed(&self, id: u64) -> u64 {
        self.failed.get(&id).copied().unwrap_or(0)
    }
}

fn both(dynamo: Dynamo, trace: impl Fn(&mut dyn Rule) -> Sums) -> [Sums; 2] {
    let (mut theirs, mut ours) = (dynamo, Ours::new());
    [trace(&mut theirs), trace(&mut ours)]
}

/// W1: one of three workers refuses every call for five minutes.
fn dead_for_long(rule: &mut dyn Rule) -> Sums {
    let mut sums = Sums::default();
    rule.members(&[1, 2, 3], START);
    (0..3000).for_each(|step| {
        sums.call(rule, after(step * 100), |id| if id == 1 { Does::Refuses } else { Does::Answers });
    });
    sums
}

/// W2: three calls in a row meet a bug of the handler, before the stream; the others, 25 a second, are healthy.
fn poisoned(rule: &mut dyn Rule) -> Sums {
    let mut healthy = Sums::default();
    rule.members(&[1, 2, 3], START);
    for step in 0..400 {
        if (100..103).contains(&step) {
            Sums::default().call(rule, after(step * 40 + 1), |_| Does::Fails);
        }
        healthy.call(rule, after(step * 40 + 2), |_| Does::Answers);
    }
    healthy
}

/// W3: eight of ten workers refuse for a second, then the caller's own network for half of one; what is lost after that.
fn correlated(rule: &mut dyn Rule) -> Sums {
    let mut later = Sums::default();
    let ids: Vec<u64> = (1..=10).collect();
    rule.members(&ids, START);
    let does = move |at: u64, id: u64| match at {
        0..1000 if id <= 8 => Does::Refuses,
        1000..1500 => Does::Refuses,
        _ => Does::Answers,
    };
    for step in 0..800 {
        let at = step * 10;
        let mut now = Sums::default();
        now.call(rule, after(at), |id| does(at, id));
        if at >= 1500 {
            later.calls += now.calls;
            later.lost += now.lost;
        }
    }
    later
}

/// W4: one of three workers is dead, and another one joins or leaves every 200 ms for 20 s.
fn joins(rule: &mut dyn Rule) -> Sums {
    let mut sums = Sums::default();
    for step in 0..1000u64 {
        if step.is_multiple_of(10) {
            let guest: &[u64] = if step.is_multiple_of(20) { &[1, 2, 3] } else { &[1, 2, 3, 4] };
            rule.members(guest, after(step * 20));
        }
        sums.call(rule, after(step * 20), |id| if id == 1 { Does::Refuses } else { Does::Answers });
    }
    sums
}

/// W17: one poisoned call that may be tried again, with nothing else going on.
fn poisoned_once(rule: &mut dyn Rule) -> Sums {
    let mut sums = Sums::default();
    rule.members(&[1, 2, 3], START);
    sums.call(rule, START, |_| Does::Fails);
    sums
}

/// A record of discovery: its key is all there is to it.
#[derive(Clone, PartialEq)]
struct Name(String);

impl watch::Record for Name {
    fn read(key: &str, _: &[u8]) -> Option<Self> {
        Some(Self(key.to_owned()))
    }
}

/// W10: discovery ends, and does not come back for a minute; how many of three instances are known then.
fn without_discovery() -> usize {
    let mut watch = Watch::<Name>::new(watch::Config::default(), Rng::new(1), START);
    let mut now = START;
    let attempt = loop {
        match watch.poll_action() {
            Some(watch::Action::Snapshot { attempt }) => break attempt,
            Some(_) => {}
            None => {
                now = watch.poll_timeout().expect("it asks for a snapshot").at;
                watch.handle_timeout(now);
            }
        }
    };
    let entries = ["a", "b", "c"].map(|key| (key.to_owned(), Vec::new())).to_vec();
    watch.handle_snapshot(attempt, 1, entries, now);
    let opened = loop {
        if let watch::Action::Follow { attempt, .. } = watch.poll_action().expect("it follows") {
            break attempt;
        }
    };
    watch.handle_opened(opened, 1, now);
    watch.handle_lost(opened, Lost::Registry, now);
    let end = now + Duration::from_secs(60);
    // Whatever it asks for, nobody answers.
    loop {
        while watch.poll_action().is_some() {}
        match watch.poll_timeout() {
            Some(deadline) if deadline.at <= end => watch.handle_timeout(deadline.at),
            _ => break,
        }
    }
    watch.iter().count()
}

/// W27: dials of 20 clients within the last second of ten in which the registry cannot be reached. Dynamo's connector sleeps
/// half of what remains, at least 50 ms.
fn dials_without_registry() -> [usize; 2] {
    let second = Duration::from_secs(1);
    let end = START + second * 10;
    let (mut now, mut pause, mut theirs) = (START, Duration::ZERO, 0);
    loop {
        if !pause.is_zero() {
            let slept = pause.min(end.since(now) / 2).min(second * 5).max(Duration::from_millis(50));
            (pause, now) = (slept * 2, now + slept);
        } else {
            pause = second / 2;
        }
        if now >= end {
            break;
        }
        theirs += usize::from(end.since(now) <= second);
    }
    let ours = (0..20).map(|seed| {
        let mut watch = Watch::<Name>::new(watch::Config::default(), Rng::new(seed), START);
        let (mut now, mut dials) = (START, 0);
        while now <= end {
            while let Some(action) = watch.poll_action() {
                if let watch::Action::Snapshot { attempt } = action {
                    dials += usize::from(end.since(now) <= second);
                    watch.handle_failed(attempt, Cause::Away("refused".to_owned()), now);
                }
            }
            now = watch.poll_timeout().expect("it never gives up").at;
            watch.handle_timeout(now);
        }
        dials
    });
    [theirs * 20, ours.sum()]
}

/// W29: of a scheduler's one slot: tasks that go on after they have asked to be scheduled again. Dynamo asks while it holds
/// the slot; ours gives it back first.
fn rescheduled() -> [usize; 2] {
    [false, true].map(|gives_back_first| {
        let mut gate = Gate::new(Box::new(SemaphoreScheduler::new(1)), 8);
        assert_eq!(gate.ask(START, &()), Asked::Go);
        if gives_back_first {
            assert_eq!(gate.release(START), None, "nobody else waits");
        }
        usize::from(gate.ask(START, &()) == Asked::Go)
    })
}

const PATH: &str = "demo/backend/generate";

/// A worker, a caller, and what the handlers of the worker did.
struct Pair {
    sim: Sim,
    far: HostId,
    near: HostId,
    node: Rc<LocalNode>,
    endpoint: EndpointKey,
    begun: Rc<Cell<u64>>,
    running: Rc<Cell<u64>>,
}

struct Running(Rc<Cell<u64>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pair {
    /// A worker that runs one call at a time, 40 ms each.
    fn new(dialect: Dialect) -> Self {
        let mut sim = Sim::new(1);
        let (begun, running) = (Rc::<Cell<u64>>::default(), Rc::<Cell<u64>>::default());
        let [here, there] = [1, 2].map(|host| SocketAddr::from(([10, 0, 0, host], 80)));
        let config = worker::config::Config { max_running: 1, ..worker::config::Config::default() };
        let caller = caller::config::Config { dialect, ..Default::default() };
        let make = |env: &Env| LocalNode::new(Node::new(config, caller, 1), env);
        let (far, serving) = sim.host(there, make);
        let (started, runs) = (Rc::clone(&begun), Rc::clone(&running));
        serving.serve(
            PATH,
            Rc::new(move |incoming| {
                started.set(started.get() + 1);
                runs.set(runs.get() + 1);
                let here = Running(Rc::clone(&runs));
                Box::pin(async move {
                    let _here = here;
                    let Ok(Some(body)) = incoming.responder().recv().await else { return };
                    // `stubborn` is told to stop and does not.
                    let times = if body == "stubborn" { 1_000 } else { 1 };
                    for _ in 0..times {
                        incoming.responder().sleep(Duration::from_millis(40)).await;
                    }
                    incoming.finish();
                })
            }),
        );
        let (near, node) = sim.host(here, make);
        let endpoint = node.endpoint(AnyPolicy::default());
        node.set_instances(endpoint, vec![(InstanceId(1), Target::mux(there, PATH))]);
        Self { sim, far, near, node, endpoint, begun, running }
    }

    /// One call; when it has ended badly, the time stands in `ended`.
    fn call(&self, request: Request, ended: &Rc<Cell<Option<Instant>>>) {
        let (env, ended) = (self.sim.env(self.near), Rc::clone(ended));
        let mut call = self.node.call(self.endpoint, request).expect("it begins");
        env.clone().spawn(async move {
            while let Some(Ok(_)) = call.next().await {}
            ended.set(Some(env.now()));
        });
    }
}

fn asking(body: &'static str, timeout: Option<Duration>) -> Request {
    Request { body: Some(body.into()), timeout, ..Request::default() }
}

/// W13: a worker is stopped (SIGSTOP) once it has taken a call: after how many seconds the call ends.
fn stopped(dialect: Dialect) -> u64 {
    let mut pair = Pair::new(dialect);
    let (begun, ended) = (pair.sim.now(), Rc::default());
    pair.call(asking("x", None), &ended);
    pair.sim.run_for(Duration::from_millis(5));
    assert_eq!(pair.running.get(), 1, "it has taken the call");
    let far = pair.far;
    pair.sim.freeze(far);
    pair.sim.run_for(Duration::from_secs(600));
    ended.get().map_or(u64::MAX, |at| at.since(begun).as_secs())
}

/// W14: 200 calls with 100 ms each reach a worker that runs one at a time: how many handlers begin.
fn expired_in_the_queue() -> u64 {
    let mut pair = Pair::new(Dialect::Mux);
    let ended = Rc::default();
    (0..200).for_each(|_| pair.call(asking("x", Some(Duration::from_millis(100))), &ended));
    pair.sim.run_for(Duration::from_secs(60));
    pair.begun.get()
}

/// W30: a call is killed, then stopped: whether its handler, which heeds no stop, still runs. Dynamo's last word wins.
fn killed_then_stopped(dialect: Dialect) -> u64 {
    let mut pair = Pair::new(dialect);
    let call = pair.node.call(pair.endpoint, asking("stubborn", None)).expect("it begins");
    pair.sim.run_for(Duration::from_secs(1));
    assert_eq!(pair.running.get(), 1, "it runs");
    call.cancel(CancelMode::Kill);
    call.cancel(CancelMode::Stop);
    pair.sim.run_for(Duration::from_secs(1));
    pair.running.get()
}

struct Row {
    weak: &'static str,
    what: &'static str,
    dynamo: String,
    ours: String,
}

fn row(weak: &'static str, what: &'static str, [dynamo, ours]: [impl Display; 2]) -> Row {
    Row { weak, what, dynamo: dynamo.to_string(), ours: ours.to_string() }
}

/// Dynamo has no bound there.
fn never() -> String {
    "never".to_owned()
}

#[test]
fn router_table() {
    let w1 = both(Dynamo::new(0), dead_for_long).map(|sums| sums.failed(1));
    let w2 = both(Dynamo::new(0), poisoned).map(|sums| sums.lost);
    let w3 = both(Dynamo::new(0), correlated).map(|sums| sums.lost);
    let w4 = both(Dynamo::new(0), joins).map(|sums| sums.failed(1));
    let w17 = both(Dynamo::new(3), poisoned_once).map(|sums| sums.tries);
    let w10 = [0, without_discovery()];
    let dialects = [Dialect::Mux, Dialect::CallHome];
    let (w13, w14, w27) = (dialects.map(stopped), [200, expired_in_the_queue()], dials_without_registry());
    let (w29, w30) = (rescheduled(), dialects.map(killed_then_stopped));
    let rows = [
        row("W1", "calls that a dead worker gets in five minutes", w1),
        row("W2", "healthy calls refused after three poisoned ones", w2),
        row("W3", "calls lost once a correlated failure is over", w3),
        row("W4", "calls that a dead worker gets in 20 s of joins and leaves", w4),
        row("W10", "of three instances, those known after a minute without discovery", w10),
        row("W13", "seconds until a call ends whose worker is stopped once it has it", [never(), w13[0].to_string()]),
        row("W13", "the same in Dynamo's protocol, which has no signs of life", [never(), w13[1].to_string()]),
        row("W14", "handlers that begin, of 200 calls of which 3 are in time", w14),
        row("W17", "workers that one poisoned call runs on, of three, with retries", w17),
        row("W27", "dials of 20 clients in the last of ten seconds without a registry", w27),
        row("W29", "tasks that go on after they are scheduled again, of one", w29),
        row("W30", "handlers that run on after kill, then stop, of one", [1, w30[0]]),
        row("W30", "the same in Dynamo's protocol", [1, w30[1]]),
    ];
    println!("{:<4} {:<66} {:>12} {:>12}", "", "", "Dynamo 1.6.1", "ringplane");
    for Row { weak, what, dynamo, ours } in &rows {
        println!("{weak:<4} {what:<66} {dynamo:>12} {ours:>12}");
    }
    assert!(w1[0] >= 55 && w1[1] <= 20, "W1: {w1:?}");
    assert!(w2[0] >= 20 && w2[1] == 0, "W2: {w2:?}");
    assert!(w3[0] >= 100 && w3[1] == 0, "W3: {w3:?}");
    assert!(w4[0] >= 60 && w4[1] <= 8, "W4: {w4:?}");
    assert_eq!(w10[1], 3, "W10");
    assert!(w13[0] <= 15 && w13[1] <= 125, "W13: {w13:?}");
    assert!(w14[1] <= 3, "W14: {w14:?}");
    assert_eq!(w17, [3, 1], "W17");
    assert!(w27[1] * 3 <= w27[0], "W27: {w27:?}");
    assert_eq!((w29, w30), ([0, 1], [0, 0]), "W29 and W30");
}
