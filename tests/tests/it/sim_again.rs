//! Calls made again, under the simulator: beside one that is slow to begin, and in place of one whose worker is lost.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::migration::{self, Migration};
use ringplane_core::caller::request::{Again, Earlier, EndpointKey, Request};
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::call::LocalCall;
use ringplane_core::local::env::Env;
use ringplane_core::local::host::LocalNode;
use ringplane_core::node::Node;
use ringplane_core::retry::hedge::{self, Hedging};
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::time::Instant;
use ringplane_core::worker;
use ringplane_tests::sim::{Faults, HostId, Rng, Sim, seeds};

const PATH: &str = "demo/backend/generate";
const WORKERS: u8 = 5;
const MILLI: Duration = Duration::from_millis(1);

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn node(env: &Env, seed: u64) -> Rc<LocalNode> {
    LocalNode::new(Node::new(worker::config::Config::default(), caller::config::Config::default(), seed), env)
}

/// One caller and its workers, each of which `serving` makes.
struct Stage {
    sim: Sim,
    caller: HostId,
    near: Rc<LocalNode>,
    endpoint: EndpointKey,
    workers: Vec<HostId>,
}

fn stage(seed: u64, serving: impl Fn(&Env, u64) -> Rc<LocalNode>) -> Stage {
    let mut sim = Sim::with_faults(seed, Faults::calm());
    let (caller, near) = sim.host(addr(1), |env| node(env, seed));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| sim.host(addr(10 + number), |env| serving(env, seed * 100 + u64::from(number))).0)
        .collect();
    let endpoint = near.endpoint(AnyPolicy::from_name("round-robin").unwrap());
    let targets = (0..WORKERS).map(|number| (InstanceId(u64::from(number) + 1), Target::mux(addr(10 + number), PATH)));
    near.set_instances(endpoint, targets.collect());
    Stage { sim, caller, near, endpoint, workers }
}

/// A worker that takes 5 to 15 ms for most answers and a second for two of a hundred.
fn stalling(env: &Env, seed: u64) -> Rc<LocalNode> {
    let (node, rng) = (node(env, seed), Rc::new(RefCell::new(Rng::new(seed))));
    node.serve(
        PATH,
        Rc::new(move |incoming| {
            let rng = rng.clone();
            Box::pin(async move {
                let stalls = rng.borrow_mut().below(50) == 0;
                let takes = if stalls { MILLI * 1000 } else { MILLI * 5 + rng.borrow_mut().up_to(MILLI * 10) };
                incoming.responder().sleep(takes).await;
                if incoming.responder().send("x").await.is_ok() {
                    incoming.finish();
                }
            })
        }),
    );
    node
}

/// The first item of whichever comes first: the call, or one more at another worker once the first is slow.
async fn hedged(near: &Rc<LocalNode>, env: &Env, endpoint: EndpointKey, hedging: &RefCell<Hedging>) {
    let begun = env.now();
    let make = |earlier| Request { body: Some("x".into()), earlier, ..Request::default() };
    let slow = hedging.borrow_mut().begun();
    let mut first = near.call(endpoint, make(None)).unwrap();
    let mut second: Option<LocalCall> = None;
    let mut timer = pin!(env.sleep(slow.unwrap_or(Duration::from_secs(60))));
    let mut armed = true;
    let item = poll_fn(|cx| {
        if let Poll::Ready(item) = first.poll_next(cx) {
            return Poll::Ready(item);
        }
        if armed && timer.as_mut().poll(cx).is_ready() {
            armed = false;
            if let Some(at) = first.instance()
                && hedging.borrow_mut().take()
            {
                let earlier = Earlier { why: Again::Slow, attempts: 1, avoid: vec![at.instance] };
                second = near.call(endpoint, make(Some(Box::new(earlier)))).ok();
            }
        }
        second.as_mut().map_or(Poll::Pending, |second| second.poll_next(cx))
    })
    .await;
    item.unwrap().unwrap();
    hedging.borrow_mut().answered(env.now().since(begun));
}

/// The 99th percentile of 4,000 calls of which so many percent may be made twice, and how many were.
fn tail(seed: u64, share: u8) -> (Duration, u64) {
    const TASKS: usize = 20;
    const ROUNDS: usize = 200;
    let Stage { mut sim, caller, near, endpoint, .. } = stage(seed, stalling);
    let hedging = Rc::new(RefCell::new(Hedging::new(hedge::Config { share, ..hedge::Config::default() })));
    let (env, times) = (sim.env(caller), Rc::new(RefCell::new(Vec::new())));
    for _ in 0..TASKS {
        let (near, env, times, hedging) = (near.clone(), env.clone(), times.clone(), hedging.clone());
        env.clone().spawn(async move {
            for _ in 0..ROUNDS {
                let begun = env.now();
                hedged(&near, &env, endpoint, &hedging).await;
                times.borrow_mut().push(env.now().since(begun));
            }
        });
    }
    assert!(sim.run_until(|_| times.borrow().len() == TASKS * ROUNDS), "seed {seed}: calls never ended");
    let mut times = times.take();
    times.sort_unstable();
    let calls = near.touching(|node| node.caller.stats().calls);
    (times[times.len() * 99 / 100], calls - (TASKS * ROUNDS) as u64)
}

