//! Models and publishers of events: the real Dynamo's seen by us, ours seen by it, and both written alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::Trial;
use ringplane::discovery::{Backend, Watch, open};
use ringplane_core::discovery::card::Card;
use ringplane_core::discovery::{Change, EventQuery, Kind as _, Model, Query};
use ringplane_core::id::{EndpointId, InstanceId};
use rustix::process::Signal;
use serde_json::json;

use crate::place::{ENDPOINT, Place};
use crate::process::{BOUND, Peer};
use crate::{DYNAMO, TOKIO, trial};

const MODELS: &str = "interop.backend.models";

/// All tests of records through a directory.
pub(crate) fn trials() -> Vec<Trial> {
    let all: [(&str, fn()); 3] = [
        ("models_and_publishers_of_dynamo_are_seen_and_written_alike", dynamos_are_seen),
        ("a_model_of_ours_decides_what_dynamo_may_register_beside_it", ours_are_seen),
        ("a_worker_whose_record_dynamo_deleted_registers_again", reaped),
    ];
    all.into_iter().map(|(name, run)| trial(format!("records::{name}"), &[DYNAMO, TOKIO], run)).collect()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(BOUND, future).await }).expect("an answer in time")
}

fn at(place: &Path) -> Arc<dyn Backend> {
    open(&format!("file:{}", place.display())).unwrap()
}

/// The next change but the first ones, which tell what was there.
fn next(watch: &mut Watch<Model>) -> Change<Model> {
    wait(watch.next()).unwrap()
}

