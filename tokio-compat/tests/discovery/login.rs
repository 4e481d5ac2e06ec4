//! An etcd with users: logins that it forgets, refuses or waits for, and other answers that are not the ones hoped for.

use std::time::{Duration, Instant};

use ringplane_core::discovery::config::Config;
use ringplane_core::discovery::key::Query;
use ringplane_core::discovery::set::Change;
use ringplane_servers::etcd::Etcd as Server;
use ringplane_tokio::discovery::Error;

use crate::etcd::{base64, ours, patient, synced};
use crate::hold::Hold;
use crate::support::{block_on, instance, log, next, registry, until};

/// Patient, for a login takes etcd much work on purpose, but with a look at its records every half second.
fn config() -> Config {
    let mut config = patient();
    config.lease.answer = Duration::from_secs(60);
    config.lease.check = Duration::from_millis(500);
    config.etcd.startup = Duration::from_secs(50);
    config
}

/// As this user, whose password is the name.
fn as_user(user: &str, config: Config) -> Config {
    let mut config = config;
    config.etcd.user = Some((user.to_owned(), user.to_owned()));
    config
}

fn address(server: &Server) -> String {
    server.url().strip_prefix("etcd:").unwrap().to_owned()
}

/// Users and a role for all records there may be, of this name.
fn protect(server: &Server, role: &str) {
    server.protect(role, &base64("v1/"), &base64("v10"));
}

/// A worker and a watch go on after etcd has forgotten their logins by `forget`.
fn logins_come_back(server: &Server, user: &str, forget: impl FnOnce()) {
    let (worker, newcomer) = (address(server), address(server));
    let worker = registry(&worker, as_user(user, config()));
    let one = ours(&*worker, "ns.comp.ep");
    let registration = block_on(worker.endpoints().register(one.clone())).unwrap();
    let proxy = Hold::nothing(server.url().strip_prefix("etcd:http://").unwrap());
    let caller = registry(&proxy.addr().to_string(), as_user(user, config()));
    let (mut watch, _) = synced(&*caller, Query::Endpoint(one.endpoint.clone()));
    forget();
    proxy.cut();
    let newcomer = registry(&newcomer, as_user(user, config()));
    let two = ours(&*newcomer, "ns.comp.ep");
    let _second = block_on(newcomer.endpoints().register(two.clone())).unwrap();
    assert_eq!(next(&mut watch), Change::Added(two));
    let key = format!(r#"{{"key":"{}"}}"#, base64(&one.key().full()));
    server.post_as_root("/v3/kv/deleterange", &key);
    until(|| server.post_as_root("/v3/kv/range", &key).contains("\"kvs\""));
    drop(registration);
    until(|| !server.post_as_root("/v3/kv/range", &key).contains("\"kvs\""));
}

#[test]
fn a_login_that_etcd_has_forgotten_is_made_again_by_worker_and_watch() {
    let Some(server) = Server::start() else { return };
    protect(&server, "forgotten");
    logins_come_back(&server, "forgotten", || server.forget_logins());
}

#[test]
fn a_login_that_runs_out_is_made_again_by_worker_and_watch() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "of this test").unwrap();
    let token = format!("jwt,priv-key={},sign-method=HS256,ttl=2s", secret.display());
    let Some(server) = Server::start_with(&["--auth-token", &token]) else { return };
    protect(&server, "expiring");
    logins_come_back(&server, "expiring", || {
        // One that was made later has run out: so have the others, which use does not renew.
        let probe = server.log_in("expiring");
        let range = format!(r#"{{"key":"{}"}}"#, base64("v1/instances/x"));
        until(|| server.post_as(&probe, "/v3/kv/range", &range).contains("invalid auth token"));
    });
}

