//! Streams of KV events over ZeroMQ: engines' read by ours, and ours by readers as strict as the engines' own types.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use ringplane::zmq::{Config, Endpoint, KvPublisher, KvPublisherConfig, KvSubscriber, KvSubscriberConfig};
use ringplane_core::event::kv::publisher;
use ringplane_core::event::kv::source::{Clear, Spoilt};
use ringplane_core::event::kv::write::{Form, Hashes, Layout, Style};
use ringplane_core::event::kv::{Event, Output, Removed, Stored, Tokens};
use ringplane_core::retry::backoff;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::process::{BOUND, Peer};
use crate::{trial_or, wheel};

/// All tests of the stream.
pub(crate) fn trials() -> Vec<Trial> {
    let missing = wheel::python(wheel::KV_EVENTS).err();
    let all: [(&str, fn()); 3] = [
        ("engines_are_read_through_holes_restarts_and_what_is_broken", engines_are_read),
        ("the_publisher_of_sglang_is_read_from_the_beginning", sglang_is_read),
        ("ours_are_read_and_asked_by_a_strict_reader", ours_are_read),
    ];
    let trial = |(name, run): (&str, fn())| trial_or(missing.clone(), format!("kv_events::{name}"), &[], run);
    all.into_iter().map(trial).collect()
}

fn engine() -> Peer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kv_engine.py");
    let mut command = Command::new(wheel::python(wheel::KV_EVENTS).unwrap());
    let mut peer = Peer::start(command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1"));
    peer.wait_for("event", "ready");
    peer
}

fn tell(peer: &mut Peer, command: &Value) -> Value {
    peer.tell(command);
    peer.wait_for("event", "done")
}

fn at(port: &Value) -> Endpoint {
    format!("tcp://127.0.0.1:{port}").parse().unwrap()
}

