//! One million calls on networks where everything goes wrong: each ends once, with what was sent, and leaves nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{EndpointKey, Request};
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::call::LocalCall;
use ringplane_core::local::env::Env;
use ringplane_core::local::host::LocalNode;
use ringplane_core::local::job::{Failure, Incoming};
use ringplane_core::mux;
use ringplane_core::node::Node;
use ringplane_core::protocol::CloseReason;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::wire::mux::CancelMode;
use ringplane_core::worker;
use ringplane_core::worker::job::Cause;
use ringplane_tests::sim::{Faults, HostId, Rng, Sim, seeds};

const COUNT: &str = "demo/backend/count";
const ECHO: &str = "demo/backend/echo";
const SEEDS: u64 = 2_500;
const TASKS: u32 = 40;
const ROUNDS: u32 = 10;
const WORKERS: u8 = 2;
/// Virtual time within which every bound of a call has long passed.
const LONG: Duration = Duration::from_secs(20_000);

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

/// Handlers that began and that are gone, on workers alive and dead.
#[derive(Clone, Default)]
struct Handlers {
    began: Rc<Cell<u64>>,
    gone: Rc<Cell<u64>>,
}

struct Running(Handlers);

impl Running {
    fn new(handlers: &Handlers) -> Self {
        bump(&handlers.began, 1);
        Self(handlers.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        bump(&self.0.gone, 1);
    }
}

fn bump(count: &Cell<u64>, by: u64) {
    count.set(count.get() + by);
}

/// What a call asks of its worker, and with it every item it may get.
#[derive(Copy, Clone)]
struct Order {
    salt: u32,
    items: u32,
    /// Largest item, in bytes.
    size: u32,
    /// Microseconds the handler rests before each item.
    rest: u32,
    /// The handler fails after the items rather than ending well.
    fails: bool,
}

impl Order {
    fn encode(self) -> Bytes {
        let words = [self.salt, self.items, self.size, self.rest, u32::from(self.fails)];
        words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>().into()
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(bytes[at * 4..at * 4 + 4].try_into().unwrap());
        Self { salt: word(0), items: word(1), size: word(2), rest: word(3), fails: word(4) == 1 }
    }

    fn item(self, index: u32) -> Bytes {
        let spread = self.salt.wrapping_mul(2_654_435_761).wrapping_add(index.wrapping_mul(40_503)) >> 4;
        let fill = self.salt.wrapping_mul(31).wrapping_add(index) as u8;
        Bytes::from(vec![fill; (spread % (self.size + 1)) as usize])
    }
}

async fn count(incoming: Incoming) {
    let Ok(Some(body)) = incoming.responder().recv().await else { return };
    let order = Order::decode(&body);
    for index in 0..order.items {
        if order.rest > 0 {
            incoming.responder().node().env().sleep(Duration::from_micros(u64::from(order.rest))).await;
        }
        if incoming.responder().cause() == Some(Cause::Stop) {
            break;
        }
        if incoming.responder().send(order.item(index)).await.is_err() {
            return;
        }
    }
    if order.fails { incoming.fail(&Failure::internal("as ordered")) } else { incoming.finish() }
}

async fn echo(incoming: Incoming) {
    loop {
        match incoming.responder().recv().await {
            Ok(Some(item)) => {
                if incoming.responder().send(item).await.is_err() {
                    return;
                }
            }
            Ok(None) => return incoming.finish(),
            Err(failure) => return incoming.fail(&failure),
        }
        if incoming.responder().cause() == Some(Cause::Stop) {
            return incoming.finish();
        }
    }
}

/// How a caller treats its call.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Fate {
    Read,
    StopAfter(u32),
    KillAfter(u32),
    DropAfter(u32),
    /// Dropped whatever its state, this long after it was made.
    DropAt(Duration),
}

#[derive(Default)]
struct Tally {
    calls: Cell<u64>,
    outcomes: RefCell<BTreeMap<&'static str, u64>>,
    items: Cell<u64>,
}

