//! A worker process killed with SIGKILL: its record outlives it, and callers must not mind.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ringplane::{
    CallError, CallRequest, Client, Config, DriverChoice, Failure, Request, Responder, Worker, WorkerBuilder, discovery,
};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::wire::mux::VERSION;

use crate::facade::child::{command, role};
use crate::facade::support::{both, connect, end, end_client, end_worker, on, place, runtime, serve, until_client};

const WHO: &str = "test.killed.who";
const READY: &str = "the worker serves";
/// Calls made one after the other once the process is gone: far more than tries at the dead address may be.
const AFTER: usize = 300;
/// Tries at the dead address: the first, and one at the end of each mark of 1, 2, 4 and 8 s before its record expires.
const DIALS: u64 = 5;

/// Answers with the process that answers.
async fn who(_: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(std::process::id().to_string()).await?)
}

/// Serves until the parent is gone.
pub(crate) fn serve_in_child(url: &str) {
    serve_until_the_parent_is_gone(Worker::builder().endpoint(WHO, who), url);
}

fn serve_until_the_parent_is_gone(builder: WorkerBuilder, url: &str) {
    runtime().block_on(async {
        let worker = serve(builder, url, on(DriverChoice::Tokio)).await;
        println!("{READY}");
        let _ = std::io::stdin().read(&mut [0]);
        drop(worker);
    });
}

/// A child process that is killed with its owner.
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn spawn(name: &str, url: &str) -> Killed {
    let child = command(&[], name, url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.unwrap());
    let out = BufReader::new(child.0.stdout.take().unwrap());
    assert!(out.lines().any(|line| line.unwrap().contains(READY)), "the child ended before it served");
    child
}

pub(crate) async fn ask(client: &Client, idempotent: bool) -> Result<String, CallError> {
    let request = CallRequest::new(WHO, "");
    let request = if idempotent { request.idempotent() } else { request };
    let items = client.call(request).unwrap().collect().await?;
    Ok(items.iter().map(|item| String::from_utf8_lossy(item)).collect())
}

/// What has been killed, who is left, and who calls: both workers have answered.
struct Scene {
    child: Killed,
    worker: Worker,
    client: Client,
}

impl Scene {
    async fn new(url: &str, config: Config) -> Self {
        let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
        let child = spawn(&name, url);
        let worker = serve(Worker::builder().endpoint(WHO, who), url, config.clone()).await;
        let client = connect(url, config);
        let mut answered = BTreeSet::new();
        while answered.len() < 2 {
            answered.insert(ask(&client, true).await.unwrap());
            tokio::task::yield_now().await;
        }
        Self { child, worker, client }
    }

    /// Calls go on to the worker that is left, which costs few dials, while the other's record is still there.
    async fn goes_on(self, url: &str, before: u64, most: u64) {
        let (begun, ours) = (Instant::now(), std::process::id().to_string());
        for _ in 0..AFTER {
            // Nothing of them has reached the worker that is gone, so each may be tried elsewhere.
            assert_eq!(ask(&self.client, false).await.unwrap(), ours);
        }
        let listed = discovery::open(url).unwrap().endpoints().list(Query::All).await.unwrap().len();
        let dials = self.client.snapshot().await.unwrap().called.dials - before;
        println!("measured: {:?}, {dials} dials, {listed} records", begun.elapsed());
        assert_eq!(listed, 2, "its record has expired, so this has shown nothing");
        assert!(dials <= most, "{dials} dials");
        end(self.worker, self.client).await;
    }
}

/// A worker dies with calls under way.
pub(crate) async fn dies_busy(url: &str, driver: DriverChoice) {
    let mut scene = Scene::new(url, on(driver)).await;
    let before = scene.client.snapshot().await.unwrap().called.dials;
    let call = || scene.client.call(CallRequest::new(WHO, "").idempotent()).unwrap();
    let under_way: Vec<_> = (0..100).map(|_| call()).collect();
    scene.child.kill();
    for call in under_way {
        if let Err(error) = call.collect().await {
            // Only what it had already taken may fail.
            assert!(matches!(error, CallError::Disconnected { delivered: true, .. }), "{error:?}");
        }
    }
    scene.goes_on(url, before, DIALS).await;
}

