//! A layer between driver and machine, on every driver and in the simulator: it sees every byte, and nobody notices it.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use ringplane_core::caller;
use ringplane_core::caller::request::Request;
use ringplane_core::caller::target::Target;
use ringplane_core::id::InstanceId;
use ringplane_core::local::env::{Env, Host};
use ringplane_core::local::host::LocalNode;
use ringplane_core::node::Node;
use ringplane_core::route::policy::any::AnyPolicy;
use ringplane_core::worker;
use ringplane_tests::meter::{MeteredNode, Tally, metered};
use ringplane_tests::sim::{Faults, Sim};

const PATH: &str = "1/demo/layers/echo";
const PATIENCE: Duration = Duration::from_secs(60);
/// The sizes of the items that go there and come back.
const SIZES: [usize; 5] = [1, 0, 4096, 70_000, 2 << 20];

fn node(env: &Env) -> Rc<LocalNode> {
    LocalNode::new(Node::new(worker::config::Config::default(), caller::config::Config::default(), 1), env)
}

fn echoing(env: &Env) -> Rc<LocalNode> {
    let node = node(env);
    node.serve(
        PATH,
        Rc::new(|incoming| {
            Box::pin(async move {
                while let Ok(Some(item)) = incoming.responder().recv().await {
                    incoming.responder().send(item).await.expect("the caller reads");
                }
                incoming.finish();
            })
        }),
    );
    node
}

/// What a caller sees of calls with items of these sizes: how many bytes came back of each, and the outcome.
async fn converse(node: Rc<LocalNode>, to: SocketAddr) -> String {
    let endpoint = node.endpoint(AnyPolicy::default());
    node.set_instances(endpoint, vec![(InstanceId(1), Target::mux(to, PATH))]);
    let mut seen = String::new();
    for size in SIZES {
        let body = Some(Bytes::from(vec![7; size]));
        let mut call = node.call(endpoint, Request { body, ..Request::default() }).expect("there is room");
        while let Some(item) = call.next().await {
            seen += &format!("{:?} ", item.map(|item| item.len()));
        }
    }
    seen
}

const EXPECTED: &str = "Ok(1) Ok(0) Ok(4096) Ok(70000) Ok(2097152) ";

/// Whether both sides of the one connection there was have counted the same, and every byte has arrived.
fn agree(caller: &[Tally], worker: &[Tally]) -> bool {
    let ([near], [far]) = (caller, worker) else { panic!("one connection each: {caller:?} {worker:?}") };
    let whole = |tally: &Tally| tally.queued == tally.sent && tally.sent > SIZES.iter().sum::<usize>() as u64;
    whole(near) && whole(far) && near.sent == far.received && far.sent == near.received
}

/// The course of a conversation in the simulator: what the caller saw, the hash of all that happened, and what `look` says of
/// the caller's and the worker's host at the end.
fn simulated<H: Host, T>(
    seed: u64,
    over: impl Fn(Rc<LocalNode>) -> Rc<H>,
    below: impl Fn(&Rc<H>) -> Rc<LocalNode>,
    look: impl Fn(&H) -> T,
) -> (String, u64, [T; 2]) {
    let (near, far) = (SocketAddr::from(([10, 0, 0, 1], 80)), SocketAddr::from(([10, 0, 0, 2], 80)));
    let mut sim = Sim::with_faults(seed, Faults::ragged(seed));
    let (_, worker) = sim.host(far, |env| over(echoing(env)));
    let (id, caller) = sim.host(near, |env| over(node(env)));
    let said: Rc<Cell<Option<String>>> = Rc::default();
    let (told, node) = (said.clone(), below(&caller));
    sim.env(id).spawn(async move { told.set(Some(converse(node, far).await)) });
    let end = sim.now() + Duration::from_secs(1000);
    let mut seen = None;
    sim.run_until(|sim| {
        seen = seen.take().or_else(|| said.take());
        seen.is_some() || sim.now() > end
    });
    // Credit and acks of the last items still travel.
    sim.run_for(Duration::from_secs(1));
    (seen.expect("the calls end"), sim.trace_hash(), [look(&caller), look(&worker)])
}

#[test]
fn in_the_simulator_a_layer_counts_every_byte_and_changes_no_course() {
    for seed in 0..20 {
        let (plain, course, _) = simulated(seed, |node| node, Rc::clone, |_: &LocalNode| ());
        let tallies = |host: &MeteredNode| host.with(|meter| meter.tallies());
        let below = |host: &Rc<MeteredNode>| host.host().clone();
        let (seen, same, [caller, worker]) = simulated(seed, metered, below, tallies);
        assert_eq!((plain.as_str(), seen.as_str(), same), (EXPECTED, EXPECTED, course), "seed {seed}");
        assert!(agree(&caller, &worker), "seed {seed}: {caller:?} {worker:?}");
    }
}

/// The same on a real driver; all have the same shape.
macro_rules! on_drivers {
    ($($name:ident: $driver:path;)*) => {
        $(#[test]
        fn $name() {
            use $driver as driver;
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            let (common, config) = (driver::Common::default(), driver::Config::default());
            let given = driver::Given::listener(listener);
            let worker = driver::start("layers-worker", common, config, given, |env| metered(echoing(env))).unwrap();
            let caller = driver::start("layers-caller", common, config, driver::Given::default(), |env| metered(node(env)));
            let caller = caller.unwrap();
            let (told, said) = mpsc::channel();
            let begin = move |host: &Rc<MeteredNode>, env: &Env| {
                let node = host.host().clone();
                env.spawn(async move { told.send(converse(node, to).await).unwrap() });
            };
            caller.handle().submit(begin).expect("the mailbox has room");
            assert_eq!(said.recv_timeout(PATIENCE).expect("the calls end in time"), EXPECTED);
            // Credit and acks of the last items still travel.
            let since = std::time::Instant::now();
            loop {
                let [near, far] = [&caller, &worker].map(|driver| {
                    let (tell, told) = mpsc::channel();
                    let look = move |host: &Rc<MeteredNode>, _: &Env| tell.send(host.with(|meter| meter.tallies())).unwrap();
                    driver.handle().submit(look).expect("the mailbox has room");
                    told.recv_timeout(PATIENCE).expect("jobs run")
                });
                if agree(&near, &far) {
                    break;
                }
                assert!(since.elapsed() < PATIENCE, "{near:?} {far:?}");
            }
            for report in [caller.stop(), worker.stop()] {
                assert!(report.is_clean(), "{report:?}");
            }
        })*
    };
}

on_drivers! {
    on_tokio_a_layer_counts_every_byte: ringplane_tokio::tcp;
    on_io_uring_a_layer_counts_every_byte: ringplane_io_uring;
    on_monoio_a_layer_counts_every_byte: ringplane_io_uring::monoio;
    on_tokio_uring_a_layer_counts_every_byte: ringplane_io_uring::tokio_uring;
}
