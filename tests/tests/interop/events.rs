//! Events by NATS: the real Dynamo's heard by us, and ours by it.

use std::time::Duration;

use libtest_mimic::Trial;
use ringplane::events::{Delivery, EventPublisher, Events, Message, NatsConfig, Subscription};
use ringplane::nats;
use ringplane_core::wire::msgpack::write_json;
use serde_json::{Value, json};

use crate::nats::server;
use crate::place::{Kind, Place};
use crate::process::{BOUND, Peer};
use crate::{DYNAMO, trial_or, wheel};

/// What the events are about.
const SCOPE: &str = "interop.backend.events";

/// A test: its name and what runs it.
type Hearing = (&'static str, fn(Kind));

/// All tests of events, with the version that is the specification and with what becomes the next.
pub(crate) fn trials() -> Vec<Trial> {
    let missing = server().err().map(|why| format!("no NATS server: {why}"));
    let mut trials = Vec::new();
    for dynamo in [DYNAMO, Kind::Dynamo(wheel::NIGHTLY)] {
        let all: [Hearing; 2] = [("are_heard_by_ours", heard_by_ours), ("of_ours_are_heard", ours_are_heard)];
        for (what, run) in all {
            let name = format!("events_by_nats_of_{}_{what}", dynamo.name());
            trials.push(trial_or(missing.clone(), name, &[dynamo], move || run(dynamo)));
        }
    }
    trials
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(BOUND, future).await }).expect("an answer in time")
}

fn events(place: &Place) -> Events {
    let servers = vec![format!("nats://{}", server().unwrap())];
    let config = NatsConfig::from(nats::Config { servers, ..nats::Config::default() });
    let discovery = format!("file:{}", place.discovery().display());
    wait(Events::builder().discovery(discovery).plane(config).open()).unwrap()
}

fn peer(place: &Place, dynamo: Kind, scope: &str) -> Peer {
    let url = format!("nats://{}", server().unwrap());
    let mut peer = place.events(dynamo, scope, &[("DYN_EVENT_PLANE", "nats"), ("NATS_SERVER", &url)]);
    peer.wait_for("event", "ready");
    peer
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
fn heard_by_ours(dynamo: Kind) {
    let (place, scope) = (Place::new("msgpack"), format!("{SCOPE}_{}", dynamo.name().replace(['.', '-'], "_")));
    let ours = events(&place);
    let listen = |topic| wait(ours.subscriber(&scope, topic)).unwrap();
    let (mut forward, mut metrics, mut blocks) =
        (listen("forward-pass-metrics"), listen("kv_metrics"), listen("kv-events"));
    let mut theirs = peer(&place, dynamo, &scope);
    theirs.tell(&json!({"fpm": 20, "metrics": 5, "stored": 3}));
    theirs.wait_for("event", "done");
    // Between ours are those that it sends of itself, once a second.
    for i in 0..20 {
        let wanted = |value: &Value| value["wall_time"] == json!(1.0 + f64::from(i));
        let (message, value) = next(&mut forward, wanted);
        assert_eq!(value["worker_id"], "worker-7", "{value}");
        assert_eq!(message.envelope[0], 0x85);
    }
    next(&mut metrics, |value| value["active_decode_blocks"] == json!(4));
    // It may put several into one event.
    let mut stored = String::new();
    while !(100..103).all(|hash| stored.contains(&format!("\"block_hash\":{hash},"))) {
        stored += &next(&mut blocks, |_| true).1.to_string();
    }
    for subscription in [&forward, &metrics, &blocks] {
        let stats = subscription.stats();
        assert_eq!((stats.told.missing, stats.queued.malformed, stats.told.duplicates), (0, 0, 0), "{stats:?}");
    }
}

fn ours_are_heard(dynamo: Kind) {
    let (place, scope) = (Place::new("msgpack"), format!("{SCOPE}_of_ours_{}", dynamo.name().replace(['.', '-'], "_")));
    let ours = events(&place);
    let publisher = wait(ours.publisher(&scope, "forward-pass-metrics")).unwrap();
    let mut theirs = peer(&place, dynamo, &scope);
    theirs.tell(&json!({"hear": true}));
    theirs.wait_for("event", "done");
    // It does not say when it listens. Its own publisher speaks between ours.
    let mut said = 0;
    while !theirs.seen(is_ours) {
        say(&publisher, &mut said);
        std::thread::sleep(Duration::from_millis(50));
        theirs.tell(&json!({}));
        theirs.wait_for("event", "done");
        assert!(said < 600, "it hears nothing; {}", theirs.said());
    }
    let begin = said;
    (0..100).for_each(|_| say(&publisher, &mut said));
    for number in begin..said {
        theirs.wait(&format!("event {number}"), |line| line["payload"] == json!(payload(number)));
    }
}

fn say(publisher: &EventPublisher, said: &mut u32) {
    wait(publisher.publish_as(&("ours", *said))).unwrap();
    *said += 1;
}

/// `["ours", NUMBER]` in MessagePack, in hexadecimal digits.
fn payload(number: u32) -> String {
    let number = match number {
        0..=0x7F => format!("{number:02x}"),
        0x80..=0xFF => format!("cc{number:02x}"),
        _ => format!("cd{number:04x}"),
    };
    format!("92a46f757273{number}")
}

fn is_ours(line: &Value) -> bool {
    line["payload"].as_str().is_some_and(|payload| payload.starts_with("92a46f757273"))
}
