//! The real caller and worker under the simulator: every call ends once, in time, with what was sent.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller;
use ringplane_core::caller::request::{CallId, EndpointKey, Request};
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::env::Env;
use ringplane_core::local::host::LocalNode;
use ringplane_core::node::Node;
use ringplane_core::observer::{CallBegun, CallEnded, CallTried, Observer};
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::wire::trace_context::TraceParent;
use ringplane_core::worker;
use ringplane_tests::sim::{Faults, HostId, Rng, Sim, seeds};

const PATH: &str = "demo/backend/count";

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn node(env: &Env, seed: u64) -> Rc<LocalNode> {
    LocalNode::new(Node::new(worker::config::Config::default(), caller::config::Config::default(), seed), env)
}

/// Item number `index` of a call whose request is `salt`.
fn item(salt: u32, index: u32) -> Bytes {
    let len = (salt.wrapping_mul(2_654_435_761) >> 8).wrapping_add(index * 37) % 300 + 1;
    Bytes::from(vec![(salt.wrapping_mul(31).wrapping_add(index)) as u8; len as usize])
}

/// A worker that answers a request `[salt, count]` with `count` items.
fn counting(env: &Env, seed: u64) -> Rc<LocalNode> {
    let node = node(env, seed);
    node.serve(
        PATH,
        Rc::new(|incoming| {
            Box::pin(async move {
                let body = incoming.responder().recv().await.ok().flatten().expect("a request has one item");
                let salt = u32::from_be_bytes(body[..4].try_into().unwrap());
                let count = u32::from_be_bytes(body[4..8].try_into().unwrap());
                for index in 0..count {
                    if incoming.responder().send(item(salt, index)).await.is_err() {
                        return;
                    }
                }
                incoming.finish();
            })
        }),
    );
    node
}

#[derive(Clone, Default)]
struct Tally {
    well: Rc<Cell<u64>>,
    badly: Rc<Cell<u64>>,
}