/// Sockets that come back soon.
fn quick() -> Config {
    let retry = backoff::Config { base: Duration::from_millis(1), cap: Duration::from_millis(20), attempts: u32::MAX };
    Config { retry, ..Config::default() }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

struct Heard {
    runtime: Runtime,
    subscriber: KvSubscriber,
}

impl Heard {
    fn new(ports: &Value) -> Self {
        let runtime = runtime();
        let (replay_endpoint, socket) = (Some(at(&ports["replay"])), quick());
        let config = KvSubscriberConfig { replay_endpoint, socket, ..KvSubscriberConfig::new(at(&ports["live"])) };
        let subscriber = runtime.block_on(async { KvSubscriber::start(config) }).unwrap();
        Self { runtime, subscriber }
    }

    fn next(&mut self) -> Output {
        let next = async { tokio::time::timeout(BOUND, self.subscriber.next()).await };
        match self.runtime.block_on(next) {
            Ok(output) => output.expect("it goes on"),
            Err(_) => panic!("nothing in time: {:?}", self.subscriber.stats()),
        }
    }

    /// What is heard until each of these is stored, in this order, with all else in between.
    fn stored(&mut self, hashes: &[u64]) -> Vec<Output> {
        let (mut left, mut rest) = (hashes, Vec::new());
        while let [hash, others @ ..] = left {
            match self.next() {
                Output::Stored { event, .. } => {
                    assert_eq!((event.block_hashes, event.block_size), (vec![*hash], 2));
                    left = others;
                }
                other => rest.push(other),
            }
        }
        rest
    }
}

fn engines_are_read() {
    let mut engine = engine();
    for form in ["map", "array"] {
        let ports = tell(&mut engine, &json!({"publish": form}));
        tell(&mut engine, &json!({"store": [1, 2]}));
        tell(&mut engine, &json!({"store": [3]}));
        let mut heard = Heard::new(&ports);
        assert_eq!(heard.stored(&[1, 2, 3]), [], "{form}: from the beginning, by asking");
        assert!(heard.subscriber.is_exact());
        // Numbers that are used up: nobody has them.
        tell(&mut engine, &json!({"skip": 2, "store": [4]}));
        let hole = Output::Missed { first: 2, last: 3, confirmed: true };
        assert_eq!(heard.stored(&[4]), [hole], "{form}: the stream goes on");
        assert!(!heard.subscriber.is_exact());
        // One event that nobody knows, and one that is broken, spoil themselves.
        let unknown = if form == "map" { "81a474797065a158" } else { "91a158" };
        let broken = if form == "map" { "81a474797065ab426c6f636b53746f726564" } else { "91ab426c6f636b53746f726564" };
        tell(&mut engine, &json!({"raw": [unknown, broken]}));
        tell(&mut engine, &json!({"store": [5]}));
        let rest = heard.stored(&[5]);
        assert!(matches!(rest[..], [Output::Spoilt { seq: 5, why: Spoilt::Event(1, _) }]), "{form}: {rest:?}");
        assert_eq!(heard.subscriber.stats().unknown_events, 1);
        // Another engine on the same ports, further than this one was before anybody looks.
        tell(&mut engine, &json!({"publish": form, "live": ports["live"], "replay": ports["replay"], "skip": 0}));
        for hash in 10..20 {
            tell(&mut engine, &json!({"store": [hash]}));
        }
        let hashes: Vec<u64> = (10..20).collect();
        let rest = heard.stored(&hashes);
        assert_eq!(rest, [Output::Cleared { rank: None, why: Clear::Restarted }], "{form}");
        assert!(heard.subscriber.is_exact());
    }
}

fn sglang_is_read() {
    let mut engine = engine();
    let ports = tell(&mut engine, &json!({"publish": "sglang"}));
    for hashes in [[1, 2], [3, 4]] {
        tell(&mut engine, &json!({"store": hashes}));
    }
    let mut heard = Heard::new(&ports);
    assert_eq!(heard.stored(&[1, 2, 3, 4]), []);
    tell(&mut engine, &json!({"store": [5]}));
    assert_eq!(heard.stored(&[5]), []);
    let stats = heard.subscriber.stats();
    assert_eq!(
        (stats.missed, stats.spoilt_events, stats.malformed, heard.subscriber.is_exact()),
        (0, 0, 0, true),
        "{stats:?}"
    );
}

/// The batches of ours are decoded as the engines' own types decode them, and asked for in each way there is.
fn ours_are_read() {
    let (runtime, mut peer) = (runtime(), engine());
    for (form, style) in [("map", Form::Map), ("array", Form::Array(Layout::V0_14))] {
        let style = Style { form: style, hashes: Hashes::Integers };
        let config = KvPublisherConfig {
            endpoint: at(&json!(0)),
            replay_endpoint: Some(at(&json!(0))),
            topic: "kv@a@b".to_owned(),
            publisher: publisher::Config { style, ..Default::default() },
            ..Default::default()
        };
        let ours = runtime.block_on(KvPublisher::start(config)).unwrap();
        let [live, replay] = [ours.live_addr(), ours.replay_addr()].map(|addr| addr.unwrap().port());
        tell(&mut peer, &json!({"read": form, "live": live, "replay": replay, "topic": "kv@"}));
        runtime.block_on(async { tokio::time::timeout(BOUND, ours.listened()).await }).expect("it connects");
        let stored = Event::Stored(Stored {
            block_hashes: vec![1, u64::MAX],
            parent_block_hash: Some(7),
            token_ids: Tokens::Plain(vec![1, 2, 3, 4]),
            block_size: 2,
            ..Stored::default()
        });
        let removed = Event::Removed(Removed { block_hashes: vec![1], ..Removed::default() });
        ours.publish(&[stored, removed]).unwrap();
        ours.publish(&[Event::Cleared]).unwrap();
        let mut lives: Vec<Value> = Vec::new();
        for (number, names, hashes) in [
            (1, json!(["BlockStored", "BlockRemoved"]), json!([1, u64::MAX, 1])),
            (2, json!(["AllBlocksCleared"]), json!([])),
        ] {
            let line = peer.wait_for("event", "live");
            assert_eq!(line["topic"], "kv@a@b");
            let [seq, rank, told, blocks, bytes] = &line["batch"].as_array().unwrap()[..] else { panic!("{line}") };
            assert_eq!((seq, rank, told, blocks), (&json!(number), &json!(0), &names, &hashes));
            lives.push(bytes.clone());
        }
        let mut ask =
            |command: Value| -> Vec<Value> { tell_first(&mut peer, &command)["batches"].as_array().unwrap().clone() };
        let numbers =
            |batches: &[Value]| -> Vec<u64> { batches.iter().map(|batch| batch[1].as_u64().unwrap()).collect() };
        let all = ask(json!({"ask": "0000000000000000"}));
        assert_eq!(numbers(&all), [0, 1, 2], "{form}");
        assert_eq!(
            (&all[0][3], &all[0][0]),
            (&json!(["AllBlocksCleared"]), &json!("kv@a@b")),
            "a life begins with a clear"
        );
        assert!(all[1..].iter().map(|batch| &batch[5]).eq(&lives), "{form}: the bytes of the live batches");
        assert_eq!(numbers(&ask(json!({"ask": "0002"}))), [2], "a start of two bytes");
        assert_eq!(numbers(&ask(json!({"ask": ""}))), [0, 1, 2], "an empty start is 0");
        assert!(ask(json!({"ask": "00000000000000ff"})).is_empty(), "the future is empty");
        assert!(ask(json!({"ask": "0000000000000000", "frames": 2})).is_empty(), "no request, no answer");
        assert_eq!(numbers(&ask(json!({"req": "0000000000000001"}))), [1], "a REQ gets the first");
        runtime.block_on(ours.close());
    }
}

/// The answer, which comes before the command is done.
fn tell_first(peer: &mut Peer, command: &Value) -> Value {
    peer.tell(command);
    let answer = peer.wait_for("event", "answer");
    peer.wait_for("event", "done");
    answer
}