/// Every file of records by its path, with its content.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for bucket in ["v1/mdc", "v1/event_channels", "v1/event_sources"] {
        for entry in std::fs::read_dir(root.join(bucket)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn dynamos_are_seen() {
    let (place, copy) = (Place::new("msgpack"), tempfile::tempdir().unwrap());
    let (theirs, ours) = (at(&place.discovery()), at(copy.path()));
    let mut watch = wait(theirs.models().watch(Query::Namespace("interop".to_owned()))).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    let mut dynamo = registered(&place, MODELS, &[]);
    let Change::Added(model) = next(&mut watch) else { panic!("no model") };
    assert_eq!((model.endpoint.to_string(), model.card.facts().display_name), (MODELS.to_owned(), "llama".to_owned()));
    // The same written by us gives the same files.
    let mut mine = wait(ours.models().register(model)).unwrap();
    let (mut channels, mut sources) = (vec![], vec![]);
    until("it publishes", || {
        channels = wait(theirs.channels().list(EventQuery::default())).unwrap();
        sources = wait(theirs.sources().list(EventQuery::default())).unwrap();
        !channels.is_empty() && !sources.is_empty()
    });
    let channels: Vec<_> = channels.into_iter().map(|one| wait(ours.channels().register(one)).unwrap()).collect();
    let sources: Vec<_> = sources.into_iter().map(|one| wait(ours.sources().register(one)).unwrap()).collect();
    assert_eq!(files(copy.path()), files(&place.discovery()));
    // So do other taints.
    dynamo.tell(&json!({"taints": ["slow", "a/b"]}));
    dynamo.wait_for("event", "done");
    let Change::Updated(tainted) = next(&mut watch) else { panic!("no taints") };
    let taints = BTreeSet::from(["slow".to_owned(), "a/b".to_owned()]);
    assert_eq!(wait(mine.update_taints(taints)).unwrap(), &tainted);
    assert_eq!(files(copy.path()), files(&place.discovery()));
    dynamo.tell(&json!({"unregister": true}));
    dynamo.wait_for("event", "done");
    assert_eq!(next(&mut watch), Change::Removed(tainted.key()));
    drop((mine, channels, sources));
}

fn registered(place: &Place, endpoint: &str, env: &[(&str, &str)]) -> Peer {
    let mut dynamo = place.records(endpoint, "llama", env);
    dynamo.wait_for("event", "registered");
    dynamo
}

/// The same of a live Dynamo is read and watched through the etcd at `endpoint`.
#[cfg(feature = "etcd")]
pub(crate) fn dynamos_are_seen_through_etcd(endpoint: &str) {
    const MODELS: &str = "records_in_etcd.backend.models";
    let place = Place::new("msgpack");
    let theirs = open(&format!("etcd:{endpoint}")).unwrap();
    let mut watch = wait(theirs.models().watch(Query::Namespace("records_in_etcd".to_owned()))).unwrap();
    assert_eq!(next(&mut watch), Change::Resync(vec![]));
    let env = [("DYN_DISCOVERY_BACKEND", "etcd"), ("ETCD_ENDPOINTS", endpoint)];
    let mut dynamo = registered(&place, MODELS, &env);
    let Change::Added(model) = next(&mut watch) else { panic!("no model") };
    assert_eq!((model.endpoint.to_string(), model.card.facts().display_name), (MODELS.to_owned(), "llama".to_owned()));
    until("it publishes", || {
        let channels = wait(theirs.channels().list(EventQuery::default())).unwrap();
        let sources = wait(theirs.sources().list(EventQuery::default())).unwrap();
        !channels.is_empty() && !sources.is_empty()
    });
    dynamo.tell(&json!({"taints": ["slow", "a/b"]}));
    dynamo.wait_for("event", "done");
    let Change::Updated(tainted) = next(&mut watch) else { panic!("no taints") };
    assert_ne!(tainted.card, model.card);
    dynamo.tell(&json!({"unregister": true}));
    dynamo.wait_for("event", "done");
    assert_eq!(next(&mut watch), Change::Removed(tainted.key()));
}

/// Dynamo looks at the models of an endpoint before it adds one, so it says whether it sees ours.
fn ours_are_seen() {
    let place = Place::new("msgpack");
    let ours = at(&place.discovery());
    let (endpoint, card) =
        (EndpointId::parse(MODELS).unwrap(), r#"{"display_name":"llama","source_path":"elsewhere"}"#);
    let model = Model { endpoint, id: InstanceId(1), suffix: None, card: Card::new(card).unwrap() };
    let mine = wait(ours.models().register(model)).unwrap();
    let mut refused = place.records(MODELS, "other", &[]);
    let line = refused.wait_for("event", "refused");
    println!("it says: {line}");
    drop(refused);
    let _dynamo = registered(&place, MODELS, &[]);
    let of_endpoint = Query::Endpoint(mine.record().endpoint.clone());
    assert_eq!(wait(ours.models().list(of_endpoint)).unwrap().len(), 2);
    // And we look at Dynamo's.
    let strange = Card::new(r#"{"display_name":"other","source_path":"nowhere"}"#).unwrap();
    let strange = Model { id: InstanceId(2), card: strange, ..mine.record().clone() };
    let error = wait(ours.models().register(strange)).unwrap_err().to_string();
    assert!(error.contains("does not go with"), "{error}");
}

/// A worker of ours stands still until a Dynamo caller has deleted its record, and is called by it again.
fn reaped() {
    let place = Place::new("msgpack");
    let worker = place.worker(TOKIO, ENDPOINT, &[]);
    let mut caller = place.caller(DYNAMO, ENDPOINT, 1, &[]);
    let bucket = place.discovery().join("v1/instances");
    let records = || -> Vec<_> { std::fs::read_dir(&bucket).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let before = records();
    assert_eq!(before.len(), 1);
    worker.signal(Signal::STOP);
    until("its record is deleted", || records().is_empty());
    worker.signal(Signal::CONT);
    until("its record is back", || records() == before);
    // It is there; the caller reads of it when its watch tells.
    let mut calls = 0;
    until("it is called again", || {
        calls += 1;
        let name = format!("again-{calls}");
        caller.tell(&json!({"call": name, "request": {"n": 1}}));
        let ending = caller.wait("end of the call", |line| line["call"] == json!(name) && line.get("item").is_none());
        ending["end"] == json!(1)
    });
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < 2 * BOUND, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
