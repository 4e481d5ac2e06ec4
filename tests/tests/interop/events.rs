//! Events by NATS and over ZeroMQ: the real Dynamo's heard by us, ours by it, and its KV router fed by us.

use std::time::Duration;

use libtest_mimic::Trial;
use ringplane::events::{Delivery, Events, EventsBuilder, Message, NatsConfig, Subscription};
use ringplane::kv::{self, BlockConfig, BlockPublisher, ForwardPublisher, LoadPublisher};
use ringplane::zmq::{Broker, BrokerConfig, Brokers, Way, ZmqConfig};
use ringplane::{Codec, InstanceId, Payload, TraceContext, nats};
use ringplane_core::discovery::card::Card;
use ringplane_core::discovery::{Instance, Model};
use ringplane_core::id::EndpointId;
use ringplane_core::wire::msgpack::write_json;
use serde_json::{Value, json};

use crate::nats::server;
use crate::place::{Kind, Place};
use crate::process::{BOUND, Peer};
use crate::{DYNAMO, trial_or, wheel};

/// The worker that the router learns of, which nobody calls.
const WORKER: InstanceId = InstanceId(7);

/// How events go.
#[derive(Copy, Clone, PartialEq, Eq)]
enum By {
    Nats,
    Zmq,
    Broker,
}

/// All tests of events, with the version that is the specification and with what becomes the next.
pub(crate) fn trials() -> Vec<Trial> {
    let no_server = server().err().map(|why| format!("no NATS server: {why}"));
    let mut trials = Vec::new();
    for dynamo in [DYNAMO, Kind::Dynamo(wheel::NIGHTLY)] {
        for (by, name) in [(By::Nats, "nats"), (By::Zmq, "zmq"), (By::Broker, "zmq_through_a_broker")] {
            let missing = no_server.clone().filter(|_| by == By::Nats);
            let name = format!("events_by_{name}_of_{}_and_of_ours", dynamo.name());
            trials.push(trial_or(missing, name, &[dynamo], move || both_ways(dynamo, by)));
        }
    }
    trials
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(BOUND, future).await }).expect("an answer in time")
}

/// What both ends need to meet: a discovery directory, and maybe a broker, on a runtime of its own.
struct Meeting {
    place: Place,
    /// What their events are about: on one server the tests must not hear each other.
    scope: String,
    /// What those of ours are about that their router reads.
    routed: String,
    by: By,
    broker: Option<Broker>,
    _runtime: tokio::runtime::Runtime,
}

impl Meeting {
    fn new(dynamo: Kind, by: By) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let at = || "tcp://127.0.0.1:0".parse().unwrap();
        let config = BrokerConfig { xsub: at(), xpub: at(), socket: Default::default() };
        let broker = (by == By::Broker).then(|| runtime.block_on(Broker::start(config)).unwrap());
        let name = dynamo.name().replace(['.', '-'], "_");
        let [scope, routed] = ["events", "routed"].map(|what| format!("interop.{name}.{what}"));
        Self { place: Place::new("msgpack"), scope, routed, by, broker, _runtime: runtime }
    }

    fn discovery(&self) -> String {
        format!("file:{}", self.place.discovery().display())
    }

    fn ours(&self) -> Events {
        let builder: EventsBuilder = Events::builder().discovery(self.discovery());
        let builder = match (self.by, &self.broker) {
            (By::Nats, _) => {
                let servers = vec![format!("nats://{}", server().unwrap())];
                builder.plane(NatsConfig::from(nats::Config { servers, ..nats::Config::default() }))
            }
            (_, None) => builder.plane(ZmqConfig::default()),
            (_, Some(broker)) => {
                let (xsub, xpub) = (vec![broker.xsub_addr().into()], vec![broker.xpub_addr().into()]);
                builder.plane(ZmqConfig { way: Way::Brokers(Brokers { xsub, xpub }), ..ZmqConfig::default() })
            }
        };
        wait(builder.open()).unwrap()
    }

    fn theirs(&self, dynamo: Kind) -> Peer {
        let plane = if self.by == By::Nats { "nats" } else { "zmq" };
        let mut env = vec![("DYN_EVENT_PLANE", plane.to_owned()), ("DYN_EVENT_PLANE_HOST", "127.0.0.1".to_owned())];
        if self.by == By::Nats {
            env.push(("NATS_SERVER", format!("nats://{}", server().unwrap())));
        }
        if let Some(broker) = &self.broker {
            let brokers = format!("xsub=tcp://{} , xpub=tcp://{}", broker.xsub_addr(), broker.xpub_addr());
            env.push(("DYN_ZMQ_BROKER_URL", brokers));
        }
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut peer = self.place.events(dynamo, &self.scope, &env);
        peer.wait_for("event", "ready");
        peer
    }
}

/// One process of theirs speaks, listens and routes.
fn both_ways(dynamo: Kind, by: By) {
    let meeting = Meeting::new(dynamo, by);
    let ours = meeting.ours();
    let mut theirs = meeting.theirs(dynamo);
    heard_by_ours(&meeting.scope, &ours, &mut theirs);
    ours_are_heard(&meeting.scope, &ours, &mut theirs);
    ours_are_routed_by(&meeting, &ours, &mut theirs);
}

