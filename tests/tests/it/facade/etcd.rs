//! Workers and callers that meet in an etcd, and what becomes of their calls when it fails. In builds with the feature `etcd`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringplane::discovery::{Backend, open_with};
use ringplane::{CallRequest, Client, DriverChoice, Failure, Request, Responder, Worker};
use ringplane_core::discovery::config::Config as Knobs;
use ringplane_core::discovery::key::Query;
use ringplane_servers::etcd::Etcd;
use tokio::task::JoinSet;

use crate::facade::killed::{dies_alone, dies_busy, left_alone};
use crate::facade::support::{drivers, end_client, end_worker, on, until, until_worker};

const ECHO: &str = "etcd.outage.echo";
/// How long a registry remembers a worker that does not say that it lives.
const TTL: Duration = Duration::from_secs(5);
/// How soon registrations are there again once etcd is.
const BACK: Duration = Duration::from_secs(5);

fn open(server: &Etcd) -> Arc<dyn Backend> {
    let mut knobs = Knobs::default();
    knobs.lease.ttl = TTL;
    open_with(server.url(), &knobs).unwrap()
}

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    Ok(out.send(body).await?)
}

async fn worker(server: &Etcd, driver: DriverChoice) -> Worker {
    let builder = Worker::builder().endpoint(ECHO, echo).discovery_backend(open(server));
    builder.config(on(driver)).serve().await.unwrap()
}

/// Calls without a pause from four tasks.
struct Load {
    over: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    lanes: JoinSet<()>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let (over, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut lanes = JoinSet::new();
        for _ in 0..4 {
            let (client, over, calls) = (client.clone(), Arc::clone(&over), Arc::clone(&calls));
            lanes.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let answer = client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await;
                    assert_eq!(answer.unwrap(), ["x"]);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { over, calls, lanes }
    }

    /// Every call was answered; how many there were.
    async fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        while let Some(lane) = self.lanes.join_next().await {
            lane.unwrap();
        }
        self.calls.load(Ordering::Relaxed)
    }
}

async fn until_listed(server: &Etcd, count: usize) {
    let (fresh, begun) = (open(server), Instant::now());
    while fresh.endpoints().list(Query::All).await.unwrap().len() != count {
        assert!(begun.elapsed() < 4 * BACK, "not {count} after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn place() -> Option<(Etcd, String)> {
    let server = Etcd::start()?;
    let url = server.url().to_owned();
    Some((server, url))
}

/// Takes etcd away for `length` under load.
fn outage(length: Duration, wiped: bool) {
    let Some(mut server) = Etcd::start() else { return };
    let driver = drivers().next().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, two) = (worker(&server, driver).await, worker(&server, driver).await);
        let client = Client::builder().discovery_backend(open(&server)).config(on(driver)).connect().unwrap();
        let load = Load::start(&client);
        until_listed(&server, 2).await;
        // What a client has never seen it cannot call while there is no etcd.
        until("the load is under way", || load.calls.load(Ordering::Relaxed) > 0).await;
        server.stop();
        tokio::time::sleep(length).await;
        if wiped {
            server.wipe();
        }
        server.resume();
        let back = Instant::now();
        until_listed(&server, 2).await;
        let took = back.elapsed();
        let three = worker(&server, driver).await;
        until_worker("the new worker is called", &three, |snapshot| snapshot.served.admitted > 0).await;
        let calls = load.end().await;
        println!("measured: registrations back after {took:?}; {calls} calls, none failed");
        assert!(took < BACK, "{took:?}");
        end_client(client).await;
        for worker in [one, two, three] {
            end_worker(worker).await;
        }
    });
}

#[test]
fn an_outage_of_three_leases_under_load_fails_no_call() {
    outage(3 * TTL, false);
}

#[test]
fn data_wiped_under_load_fail_no_call() {
    outage(2 * TTL, true);
}

#[test]
fn an_outage_of_two_minutes_under_load_fails_no_call() {
    outage(Duration::from_secs(120), false);
}

#[test]
fn a_worker_killed_with_calls_under_way_is_left_alone_while_its_lease_lives() {
    left_alone(place, dies_busy);
}

#[test]
fn a_killed_worker_is_left_alone_from_the_first_refused_dial_on_while_its_lease_lives() {
    left_alone(place, dies_alone);
}