impl Tally {
    fn ended(&self, how: &'static str) {
        *self.outcomes.borrow_mut().entry(how).or_default() += 1;
    }
}

const fn name(error: &CallError) -> &'static str {
    match error {
        CallError::NoInstances => "no instances",
        CallError::Unreachable { .. } => "unreachable",
        CallError::Rejected { .. } => "rejected",
        CallError::Disconnected { delivered: true, .. } => "disconnected, delivered",
        CallError::Disconnected { .. } => "disconnected",
        CallError::Protocol { .. } => "protocol",
        CallError::NotAccepted => "not accepted",
        CallError::Idle => "idle",
        CallError::DeadlineExceeded => "deadline",
        CallError::Cancelled => "cancelled",
        CallError::Failed { .. } => "failed",
        _ => "another",
    }
}

/// What one seed is about.
#[derive(Clone)]
struct Setting {
    faults: Faults,
    /// Whether hosts freeze, die and lose each other on top of that.
    mishaps: bool,
    worker: worker::config::Config,
    caller: caller::config::Config,
    /// Largest item, in bytes.
    size: u32,
}

impl Setting {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x6d69_6c6c);
        let mut faults = if seed.is_multiple_of(2) { Faults::ragged(seed) } else { Faults::rough(seed) };
        let large = rng.chance(40_000);
        let mut mux = mux::config::Config::default();
        if large || rng.chance(200_000) {
            mux.stream_window = (64 << 10) + 256 + rng.below(64 << 10) as u32;
            mux.connection_window = mux.stream_window * (1 + rng.below(3) as u32);
            mux.max_item = 512 << 10;
            mux.reserve_pool = mux.max_item * (1 + rng.below(3));
            mux.send_buffer = 1 + rng.index(64 << 10);
        }
        if rng.chance(150_000) {
            mux.max_streams = 1 + rng.below(8) as u32;
        }
        if large {
            // Bytes would trickle: a network for patience, not for large items.
            (faults.buffer, faults.receive, faults.queue) = (64 << 10, 64 << 10, 64 << 10);
        } else if rng.chance(100_000) {
            faults.flip = rng.below(3_000) as u32;
        }
        let mut worker = worker::config::Config { mux, ..worker::config::Config::default() };
        if rng.chance(250_000) {
            worker.max_running = 1 + rng.index(6);
            worker.max_queued = rng.index(12);
        }
        let caller = caller::config::Config {
            connections_per_address: 1 + rng.index(2),
            idle_timeout: Duration::from_secs(120),
            mux,
            ..caller::config::Config::default()
        };
        let size = if large { 300 << 10 } else { 1 << rng.below(11) };
        Self { faults, mishaps: rng.chance(400_000), worker, caller, size }
    }
}

/// The simulated hosts and everything that is counted.
struct Scene {
    sim: Sim,
    caller: HostId,
    near: Rc<LocalNode>,
    workers: Vec<HostId>,
    /// The nodes on the workers that live now.
    far: Rc<RefCell<Vec<Rc<LocalNode>>>>,
    endpoints: [EndpointKey; 2],
    handlers: Handlers,
    setting: Setting,
}

fn serving(env: &Env, setting: &Setting, handlers: &Handlers) -> Rc<LocalNode> {
    let node = LocalNode::new(Node::new(setting.worker, setting.caller, 1), env);
    let (counting, echoing) = (handlers.clone(), handlers.clone());
    node.serve(
        COUNT,
        Rc::new(move |incoming| {
            let running = Running::new(&counting);
            Box::pin(async move {
                let _running = running;
                count(incoming).await;
            })
        }),
    );
    node.serve(
        ECHO,
        Rc::new(move |incoming| {
            let running = Running::new(&echoing);
            Box::pin(async move {
                let _running = running;
                echo(incoming).await;
            })
        }),
    );
    node
}

