//! What etcd does to us and we survive: outages, lost data, compaction, lost leases and keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::kind::Kind;
use ringplane_core::discovery::model::Model;
use ringplane_core::discovery::set::{Change, Set};
use ringplane_servers::etcd::Etcd as Server;
use ringplane_tokio::discovery::{Backend, Error, Watch};

use crate::hold::Hold;
use crate::records::{model, taints};
use crate::support::{block_on, instance, next, registry, until};

/// Short lives and bounds, so that every test is over in seconds.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.lease.ttl = Duration::from_secs(2);
    config.lease.check = Duration::from_millis(500);
    config.watch.answer = Duration::from_millis(600);
    config.watch.quiet = Duration::from_secs(1);
    config.watch.grace = Duration::from_secs(8);
    config.etcd.startup = Duration::from_secs(20);
    config
}

fn open(server: &Server) -> Arc<dyn Backend> {
    registry(server.url().strip_prefix("etcd:").unwrap(), config())
}

pub(crate) fn ours(etcd: &dyn Backend, endpoint: &str) -> Instance {
    instance(endpoint, etcd.instance_id().0)
}

/// Base64, as etcd's gateway wants keys.
pub(crate) fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let number = (0..3).fold(0, |sum, i| sum << 8 | u32::from(bytes.get(i).copied().unwrap_or(0)));
        let digit = |i: usize| {
            if i > bytes.len() { '=' } else { char::from(DIGITS[(number >> (18 - 6 * i)) as usize & 63]) }
        };
        (0..4).map(digit).collect::<String>()
    };
    text.as_bytes().chunks(3).map(group).collect()
}