#[test]
fn a_twentieth_of_the_calls_made_twice_takes_the_stalls_of_workers_out_of_the_tail() {
    for seed in seeds(2) {
        let ((without, none), (with, twice)) = (tail(seed, 0), tail(seed, 5));
        println!("seed {seed}: p99 {without:?} without and {with:?} with second calls, of which {twice} were made");
        assert_eq!(none, 0, "seed {seed}");
        assert!(without > Duration::from_millis(900), "seed {seed}: two of a hundred stall");
        assert!(with < Duration::from_millis(100), "seed {seed}: {with:?}");
        assert!((40..=210).contains(&twice), "seed {seed}: {twice} of 4,000");
    }
}

/// Items of an answer, and what is between two of them.
const ITEMS: u8 = 50;
const BETWEEN: Duration = Duration::from_millis(20);

/// A worker that counts from the number in the request on.
fn counting(env: &Env, seed: u64) -> Rc<LocalNode> {
    let node = node(env, seed);
    node.serve(
        PATH,
        Rc::new(|incoming| {
            Box::pin(async move {
                let Ok(Some(body)) = incoming.responder().recv().await else { return };
                for number in body[0]..ITEMS {
                    incoming.responder().sleep(BETWEEN).await;
                    if incoming.responder().send(Bytes::from(vec![number])).await.is_err() {
                        return;
                    }
                }
                incoming.finish();
            })
        }),
    );
    node
}

/// Reads an answer that goes on behind the numbers that have come.
async fn counted(
    near: &Rc<LocalNode>,
    env: &Env,
    endpoint: EndpointKey,
    config: migration::Config,
) -> (Vec<u8>, Option<CallError>, u32) {
    let make = |from: usize, earlier| Request { body: Some(vec![from as u8].into()), earlier, ..Request::default() };
    let (begun, mut migration, mut numbers) = (env.now(), Migration::new(config), Vec::new());
    let mut call = near.call(endpoint, make(0, None)).unwrap();
    loop {
        match call.next().await {
            Some(Ok(item)) => {
                numbers.extend_from_slice(&item);
                migration.item(numbers.len());
            }
            None => return (numbers, None, migration.migrations()),
            Some(Err(error)) => match migration.broken(error, env.now().since(begun)) {
                Ok(error) => {
                    let earlier = migration.go_on(error, call.instance().map(|at| at.instance), call.attempts());
                    call = near.call(endpoint, make(numbers.len(), Some(Box::new(earlier)))).unwrap();
                }
                Err(error) => return (numbers, Some(error), migration.migrations()),
            },
        }
    }
}

/// Answers of ten seconds in which workers are killed, one each second and a half for half a second: how many broke off, and how often
/// they went on elsewhere.
fn killed(seed: u64, limit: u32) -> (usize, u32) {
    const TASKS: usize = 20;
    let Stage { mut sim, caller, near, endpoint, workers } = stage(seed, counting);
    let mut rng = Rng::new(seed);
    let (start, second) = (sim.now(), Duration::from_secs(1));
    let end = start + 10 * second;
    for turn in 0..7u32 {
        let host = workers[rng.index(workers.len())];
        let from: Instant = start + second / 4 + turn * second * 3 / 2;
        sim.at(from, move |sim| sim.kill(host));
        sim.at(from + second / 2, move |sim| {
            sim.restart(host, |env| counting(env, u64::from(turn)));
        });
    }
    let (env, ended) = (sim.env(caller), Rc::new(Cell::new(0)));
    let found = Rc::new(RefCell::new((0, 0)));
    for _ in 0..TASKS {
        let (near, env, ended, found) = (near.clone(), env.clone(), ended.clone(), found.clone());
        env.clone().spawn(async move {
            while env.now() < end {
                let config = migration::Config { limit, ..migration::Config::default() };
                let (numbers, error, moved) = counted(&near, &env, endpoint, config).await;
                let whole: Vec<u8> = (0..ITEMS).collect();
                assert_eq!(numbers, whole[..numbers.len()], "seed {seed}: each once and in order");
                assert_eq!(numbers.len() == whole.len(), error.is_none(), "seed {seed}: {error:?}");
                let mut found = found.borrow_mut();
                found.0 += usize::from(error.is_some());
                found.1 += moved;
            }
            ended.set(ended.get() + 1);
        });
    }
    assert!(sim.run_until(|_| ended.get() == TASKS), "seed {seed}: answers never ended");
    found.take()
}

#[test]
fn an_answer_whose_worker_is_killed_goes_on_elsewhere_with_each_item_once() {
    for seed in seeds(3) {
        let ((broke, none), (left, moved)) = (killed(seed, 0), killed(seed, 3));
        println!(
            "seed {seed}: {broke} broke off where none goes on; {left} of those that may, which went on {moved} times"
        );
        assert!(broke >= 7 && none == 0, "seed {seed}: {broke}");
        assert!(left == 0 && moved >= 7, "seed {seed}: {left} and {moved}");
    }
}