impl Scene {
    fn new(seed: u64) -> Self {
        let setting = Setting::new(seed);
        let handlers = Handlers::default();
        let mut sim = Sim::with_faults(seed, setting.faults.clone());
        let make = |env: &Env| LocalNode::new(Node::new(setting.worker, setting.caller, seed), env);
        let (caller, near) = sim.host(addr(1), make);
        let (mut workers, mut far) = (Vec::new(), Vec::new());
        for number in 0..WORKERS {
            let (host, node) = sim.host(addr(10 + number), |env| serving(env, &setting, &handlers));
            workers.push(host);
            far.push(node);
        }
        let endpoints = [COUNT, ECHO].map(|path| {
            let endpoint = near.endpoint(AnyPolicy::default());
            let target = |number: u8| Target::mux(addr(10 + number), path);
            let all = (0..WORKERS).map(|number| (InstanceId(u64::from(number) + 1), target(number))).collect();
            near.set_instances(endpoint, all);
            endpoint
        });
        let far = Rc::new(RefCell::new(far));
        Self { sim, caller, near, workers, far, endpoints, handlers, setting }
    }

    /// Something happens to one of the workers, and passes a while later.
    fn mishap(&mut self, rng: &mut Rng) {
        let number = rng.index(self.workers.len());
        let (caller, worker) = (self.caller, self.workers[number]);
        let from = self.sim.now() + rng.up_to(Duration::from_millis(30));
        let to = from + Duration::from_micros(1 << rng.below(26));
        match rng.below(4) {
            0 => {
                self.sim.at(from, move |sim| sim.freeze(worker));
                self.sim.at(to, move |sim| sim.thaw(worker));
            }
            1 => {
                self.sim.at(from, move |sim| sim.cut(caller, worker));
                self.sim.at(to, move |sim| sim.heal(caller, worker));
            }
            2 => self.sim.at(from, move |sim| sim.reset(caller, worker)),
            _ => {
                self.sim.at(from, move |sim| sim.kill(worker));
                let (far, setting, handlers) = (Rc::clone(&self.far), self.setting.clone(), self.handlers.clone());
                self.sim.at(to, move |sim| {
                    let node = sim.restart(worker, |env| serving(env, &setting, &handlers));
                    far.borrow_mut()[number] = node;
                });
            }
        }
    }

    fn wait_for(&mut self, done: &Rc<Cell<u64>>, total: u64) {
        let end = self.sim.now() + LONG;
        self.sim.run_until(|sim| done.get() == total || sim.now() > end);
        assert_eq!(done.get(), total, "tasks that never ended");
    }
}

/// Who makes calls: the node, its two endpoints, and where outcomes are counted.
#[derive(Clone)]
struct Client {
    near: Rc<LocalNode>,
    endpoints: [EndpointKey; 2],
    tally: Rc<Tally>,
    size: u32,
}

impl Client {
    /// Makes one call as `rng` says and sees it through.
    async fn one(&self, salt: u32, rng: &mut Rng) {
        let order = Order {
            salt,
            items: rng.below(7) as u32,
            size: self.size,
            rest: if rng.chance(200_000) { rng.below(2_000) as u32 } else { 0 },
            fails: rng.chance(50_000),
        };
        let fate = match rng.below(20) {
            0 => Fate::StopAfter(rng.below(4) as u32),
            1 => Fate::KillAfter(rng.below(4) as u32),
            2 => Fate::DropAfter(rng.below(4) as u32),
            3 => Fate::DropAt(rng.up_to(Duration::from_millis(2))),
            _ => Fate::Read,
        };
        let echoed = rng.chance(250_000);
        let request = Request {
            body: (!echoed).then(|| order.encode()),
            timeout: rng.chance(100_000).then(|| rng.up_to(Duration::from_millis(5))),
            idempotent: rng.chance(300_000),
            ..Request::default()
        };
        bump(&self.tally.calls, 1);
        let mut call = match self.near.call(self.endpoints[usize::from(echoed)], request) {
            Ok(call) => call,
            Err(error) => return self.tally.ended(name(&error)),
        };
        if echoed {
            let sender = call.sender();
            call.spawn(async move {
                for index in 0..order.items {
                    if sender.send(order.item(index)).await.is_err() {
                        return;
                    }
                }
                sender.finish().await;
            });
        }
        let _counted = self.see_through(&mut call, order, fate, echoed).await;
    }