fn bump(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// One call, checked item by item.
async fn call(node: Rc<LocalNode>, endpoint: EndpointKey, salt: u32, count: u32, tally: Tally) {
    let body = [salt.to_be_bytes(), count.to_be_bytes()].concat();
    let request = Request { body: Some(body.into()), ..Request::default() };
    let Ok(mut call) = node.call(endpoint, request) else { return bump(&tally.badly) };
    let mut index = 0;
    loop {
        match call.next().await {
            Some(Ok(found)) => {
                assert_eq!(found, item(salt, index), "item {index} of {count}");
                index += 1;
            }
            Some(Err(_)) => return bump(&tally.badly),
            None => break,
        }
    }
    assert_eq!(index, count, "a call ended well without its items");
    bump(&tally.well);
}

/// Notes which calls of a caller are under way, and that each begins and ends once.
#[derive(Clone, Default)]
struct UnderWay(Rc<RefCell<HashSet<CallId>>>);

impl Observer for UnderWay {
    fn call_begun(&self, call: CallId, _: &CallBegun<'_>) -> Option<TraceParent> {
        assert!(self.0.borrow_mut().insert(call));
        None
    }

    fn call_tried(&self, call: CallId, tried: &CallTried<'_>) -> Option<TraceParent> {
        assert!(self.0.borrow().contains(&call) && tried.attempt > 0);
        None
    }

    fn call_ended(&self, call: CallId, _: &CallEnded<'_>) {
        assert!(self.0.borrow_mut().remove(&call));
    }
}

struct Scene {
    under_way: UnderWay,
    sim: Sim,
    caller: HostId,
    workers: Vec<HostId>,
    near: Rc<LocalNode>,
    endpoint: EndpointKey,
}

fn scene(seed: u64, plan: Faults, workers: u8) -> Scene {
    let mut sim = Sim::with_faults(seed, plan);
    let (caller, near) = sim.host(addr(1), |env| node(env, seed));
    let mut instances = Vec::new();
    let mut hosts = Vec::new();
    for number in 0..workers {
        hosts.push(sim.host(addr(10 + number), |env| counting(env, seed + u64::from(number))).0);
        instances.push((InstanceId(u64::from(number) + 1), Target::mux(addr(10 + number), PATH)));
    }
    let endpoint = near.endpoint(AnyPolicy::default());
    near.set_instances(endpoint, instances);
    let under_way = UnderWay::default();
    let observer: Rc<dyn Observer> = Rc::new(under_way.clone());
    near.observe(&observer);
    Scene { under_way, sim, caller, workers: hosts, near, endpoint }
}

/// `tasks` callers one beside the other make `rounds` calls each. Returns how many ended well and badly.
fn converse(scene: &mut Scene, tasks: u32, rounds: u32, items: u32) -> (u64, u64) {
    let tally = Tally::default();
    let env = scene.sim.env(scene.caller);
    for task in 0..tasks {
        let (near, endpoint, tally) = (Rc::clone(&scene.near), scene.endpoint, tally.clone());
        env.spawn(async move {
            for round in 0..rounds {
                let salt = task * 1000 + round;
                call(Rc::clone(&near), endpoint, salt, salt % (items + 1), tally.clone()).await;
            }
        });
    }
    let total = u64::from(tasks * rounds);
    let end = scene.sim.now() + Duration::from_secs(100_000);
    let done = scene.sim.run_until(|sim| tally.well.get() + tally.badly.get() >= total || sim.now() > end);
    assert!(done && scene.sim.now() <= end, "{} calls never ended", total - tally.well.get() - tally.badly.get());
    assert!(scene.under_way.0.borrow().is_empty(), "observers have heard of every end");
    (tally.well.get(), tally.badly.get())
}

#[test]
fn every_call_ends_well_on_a_ragged_network() {
    for seed in seeds(100) {
        let mut scene = scene(seed, Faults::ragged(seed), 2);
        assert_eq!(converse(&mut scene, 10, 5, 10), (50, 0), "seed {seed}");
    }
}

#[test]
fn every_call_ends_once_under_every_fault() {
    let (mut well, mut badly, mut resets, mut holes) = (0, 0, 0, 0);
    let count = seeds(200).count();
    for seed in seeds(200) {
        let mut scene = scene(seed, Faults::rough(seed), 2);
        let (some, others) = converse(&mut scene, 10, 5, 10);
        (well, badly) = (well + some, badly + others);
        (resets, holes) = (resets + scene.sim.stats().resets, holes + scene.sim.stats().holes);
    }
    if count == 200 {
        assert!(resets > 50 && holes > 3 && badly > 100 && well > 9000, "{well} {badly} {resets} {holes}");
    }
}

/// Something happens to a worker while it works, and passes a while later.
fn mishap(scene: &mut Scene, rng: &mut Rng) {
    let (caller, worker, seed) = (scene.caller, scene.workers[0], scene.sim.seed());
    let from = scene.sim.now() + rng.up_to(Duration::from_millis(20));
    let to = from + Duration::from_micros(1 << rng.below(28));
    let (begin, end): (Script, Script) = match rng.below(3) {
        0 => (Box::new(move |sim| sim.freeze(worker)), Box::new(move |sim| sim.thaw(worker))),
        1 => (Box::new(move |sim| sim.cut(caller, worker)), Box::new(move |sim| sim.heal(caller, worker))),
        _ => (
            Box::new(move |sim| sim.kill(worker)),
            Box::new(move |sim| {
                sim.restart(worker, |env| counting(env, seed));
            }),
        ),
    };
    scene.sim.at(from, begin);
    scene.sim.at(to, end);
}

type Script = Box<dyn FnOnce(&mut Sim)>;

#[test]
fn every_call_ends_once_when_a_worker_freezes_vanishes_or_dies() {
    let (mut well, mut badly) = (0, 0);
    for seed in seeds(200) {
        let mut rng = Rng::new(seed);
        let mut scene = scene(seed, Faults::ragged(seed), 2);
        mishap(&mut scene, &mut rng);
        let (some, others) = converse(&mut scene, 10, 20, 10);
        (well, badly) = (well + some, badly + others);
    }
    if seeds(200).count() == 200 {
        assert!(badly > 0 && well > 39_000, "{well} {badly}");
    }
}

#[test]
fn calls_made_while_the_only_worker_restarts_within_a_second_end_well() {
    for seed in seeds(50) {
        let mut scene = scene(seed, Faults::ragged(seed), 1);
        assert_eq!(converse(&mut scene, 1, 1, 1), (1, 0), "seed {seed}: there is a connection to be lost");
        let (worker, down) = (scene.workers[0], scene.sim.now() + Duration::from_millis(1));
        let up = down + Duration::from_millis(Rng::new(seed).below(1000));
        scene.sim.at(down, move |sim| sim.kill(worker));
        scene.sim.at(up, move |sim| drop(sim.restart(worker, |env| counting(env, seed))));
        // What was written before the caller knows may have been seen.
        let known = |scene: &Scene| scene.near.touching(|node| node.caller.footprint().connections) == 0;
        let mut at = down;
        while at < down + Duration::from_secs(20) && !(at > down && known(&scene)) {
            at = at + Duration::from_millis(1);
            scene.sim.run_to(at);
        }
        assert!(known(&scene), "seed {seed}: the loss is noticed within the bound of a silent peer");
        assert_eq!(converse(&mut scene, 10, 5, 10), (50, 0), "seed {seed}");
    }
}

#[test]
fn the_machines_take_the_same_course_with_the_same_seed() {
    let course = |seed| {
        let mut scene = scene(seed, Faults::rough(seed), 3);
        converse(&mut scene, 10, 5, 10);
        scene.sim.trace_hash()
    };
    seeds(20).for_each(|seed| assert_eq!(course(seed), course(seed), "seed {seed}"));
}