/// Tells the peer something, and waits until it is done.
fn tell(theirs: &mut Peer, command: &Value) {
    theirs.tell(command);
    theirs.wait_for("event", "done");
}

/// Says something until it is there: nobody tells when a publisher and a subscriber have found each other.
fn until(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..600 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}");
}

/// The next event that is as one wants it.
fn next(subscription: &mut Subscription, fits: impl Fn(&Value) -> bool) -> (Message, Value) {
    loop {
        let delivery = wait(subscription.next()).expect("it goes on").unwrap();
        let Delivery::Event(message) = delivery else { panic!("{delivery:?}") };
        let mut text = String::new();
        assert_eq!(write_json(&message.payload, &mut text).unwrap(), Ok(message.payload.len()));
        let value = serde_json::from_str(&text).unwrap();
        if fits(&value) {
            return (message, value);
        }
    }
}

/// Forward-pass metrics, metrics of a worker, and events of its cache.
fn heard_by_ours(scope: &str, ours: &Events, theirs: &mut Peer) {
    let listen = |topic| wait(ours.subscriber(scope, topic)).unwrap();
    let (mut forward, mut metrics, mut blocks) = (listen(kv::FORWARD), listen(kv::LOAD), listen(kv::BLOCKS));
    let mut said = 0;
    until("their publishers are not heard", || {
        said += 1;
        tell(theirs, &json!({"fpm": 1, "metrics": 1, "stored": 1, "from": 1000 + said}));
        [&forward, &metrics, &blocks].iter().all(|subscription| subscription.stats().queued.received > 0)
    });
    tell(theirs, &json!({"fpm": 20, "metrics": 5, "stored": 3}));
    // Between them are those that it sends of itself, once a second.
    for i in 0..20_u32 {
        let wanted = |value: &Value| value["wall_time"] == json!(1.0 + f64::from(i));
        let (message, value) = next(&mut forward, wanted);
        assert_eq!(value["worker_id"], "worker-7", "{value}");
        assert_eq!(message.envelope[0], 0x85);
        let pass: kv::ForwardPass = read(&message);
        assert_eq!(pass.queued_requests.sum_decode_kv_tokens, u64::from(i));
    }
    let (message, _) = next(&mut metrics, |value| value["active_decode_blocks"] == json!(4));
    assert_eq!(read::<kv::Load>(&message).active_decode_blocks, Some(4));
    // It may put several into one event.
    let tokens_hash = kv::tokens_hash(&[1, 2, 3, 4], None, None);
    let mut stored = Vec::new();
    while !(100..103).all(|hash| stored.contains(&(hash, tokens_hash))) {
        for event in kv::router_events(&next(&mut blocks, |_| true).0).unwrap() {
            let kv::Change::Stored(told) = &event.event.data else { panic!("{event:?}") };
            stored.extend(told.blocks.iter().map(|block| (block.block_hash, block.tokens_hash)));
        }
    }
    for subscription in [&forward, &metrics, &blocks] {
        let stats = subscription.stats();
        assert_eq!((stats.told.missing, stats.queued.malformed, stats.told.duplicates), (0, 0, 0), "{stats:?}");
    }
}

fn read<T: serde::de::DeserializeOwned>(message: &Message) -> T {
    ringplane::events::EventValue::value(message).unwrap()
}

fn ours_are_heard(scope: &str, ours: &Events, theirs: &mut Peer) {
    let publisher = wait(ForwardPublisher::open(ours, scope, "ours", 3)).unwrap();
    tell(theirs, &json!({"hear": true}));
    let mut said = 0;
    let mut say = || {
        let scheduled = kv::Scheduled { sum_prefill_tokens: said, ..Default::default() };
        publisher.publish(Duration::from_millis(250), scheduled, kv::Queued::default()).unwrap();
        said += 1;
        said - 1
    };
    // Its own publisher speaks between ours.
    until("it hears nothing", || {
        say();
        tell(theirs, &json!({}));
        theirs.seen(|line| pass(line).is_some_and(|pass| pass.worker_id == "ours"))
    });
    let mut last = None;
    for _ in 0..100 {
        let number = say();
        let line = theirs.wait(&format!("event {number}"), |line| {
            pass(line)
                .is_some_and(|pass| pass.worker_id == "ours" && pass.scheduled_requests.sum_prefill_tokens == number)
        });
        let pass = pass(&line).unwrap();
        assert_eq!((pass.version, pass.dp_rank, pass.wall_time.to_bits()), (1, 3, 0.25_f64.to_bits()));
        assert!(last < Some(pass.counter_id), "{pass:?}");
        last = Some(pass.counter_id);
    }
    ours_of_a_trace_are_heard(scope, ours, theirs);
}