    /// Reads items in order until the call ends or its fate comes.
    async fn see_through(&self, call: &mut LocalCall, order: Order, fate: Fate, echoed: bool) -> Result<(), CallError> {
        if let Fate::DropAt(after) = fate {
            self.near.env().sleep(after).await;
            self.tally.ended("dropped");
            return Ok(());
        }
        let mut index = 0;
        let outcome = loop {
            match fate {
                Fate::StopAfter(at) if at == index => call.cancel(CancelMode::Stop),
                Fate::KillAfter(at) if at == index => call.cancel(CancelMode::Kill),
                Fate::DropAfter(at) if at == index => {
                    self.tally.ended("dropped");
                    return Ok(());
                }
                _ => {}
            }
            match call.next().await {
                Some(Ok(found)) => {
                    assert!(index < order.items && found == order.item(index), "item {index} of {}", order.items);
                    bump(&self.tally.items, 1);
                    index += 1;
                }
                Some(Err(error)) => {
                    self.check(&error, index, order, fate, echoed);
                    self.tally.ended(name(&error));
                    break Err(error);
                }
                None => {
                    let stopped = matches!(fate, Fate::StopAfter(_));
                    assert!(stopped || (index == order.items && (echoed || !order.fails)), "ended well after {index}");
                    self.tally.ended("well");
                    break Ok(());
                }
            }
        };
        assert_eq!(call.next().await, None, "an outcome is the last word");
        outcome
    }

    /// The outcomes that say whose deed they are must be right.
    fn check(&self, error: &CallError, index: u32, order: Order, fate: Fate, echoed: bool) {
        match error {
            CallError::Failed { message, .. } => {
                let stopped = matches!(fate, Fate::StopAfter(_));
                assert!(order.fails && !echoed, "nobody ordered {message:?}");
                assert!(index == order.items || stopped, "failed after {index} of {}", order.items);
            }
            CallError::Cancelled => {
                assert!(matches!(fate, Fate::StopAfter(_) | Fate::KillAfter(_)), "nobody cancelled");
            }
            CallError::Overloaded | CallError::Closed | CallError::TooLarge { .. } | CallError::HeaderTooLarge => {
                panic!("{error} cannot be");
            }
            CallError::Unreachable { reason: CloseReason::Eof, .. } => panic!("a dial has no end of stream"),
            _ => {}
        }
    }
}

/// All calls of one seed, and the assertions after them.
fn play(seed: u64, tally: &Rc<Tally>) {
    let mut scene = Scene::new(seed);
    let mut rng = Rng::new(seed ^ 0x6361_6c6c);
    if scene.setting.mishaps {
        (0..=rng.below(3)).for_each(|_| scene.mishap(&mut rng));
    }
    let client = Client {
        near: Rc::clone(&scene.near),
        endpoints: scene.endpoints,
        tally: Rc::clone(tally),
        size: scene.setting.size,
    };
    let done = Rc::new(Cell::new(0));
    for task in 0..TASKS {
        let (client, done, mut rng) = (client.clone(), Rc::clone(&done), rng.fork());
        scene.sim.env(scene.caller).spawn(async move {
            for round in 0..ROUNDS {
                client.one(task * 1000 + round, &mut rng).await;
            }
            bump(&done, 1);
        });
    }
    scene.wait_for(&done, u64::from(TASKS));
    come_to_rest(&mut scene, &client);
}

