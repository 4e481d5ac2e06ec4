//! A fleet of workers over a virtual hour in which everything goes wrong: how much of that callers feel.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller::config::Dialect;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{EndpointKey, Request};
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::env::Env;
use ringplane_core::local::host::LocalNode;
use ringplane_core::local::job::Failure;
use ringplane_core::node::Node;
use ringplane_core::route::census;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::stats::Histogram;
use ringplane_core::time::Instant;
use ringplane_core::{caller, mux, worker};
use ringplane_tests::sim::{Faults, HostId, Rng, Sim, seeds};

const PATH: &str = "demo/backend/generate";
/// What a healthy worker takes for a call, at least; at most twice as long.
const SERVICE: Duration = Duration::from_millis(40);
/// The request that the handler has a bug with, and one of the others. Dynamo's protocol carries values: these are numbers.
const POISON: &str = "\x66";
const HEALTHY: &str = "\x07";

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn addr(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number / 250) as u8, (number % 250) as u8 + 1], 80))
}

/// How calls of all callers ended.
#[derive(Default)]
struct Tally {
    well: Cell<u64>,
    badly: RefCell<BTreeMap<String, u64>>,
    nanos: RefCell<Histogram>,
}

impl Tally {
    fn failed(&self) -> u64 {
        self.badly.borrow().values().sum()
    }
}

/// What a fleet is made of.
#[derive(Copy, Clone)]
struct Plan {
    workers: usize,
    callers: usize,
    /// Between two calls of one caller, on average.
    pause: Duration,
    caller: caller::config::Config,
}

struct Caller {
    host: HostId,
    node: Rc<LocalNode>,
    endpoint: EndpointKey,
}

struct Fleet {
    sim: Sim,
    workers: Vec<HostId>,
    callers: Vec<Caller>,
    tally: Rc<Tally>,
    plan: Plan,
}

/// A worker that takes `slower` times as long as a healthy one, and fails at once for poison.
fn serving(env: &Env, seed: u64, slower: u32) -> Rc<LocalNode> {
    let node = LocalNode::new(Node::new(worker::config::Config::default(), caller_config(), seed), env);
    let draws = Rc::new(RefCell::new(Rng::new(seed)));
    node.serve(
        PATH,
        Rc::new(move |incoming| {
            let draws = Rc::clone(&draws);
            Box::pin(async move {
                let Ok(Some(body)) = incoming.responder().recv().await else { return };
                if body == POISON {
                    return incoming.fail(&Failure::internal("a bug"));
                }
                let rest = SERVICE + draws.borrow_mut().up_to(SERVICE);
                incoming.responder().sleep(rest * slower).await;
                if incoming.responder().send(body).await.is_ok() {
                    incoming.finish();
                }
            })
        }),
    );
    node
}

fn caller_config() -> caller::config::Config {
    // Thousands of quiet connections need not be asked every few seconds for an hour.
    let mux = mux::config::Config { ping_interval: secs(60), ..mux::config::Config::default() };
    caller::config::Config { mux, deadline: Some(secs(10)), ..caller::config::Config::default() }
}

impl Fleet {
    fn new(seed: u64, plan: Plan) -> Self {
        let faults = Faults { latency: Duration::from_micros(200), ..Faults::calm() };
        let mut sim = Sim::with_faults(seed, faults).budget(500_000_000);
        let workers: Vec<HostId> = (0..plan.workers)
            .map(|number| sim.host(addr(number), |env| serving(env, seed ^ number as u64, 1)).0)
            .collect();
        let targets: Vec<_> =
            (0..plan.workers).map(|number| (InstanceId(number as u64 + 1), Target::mux(addr(number), PATH))).collect();
        let callers = (0..plan.callers)
            .map(|number| {
                let seed = seed.wrapping_mul(1000) + number as u64;
                let make =
                    |env: &Env| LocalNode::new(Node::new(worker::config::Config::default(), plan.caller, seed), env);
                let (host, node) = sim.host(addr(plan.workers + number), make);
                let endpoint = node.endpoint(AnyPolicy::default());
                node.set_instances(endpoint, targets.clone());
                Caller { host, node, endpoint }
            })
            .collect();
        Self { sim, workers, callers, tally: Rc::default(), plan }
    }