/// Fields that it does not know do not keep an event from it.
fn ours_of_a_trace_are_heard(scope: &str, ours: &Events, theirs: &mut Peer) {
    let publisher = wait(ours.publisher(scope, kv::FORWARD)).unwrap();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceContext::read(Some(parent), Some("rojo=1"), Some("order 66"));
    let told = kv::ForwardPass {
        version: 1,
        worker_id: "traced".to_owned(),
        dp_rank: 0,
        counter_id: 1,
        wall_time: 0.0,
        scheduled_requests: kv::Scheduled::default(),
        queued_requests: kv::Queued::default(),
    };
    let payload = Payload::write(Codec::Msgpack, &told).unwrap();
    until("an event of a trace is not heard", || {
        wait(publisher.publish_with_context(&payload, &trace)).unwrap();
        tell(theirs, &json!({}));
        theirs.seen(|line| pass(line).as_ref() == Some(&told))
    });
}

/// What it has heard as a forward pass, in bytes.
fn pass(line: &Value) -> Option<kv::ForwardPass> {
    let hex = line["payload"].as_str()?;
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    Payload::read(Codec::Msgpack, &bytes).ok()
}

/// A real KV router hears of our worker's blocks and load, and routes by them.
fn ours_are_routed_by(meeting: &Meeting, ours: &Events, theirs: &mut Peer) {
    let backend = ringplane::discovery::open(&meeting.discovery()).unwrap();
    let endpoint = EndpointId::parse(&meeting.routed).unwrap();
    let card = r#"{"display_name":"m","slug":"m","source_path":"none","model_type":"Chat","model_input":"Text",
        "worker_type":"aggregated","needs":[],"context_length":0,"kv_cache_block_size":4,"migration_limit":0,
        "runtime_config":{"total_kv_blocks":10,"data_parallel_start_rank":0,"data_parallel_size":1,
        "enable_local_indexer":false,"enable_eagle":false}}"#;
    let model = Model { endpoint: endpoint.clone(), id: WORKER, suffix: None, card: Card::new(card).unwrap() };
    let _model = wait(backend.models().register(model)).unwrap();
    let instance = Instance::new(WORKER, endpoint, ([127, 0, 0, 1], 9).into());
    let _worker = wait(backend.endpoints().register(instance)).unwrap();
    let blocks = wait(BlockPublisher::open(ours, &meeting.routed, BlockConfig::new(WORKER, 4))).unwrap();
    let load = wait(LoadPublisher::open(ours, &meeting.routed, WORKER)).unwrap();
    tell(theirs, &json!({"route": meeting.routed}));
    let prompt: Vec<u32> = (1..=12).collect();
    by_blocks(&blocks, theirs, &prompt);
    by_load(&load, theirs, &prompt);
    let (blocks, load) = (wait(blocks.close()), wait(load.close()));
    assert_eq!((blocks.payloads.errors, blocks.payloads.refused, load.errors), (0, 0, 0));
}

fn by_blocks(blocks: &BlockPublisher, theirs: &mut Peer, prompt: &[u32]) {
    let held = |theirs: &mut Peer, wanted: [u64; 2]| {
        theirs.tell(&json!({"held": prompt}));
        let line = theirs.wait_for("event", "held");
        theirs.wait_for("event", "done");
        line["workers"][WORKER.0.to_string()] == json!(wanted)
    };
    // Until it hears: it does not say when.
    until("the router knows of no blocks", || {
        blocks.stored(&prompt[..8], &[100, 101], None).unwrap();
        held(theirs, [2, 2])
    });
    // What follows is heard in order. The host's memory counts on top of the device's.
    let third = kv::Stored {
        block_hashes: vec![102],
        parent_block_hash: Some(101),
        token_ids: kv::Tokens::Plain(prompt[8..].to_vec()),
        block_size: 4,
        medium: Some("CPU".to_owned()),
        ..Default::default()
    };
    blocks.publish(&[kv::Event::Stored(third)]).unwrap();
    until("the router knows of nothing in the host's memory", || held(theirs, [2, 3]));
    for _ in 0..blocks.stats().events.told - 2 {
        blocks.removed(&[101]).unwrap();
    }
    assert!(held(theirs, [2, 3]), "a copy is left");
    blocks.removed(&[101]).unwrap();
    until("the router does not hear that a block is gone", || held(theirs, [1, 1]));
    blocks.cleared().unwrap();
    until("the router does not hear of a clear", || held(theirs, [0, 0]));
}

fn by_load(load: &LoadPublisher, theirs: &mut Peer, prompt: &[u32]) {
    let best = |theirs: &mut Peer| {
        theirs.tell(&json!({"best": prompt}));
        let line = theirs.wait_for("event", "best");
        theirs.wait_for("event", "done");
        line["worker"].clone()
    };
    assert_eq!(best(theirs), json!(WORKER.0));
    for (used, found) in [(9, false), (1, true)] {
        until("the router does not hear of the load", || {
            let used = Some(used);
            let told = kv::Load { active_decode_blocks: used, kv_used_blocks: used, ..Default::default() };
            load.publish(told).unwrap();
            (best(theirs) == json!(WORKER.0)) == found
        });
    }
}