/// The network heals; calls go well again on what connections are left; then nothing is left of any of it.
fn come_to_rest(scene: &mut Scene, client: &Client) {
    scene.sim.set_faults(Faults::calm());
    // The scripts that end mishaps, and connections on paths that swallow everything.
    scene.sim.run_for(Duration::from_secs(100));
    let done = Rc::new(Cell::new(0));
    let (probe, told) = (client.clone(), Rc::clone(&done));
    scene.sim.env(scene.caller).spawn(async move {
        for salt in 0..8 {
            // More than a window of it: credit lost on the way here would be missed.
            let order = Order { salt, items: 4, size: 200_000, rest: 0, fails: false };
            let request = Request { body: Some(order.encode()), ..Request::default() };
            let mut call = probe.near.call(probe.endpoints[0], request).expect("there is room for a call");
            bump(&probe.tally.calls, 1);
            let outcome = probe.see_through(&mut call, order, Fate::Read, false).await;
            assert_eq!(outcome, Ok(()), "a call on a network that has healed goes well");
        }
        told.set(1);
    });
    scene.wait_for(&done, 1);
    scene.sim.run_for(Duration::from_secs(30));
    let near = scene.near.touching(|node| node.caller.footprint());
    assert_eq!((near.calls, near.streams, near.held, near.reserved), (0, 0, 0, 0), "{near:?}");
    for node in &*scene.far.borrow() {
        let far = node.touching(|node| node.worker.footprint());
        assert_eq!((far.jobs, far.streams, far.held, far.reserved), (0, 0, 0, 0), "{far:?}");
    }
    assert!(scene.sim.run_until_idle(LONG), "something goes on for ever");
    assert_eq!(scene.sim.connections(), 0, "connections are left");
    assert_eq!(scene.near.touching(|node| node.caller.footprint()), caller::stats::Footprint::default());
    for node in &*scene.far.borrow() {
        let (far, load) = node.touching(|node| (node.worker.footprint(), node.worker.load()));
        assert_eq!((far, load), (worker::stats::Footprint::default(), (0, 0)));
    }
    let hosts = scene.workers.iter().chain([&scene.caller]);
    assert_eq!(hosts.map(|host| scene.sim.tasks_alive(*host)).sum::<usize>(), 0, "tasks are left");
    assert_eq!(scene.handlers.began.get(), scene.handlers.gone.get(), "handlers are left");
    let stats = scene.near.touching(|node| *node.caller.stats());
    assert_eq!(stats.calls, stats.succeeded + stats.failed, "an outcome each, and only one");
}

/// Calls, items and outcomes of the seeds `first, first + step, ...`.
fn play_each(first: u64, step: usize) -> (u64, u64, BTreeMap<&'static str, u64>) {
    let tally = Rc::<Tally>::default();
    for seed in seeds(SEEDS).skip(first as usize).step_by(step) {
        play(seed, &tally);
        let ended: u64 = tally.outcomes.borrow().values().sum();
        assert_eq!(tally.calls.get(), ended, "seed {seed:#x}: an outcome each, and only one");
    }
    (tally.calls.get(), tally.items.get(), tally.outcomes.take())
}

#[test]
fn a_million_calls_each_end_once_with_their_items_in_order_and_leave_nothing_behind() {
    let halves = std::thread::scope(|scope| {
        let other = scope.spawn(|| play_each(1, 2));
        [play_each(0, 2), other.join().expect("the failure is printed above")]
    });
    let (mut calls, mut items, mut outcomes) = (0, 0, BTreeMap::<_, u64>::new());
    for (some, found, ends) in halves {
        (calls, items) = (calls + some, items + found);
        ends.into_iter().for_each(|(how, count)| *outcomes.entry(how).or_default() += count);
    }
    println!("{calls} calls, {items} items; {outcomes:#?}");
    if seeds(SEEDS).eq(0..SEEDS) {
        assert!(calls >= 1_000_000, "{calls}");
        let seen =
            ["well", "dropped", "cancelled", "failed", "deadline", "rejected", "disconnected, delivered", "protocol"];
        for how in seen {
            assert!(outcomes.get(how).is_some_and(|count| *count > 100), "{how}: {outcomes:?}");
        }
    }
}