    /// Each caller makes calls until `end`, at random times.
    fn load(&self, seed: u64, end: Instant) {
        for (number, caller) in self.callers.iter().enumerate() {
            let (node, endpoint, tally) = (Rc::clone(&caller.node), caller.endpoint, Rc::clone(&self.tally));
            let (mut rng, pause) = (Rng::new(seed ^ (number as u64) << 32), self.plan.pause);
            let env = self.sim.env(caller.host);
            env.clone().spawn(async move {
                while env.now() < end {
                    env.sleep(rng.up_to(pause * 2)).await;
                    env.spawn(call(Rc::clone(&node), endpoint, env.clone(), Rc::clone(&tally), HEALTHY));
                }
            });
        }
    }

    /// One call of one caller.
    fn call(&self, caller: usize, body: &'static str, tally: &Rc<Tally>) {
        let Caller { host, node, endpoint } = &self.callers[caller];
        let env = self.sim.env(*host);
        env.spawn(call(Rc::clone(node), *endpoint, env.clone(), Rc::clone(tally), body));
    }

    /// From `from` to `to` nothing is where the worker was.
    fn crash(&mut self, number: usize, from: Instant, to: Instant, slower: u32) {
        let host = self.workers[number];
        self.sim.at(from, move |sim| sim.kill(host));
        self.sim.at(to, move |sim| {
            sim.restart(host, |env| serving(env, number as u64, slower));
        });
    }

    /// From `from` to `to` the caller and the worker do not reach each other, and hear nothing of it.
    fn part(&mut self, caller: usize, number: usize, from: Instant, to: Instant) {
        let (near, far) = (self.callers[caller].host, self.workers[number]);
        self.sim.at(from, move |sim| sim.cut(near, far));
        self.sim.at(to, move |sim| sim.heal(near, far));
    }

    /// Tries of all calls so far, and calls.
    fn tries(&self) -> (u64, u64) {
        self.callers.iter().fold((0, 0), |(tries, calls), caller| {
            let stats = caller.node.touching(|node| *node.caller.stats());
            (tries + stats.calls + stats.retries, calls + stats.calls)
        })
    }

    fn health(&self) -> census::Stats {
        let mut sum = census::Stats::default();
        self.callers.iter().for_each(|caller| sum.merge(&caller.node.touching(|node| node.caller.health())));
        sum
    }
}

async fn call(node: Rc<LocalNode>, endpoint: EndpointKey, env: Env, tally: Rc<Tally>, body: &'static str) {
    let begun = env.now();
    let body = Bytes::from_static(body.as_bytes());
    let request = Request { body: Some(body), idempotent: true, ..Request::default() };
    let outcome = match node.call(endpoint, request) {
        Err(error) => Err(error),
        Ok(mut call) => loop {
            match call.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        },
    };
    match outcome {
        Ok(()) => {
            tally.well.set(tally.well.get() + 1);
            tally.nanos.borrow_mut().record(env.now().since(begun).as_nanos() as u64);
        }
        Err(error) => *tally.badly.borrow_mut().entry(name(&error)).or_default() += 1,
    }
}

fn name(error: &CallError) -> String {
    format!("{:?}", error.kind())
}