/// The lease a key is under, as the gateway says it.
fn lease_of(server: &Server, key: &str) -> Option<String> {
    let answer = server.post("/v3/kv/range", &format!(r#"{{"key":"{}"}}"#, base64(key)));
    Some(answer.split_once("\"lease\":\"")?.1.split('"').next()?.to_owned())
}

/// A watch that has heard its first resync, and its set.
pub(crate) fn synced(etcd: &dyn Backend, query: Query) -> (Watch, Set) {
    let (mut watch, mut set) = (block_on(etcd.endpoints().watch(query)).unwrap(), Set::default());
    loop {
        let change = next(&mut watch);
        let last = matches!(change, Change::Resync(_));
        set.apply(change);
        if last {
            return (watch, set);
        }
    }
}

/// Nothing is told for this long.
fn is_quiet(watch: &mut Watch, length: Duration) -> bool {
    let until = Instant::now() + length;
    let waker = std::task::Waker::noop();
    while Instant::now() < until {
        let next = std::pin::pin!(watch.next());
        if next.poll(&mut std::task::Context::from_waker(waker)).is_ready() {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_record_is_under_a_lease_whose_id_is_the_instances() {
    let Some(server) = Server::start() else { return };
    let etcd = open(&server);
    let one = ours(&*etcd, "ns.comp.ep");
    let registration = block_on(etcd.endpoints().register(one.clone())).unwrap();
    assert_eq!(lease_of(&server, &one.key().full()), Some(etcd.instance_id().0.to_string()));
    block_on(registration.unregister()).unwrap();
    assert_eq!(lease_of(&server, &one.key().full()), None);
}

#[test]
fn it_opens_on_the_thread_of_a_runtime() {
    let Some(server) = Server::start() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let listed = runtime.block_on(async { open(&server).endpoints().list(Query::All).await });
    assert_eq!(listed.unwrap(), []);
}

#[test]
fn a_foreign_value_at_our_key_is_an_error_and_stays() {
    let Some(server) = Server::start() else { return };
    let etcd = open(&server);
    let one = ours(&*etcd, "ns.comp.ep");
    let key = base64(&one.key().full());
    server.post("/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{}"}}"#, base64("theirs")));
    let error = block_on(etcd.endpoints().register(one)).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    let answer = server.post("/v3/kv/range", &format!(r#"{{"key":"{key}"}}"#));
    assert!(answer.contains(&base64("theirs")), "{answer}");
}

#[test]
fn a_key_deleted_by_somebody_and_a_revoked_lease_come_back() {
    let Some(server) = Server::start() else { return };
    let etcd = open(&server);
    let one = ours(&*etcd, "ns.comp.ep");
    let _registration = block_on(etcd.endpoints().register(one.clone())).unwrap();
    let key = one.key().full();
    server.post("/v3/kv/deleterange", &format!(r#"{{"key":"{}"}}"#, base64(&key)));
    until(|| lease_of(&server, &key).is_some());
    server.post("/v3/lease/revoke", &format!(r#"{{"ID":"{}"}}"#, etcd.instance_id().0));
    assert_eq!(lease_of(&server, &key), None);
    until(|| lease_of(&server, &key).is_some());
    assert_eq!(lease_of(&server, &key), Some(etcd.instance_id().0.to_string()));
}

/// Stops etcd for `length`, wiping its data or not: nobody disappears, and a newcomer is seen afterwards.
fn outage(length: Duration, wiped: bool) {
    let Some(mut server) = Server::start() else { return };
    let (worker, caller) = (open(&server), open(&server));
    let one = ours(&*worker, "ns.comp.ep");
    let _registration = block_on(worker.endpoints().register(one.clone())).unwrap();
    let (mut watch, mut set) = synced(&*caller, Query::Endpoint(one.endpoint.clone()));
    server.stop();
    assert!(is_quiet(&mut watch, length), "an outage is no news");
    if wiped {
        server.wipe();
    }
    server.resume();
    let back = Instant::now();
    until(|| lease_of(&server, &one.key().full()).is_some());
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    let newcomer = open(&server);
    let two = ours(&*newcomer, "ns.comp.ep");
    let _second = block_on(newcomer.endpoints().register(two.clone())).unwrap();
    assert_eq!(next(&mut watch), Change::Added(two.clone()));
    set.apply(Change::Added(two));
    assert_eq!((set.len(), set.get(&one.key())), (2, Some(&one)));
}

#[test]
fn an_outage_longer_than_the_lease_loses_nobody() {
    outage(Duration::from_secs(6), false);
}

#[test]
fn wiped_data_lose_nobody() {
    outage(Duration::from_secs(3), true);
}

/// Patient enough that nothing but what etcd says makes a watch begin anew.
pub(crate) fn patient() -> Config {
    let mut config = config();
    config.lease.ttl = Duration::from_secs(180);
    config.watch.answer = Duration::from_secs(60);
    config.watch.quiet = Duration::from_secs(60);
    config.etcd.ping = Duration::ZERO;
    config
}

#[test]
fn a_compaction_before_the_watch_is_open_hides_no_newcomer() {
    let Some(server) = Server::start() else { return };
    let worker = open(&server);
    let one = ours(&*worker, "ns.comp.ep");
    let _registration = block_on(worker.endpoints().register(one.clone())).unwrap();
    // What the caller sends after its snapshot, the wish to watch from there on, does not reach etcd for now.
    let hold = Hold::behind(server.url().strip_prefix("etcd:http://").unwrap(), "v1/instances/ns/comp/ep/");
    let caller = registry(&hold.addr().to_string(), patient());
    let (mut watch, _) = synced(&*caller, Query::Endpoint(one.endpoint.clone()));
    until(|| hold.is_holding());
    let newcomer = open(&server);
    let two = ours(&*newcomer, "ns.comp.ep");
    let _second = block_on(newcomer.endpoints().register(two.clone())).unwrap();
    // The newcomer's record is history before the watch begins.
    let put = format!(r#"{{"key":"{}","value":""}}"#, base64("elsewhere"));
    server.post("/v3/kv/put", &put);
    let answer = server.post("/v3/kv/put", &put);
    let revision = answer.split_once("\"revision\":\"").unwrap().1.split('"').next().unwrap();
    let answer = server.post("/v3/kv/compaction", &format!(r#"{{"revision":"{revision}"}}"#));
    assert!(answer.contains("\"header\""), "{answer}");
    assert!(is_quiet(&mut watch, Duration::from_millis(300)), "nothing has come through");
    hold.release();
    assert_eq!(next(&mut watch), Change::Added(two));
}

#[test]
fn a_model_that_somebody_deleted_comes_back_with_its_taints() {
    let Some(server) = Server::start() else { return };
    let etcd = open(&server);
    let mut registration = block_on(etcd.models().register(model(1, "m"))).unwrap();
    let key = Model::full(&registration.record().key());
    let tainted = block_on(registration.update_taints(taints(&["a"]))).unwrap().clone();
    let range = format!(r#"{{"key":"{}"}}"#, base64(&key));
    let answer = server.post("/v3/kv/range", &range);
    block_on(registration.update_taints(taints(&["a"]))).unwrap();
    assert_eq!(mod_revision(&server.post("/v3/kv/range", &range)), mod_revision(&answer), "not written again");
    assert_eq!(lease_of(&server, &key), Some(etcd.instance_id().0.to_string()));
    server.post("/v3/kv/deleterange", &range);
    until(|| server.post("/v3/kv/range", &range).contains(&base64(&tainted.write().unwrap())));
    server.post("/v3/lease/revoke", &format!(r#"{{"ID":"{}"}}"#, etcd.instance_id().0));
    until(|| server.post("/v3/kv/range", &range).contains(&base64(&tainted.write().unwrap())));
}

fn mod_revision(answer: &str) -> String {
    answer.split_once("\"mod_revision\":\"").unwrap().1.split('"').next().unwrap().to_owned()
}

#[test]
fn an_instance_whose_process_is_gone_disappears_with_its_lease() {
    let Some(server) = Server::start() else { return };
    let (worker, caller) = (open(&server), open(&server));
    let one = ours(&*worker, "ns.comp.ep");
    let registration = block_on(worker.endpoints().register(one.clone())).unwrap();
    let (mut watch, _) = synced(&*caller, Query::Endpoint(one.endpoint.clone()));
    drop((registration, worker));
    assert_eq!(next(&mut watch), Change::Removed(one.key()));
}