/// A worker dies that nobody is connected to: its address refuses the next dial.
pub(crate) async fn dies_alone(url: &str, driver: DriverChoice) {
    let mut config = on(driver);
    config.caller.idle_timeout = Duration::from_millis(300);
    let mut scene = Scene::new(url, config).await;
    until_client("no connection is left", &scene.client, |snapshot| snapshot.caller.connections == 0).await;
    let before = scene.client.snapshot().await.unwrap().called.dials;
    scene.child.kill();
    // One more for the worker that is left, and some if this machine stands still for as long as a connection lives.
    scene.goes_on(url, before, DIALS + 10).await;
}

/// The test of that, in the child the worker that will be killed. Each driver has a place of its own: the records of the
/// dead outlive them.
pub(crate) fn left_alone<P>(place: impl Fn() -> Option<(P, String)>, scenario: impl AsyncFn(&str, DriverChoice)) {
    if let Some(url) = role() {
        return serve_in_child(&url);
    }
    both(async |driver| {
        if let Some((_place, url)) = place() {
            scenario(&url, driver).await;
        }
    });
}

pub(crate) fn directory() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file:{}", directory.path().display());
    (directory, url)
}

/// An address with a free port at a loopback address that no other test uses: the port stays free between two workers.
fn address(host: &str) -> SocketAddr {
    std::net::TcpListener::bind((host, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn calls_find_a_worker_that_begins_at_the_address_of_an_old_record() {
    both(async |driver| {
        let place = place();
        let addr = address("127.0.7.2");
        let mut record = Instance::new(InstanceId(7), EndpointId::parse(WHO).unwrap(), addr);
        record.mux = Some(VERSION);
        let _left_behind = discovery::open(&place).unwrap().endpoints().register(record).await.unwrap();
        let mut config = on(driver);
        config.caller.instance_timeout = Duration::from_secs(40);
        let client = connect(&place, config);
        for _ in 0..10 {
            // Begins while nobody listens there, or somebody who is not the one that the record means.
            let builder = Worker::builder().listen(addr).endpoint(WHO, who);
            let (worker, answer) = tokio::join!(serve(builder, &place, on(driver)), ask(&client, true));
            assert_eq!(answer.unwrap(), std::process::id().to_string());
            end_worker(worker).await;
        }
        end_client(client).await;
    });
}

#[test]
fn calls_wait_while_the_only_worker_is_killed_and_starts_again_at_its_address() {
    if let Some(role) = role() {
        let (addr, url) = role.split_once(' ').unwrap();
        let builder = Worker::builder().endpoint(WHO, who).listen(addr.parse().unwrap());
        return serve_until_the_parent_is_gone(builder, url);
    }
    let name = std::thread::current().name().expect("tests run on threads named after them").to_owned();
    both(async |driver| {
        let (_place, url) = directory();
        let addr = address("127.0.7.1");
        let role = format!("{addr} {url}");
        let mut child = spawn(&name, &role);
        let mut config = on(driver);
        // A process may take a while to start on a busy machine.
        config.caller.instance_timeout = Duration::from_secs(40);
        let client = connect(&url, config);
        assert_eq!(ask(&client, false).await.unwrap(), child.0.id().to_string());
        child.kill();
        let waiting: Vec<_> = (0..10).map(|_| client.call(CallRequest::new(WHO, "").idempotent()).unwrap()).collect();
        until_client("every call has used its tries", &client, |snapshot| snapshot.called.retries >= 20).await;
        let child = spawn(&name, &role);
        for call in waiting {
            assert_eq!(call.collect().await.unwrap(), [child.0.id().to_string()]);
        }
        end_client(client).await;
    });
}

#[test]
fn a_worker_killed_with_calls_under_way_is_left_alone_while_its_record_is_still_there() {
    left_alone(|| Some(directory()), dies_busy);
}

#[test]
fn a_killed_worker_is_left_alone_from_the_first_refused_dial_on() {
    left_alone(|| Some(directory()), dies_alone);
}