#[test]
fn a_login_waits_for_an_etcd_that_is_not_there_yet() {
    let log = log();
    let Some(mut server) = Server::start() else { return };
    protect(&server, "early");
    server.stop();
    let worker = registry(&address(&server), as_user("early", config()));
    let one = ours(&*worker, "ns.comp.early");
    let registration = std::thread::scope(|scope| {
        let registering = scope.spawn(|| block_on(worker.endpoints().register(one.clone())));
        until(|| !log.warnings(&[&address(&server), "Connection refused"]).is_empty());
        server.resume();
        registering.join().unwrap()
    });
    let _registration = registration.unwrap();
    assert_eq!(block_on(worker.endpoints().list(Query::All)).unwrap(), [one]);
    assert_eq!(log.warnings(&[&address(&server)]).len(), 1, "told once");
}

#[test]
fn whoever_may_not_is_told_so_at_once_and_why() {
    let Some(server) = Server::start() else { return };
    protect(&server, "rightful");
    // So long that only an end at once is seen.
    let mut endless = config();
    endless.etcd.startup = Duration::from_secs(3600);
    let mut wrong = as_user("rightful", endless.clone());
    wrong.etcd.user = Some(("rightful".to_owned(), "wrong".to_owned()));
    let cases = [
        (endless.clone(), "user name is empty: it wants a login (ETCD_AUTH_USERNAME and ETCD_AUTH_PASSWORD)"),
        (as_user("nobody", endless.clone()), "permission denied (user `nobody`)"),
        (wrong, "authentication failed, invalid user ID or password (user `rightful`)"),
    ];
    for (config, why) in cases {
        let etcd = registry(&address(&server), config);
        let one = ours(&*etcd, "ns.comp.ep");
        let refusals = [
            block_on(etcd.endpoints().register(one.clone())).map(drop),
            block_on(etcd.endpoints().watch(Query::All)).map(drop),
            block_on(etcd.endpoints().list(Query::All)).map(drop),
            // Nothing is left of the first try.
            block_on(etcd.endpoints().register(one)).map(drop),
        ];
        for refusal in refusals {
            let error = refusal.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Refused { .. }) && text.ends_with(why), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }
    let etcd = registry(&address(&server), as_user("rightful", endless));
    let _registration = block_on(etcd.endpoints().register(ours(&*etcd, "ns.comp.ep"))).unwrap();
}

#[test]
fn an_etcd_without_room_is_told_once_and_named_when_the_time_is_up() {
    const FULL: &str = "etcdserver: mvcc: database space exceeded";
    let log = log();
    let Some(server) = Server::start_with(&["--quota-backend-bytes", "200000"]) else { return };
    let put = format!(r#"{{"key":"{}","value":"{}"}}"#, base64("x"), base64(&"x".repeat(60_000)));
    until(|| server.post("/v3/kv/put", &put).contains("exceeded"));
    let mut short = config();
    short.etcd.startup = Duration::from_secs(5);
    let etcd = registry(&address(&server), short);
    let begun = Instant::now();
    let error = block_on(etcd.endpoints().register(instance("ns.comp.ep", 1))).unwrap_err().to_string();
    assert_eq!(error, format!("cannot write to the registry: out of time: {FULL}"));
    assert!(begun.elapsed() >= Duration::from_secs(5), "room may be made");
    assert_eq!(log.warnings(&[FULL]).len(), 1);
}

#[test]
fn an_etcd_that_is_down_is_one_line_with_its_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let mut short = config();
    short.etcd.startup = Duration::from_secs(2);
    let etcd = registry(&format!("http://user:secret@{addr}"), short);
    let why = format!("{addr}: Connection refused (os error 111)");
    let error = block_on(etcd.endpoints().list(Query::All)).unwrap_err().to_string();
    assert_eq!(error, format!("cannot read the registry: {why}"));
    let error = block_on(etcd.endpoints().watch(Query::All)).map(drop).unwrap_err().to_string();
    assert_eq!(error, format!("cannot watch the registry: out of time: {why}"));
    let error = block_on(etcd.endpoints().register(instance("ns.comp.ep", 1))).unwrap_err().to_string();
    assert_eq!(error, format!("cannot write to the registry: out of time: {why}"));
}