/// 100 workers, 20 callers, an hour: crashes, slow workers, one that flaps, partitions, and 80 of them gone at once.
#[test]
fn a_virtual_hour_of_crashes_slow_workers_flapping_partitions_and_a_correlated_failure_is_hardly_felt() {
    for seed in seeds(1) {
        let plan = Plan { workers: 100, callers: 20, pause: Duration::from_millis(1500), caller: caller_config() };
        let mut fleet = Fleet::new(seed, plan);
        let mut rng = Rng::new(seed ^ 0x666c_6565);
        let start = fleet.sim.now();
        let minute = |minutes: u64| start + secs(60 * minutes);
        // Five that take twenty times as long, from the beginning.
        (0..5).for_each(|number| fleet.crash(number, start, start + Duration::from_millis(1), 20));
        // Each minute one crashes for 5 to 30 s.
        for at in 0..60 {
            let from = minute(at) + rng.up_to(secs(30));
            let number = 10 + rng.index(80);
            if at != 40 {
                fleet.crash(number, from, from + secs(5) + rng.up_to(secs(25)), 1);
            }
        }
        // One is up for 4 of each 7 seconds, for twenty minutes.
        (0..170).for_each(|turn| {
            let from = minute(10) + secs(7 * turn);
            fleet.crash(99, from, from + secs(3), 1);
        });
        // Three times five callers lose ten workers for half a minute.
        for at in [20, 25, 50] {
            for (caller, number) in (0..5).flat_map(|caller| (40..50).map(move |number| (caller, number))) {
                fleet.part(caller, number, minute(at), minute(at) + secs(30));
            }
        }
        // 80 are gone at once, for 20 s.
        (10..90).for_each(|number| fleet.crash(number, minute(40), minute(40) + secs(20), 1));

        fleet.load(seed, minute(60));
        let (mut before, mut most, mut bins) = (0, 0, 0);
        while fleet.sim.now() < minute(60) {
            fleet.sim.run_for(secs(1));
            let (tries, _) = fleet.tries();
            most = most.max(tries - before);
            (before, bins) = (tries, bins + 1);
        }
        fleet.sim.run_for(secs(30));

        let ((tries, calls), tally) = (fleet.tries(), &fleet.tally);
        assert_eq!(tally.well.get() + tally.failed(), calls, "seed {seed}: each call ends once");
        let p99 = Duration::from_nanos(tally.nanos.borrow().quantile(990_000).unwrap());
        let per_call = tries as f64 / calls as f64;
        let burst = most as f64 / (tries as f64 / f64::from(bins));
        let lost = tally.failed() as f64 / calls as f64;
        println!(
            "seed {seed}: {calls} calls, {lost:.5} failed {:?}, p99 {p99:?}, {per_call:.4} tries a call, burst {burst:.2}",
            tally.badly.borrow()
        );
        println!("{:?}", fleet.health());
        assert!(calls > 40_000, "seed {seed}: {calls} calls");
        assert!(lost < 0.002, "seed {seed}: {:?} of {calls} failed", tally.badly.borrow());
        assert!(p99 < Duration::from_millis(1700), "seed {seed}: p99 {p99:?}; slow workers take 0.8 to 1.6 s");
        assert!(per_call < 1.02, "seed {seed}: {per_call} tries a call");
        assert!(burst < 3.0, "seed {seed}: {burst} times the mean within a second");
    }
}

/// The experiment of the specification, section 22: a bug that one input meets before the stream begins.
#[test]
fn a_poisoned_request_costs_no_healthy_one() {
    for (seed, dialect) in seeds(5).flat_map(|seed| [(seed, Dialect::Mux), (seed, Dialect::CallHome)]) {
        let caller = caller::config::Config { dialect, ..caller_config() };
        let plan = Plan { workers: 3, callers: 1, pause: Duration::from_millis(20), caller };
        let mut fleet = Fleet::new(seed, plan);
        let (start, poisoned) = (fleet.sim.now(), Rc::<Tally>::default());
        fleet.load(seed, start + secs(10));
        for turn in 0..30 {
            fleet.sim.run_to(start + secs(1) + Duration::from_millis(100 * turn));
            fleet.call(0, POISON, &poisoned);
        }
        fleet.sim.run_to(start + secs(30));
        assert_eq!(poisoned.failed(), 30, "seed {seed}: each is answered, with the error");
        assert_eq!(fleet.tally.failed(), 0, "seed {seed}: {:?}", fleet.tally.badly.borrow());
        assert!(fleet.tally.well.get() > 300, "seed {seed}");
        let health = fleet.health();
        assert_eq!((health.suspected, health.ejected_silent, health.ejected_failing), (0, 0, 0), "seed {seed}");
        let (tries, calls) = fleet.tries();
        assert_eq!(tries, calls, "seed {seed}: what a handler answered is not tried again");
        let sent_home = fleet.callers[0].node.touching(|node| node.caller.stats().sent_home);
        assert_eq!(sent_home, if dialect == Dialect::CallHome { calls } else { 0 }, "seed {seed}");
    }
}
