//! Work in the background: it ends with its worker or client, and a panic in it is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringplane_core::discovery::kind::Kind;
use ringplane_core::id::InstanceId;
use ringplane_tokio::discovery::{Backend, BoxFuture, Counters, Error, Place, Registration, Watch, random_instance_id};
use ringplane_tokio::random::random_u64;

use crate::client::client::Client;
use crate::client::request::CallRequest;
use crate::handler::request::{Request, Responder};
use crate::runtime::config::{Config, DriverChoice};
use crate::runtime::snapshot::Snapshot;
use crate::worker::worker::Worker;

fn config() -> Config {
    Config { driver: DriverChoice::Tokio, ..Config::default() }
}

async fn until(client: &Client, what: &str, holds: impl Fn(&Snapshot) -> bool) {
    let begun = Instant::now();
    while !holds(&client.snapshot().await.unwrap()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn after_a_shutdown_nothing_of_a_worker_or_a_client_is_left_in_the_background() {
    let place = format!("mem:{}", random_u64());
    let echo = |mut request: Request, out: Responder| async move { Ok(out.send(request.body().await?).await?) };
    let mut config = config();
    config.worker.canary.enabled = true;
    let worker = Worker::builder().endpoint("a.b.c", echo).canary("a.b.c", "x").config(config.clone());
    let worker = worker.discovery(&place).serve().await.unwrap();
    let client = Client::builder().discovery(&place).config(config).connect().unwrap();
    let lent = worker.client().unwrap();
    for client in [&client, &lent] {
        assert_eq!(client.call(CallRequest::new("a.b.c", "y")).unwrap().collect().await.unwrap(), ["y"]);
    }
    let (serving, calling) = (worker.cores.group().clone(), client.group().clone());
    // The look at the threads, the watcher and its watch; with a canary the worker, whose client is lent.
    assert_eq!(calling.upkeep().stats().pending(), 3);
    assert_eq!(serving.upkeep().stats().pending(), 4);
    lent.shutdown().await;
    assert_eq!(serving.upkeep().stats().pending(), 2, "what the client watched");
    client.shutdown().await;
    worker.shutdown().await;
    for group in [serving, calling] {
        let stats = group.upkeep().stats();
        assert_eq!((stats.pending(), stats.active(), stats.panicked), (0, 0, 0), "{stats:?}");
    }
}

/// A place for discovery with a defect.
#[derive(Debug)]
struct Defective(InstanceId);

impl Backend for Defective {
    fn instance_id(&self) -> InstanceId {
        self.0
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl<R: Kind> Place<R> for Defective {
    fn claim(&self, _: R) -> BoxFuture<'_, Result<Registration<R>, Error>> {
        Box::pin(std::future::pending())
    }

    fn list(&self, _: R::Query) -> BoxFuture<'_, Result<Vec<R>, Error>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn watch(&self, _: R::Query) -> BoxFuture<'_, Result<Watch<R>, Error>> {
        Box::pin(async { panic!("a defect") })
    }
}

#[tokio::test]
async fn a_panic_in_the_background_is_counted_and_ends_nothing_else() {
    let defective = Arc::new(Defective(random_instance_id()));
    let client = Client::builder().discovery_backend(defective).config(config()).connect().unwrap();
    let group = client.group().clone();
    let _endpoints = ["a.b.c", "a.b.d"].map(|name| client.endpoint(name).unwrap());
    until(&client, "both watches have panicked", |all| all.background.panicked == 2).await;
    assert_eq!(group.upkeep().stats().pending(), 2, "the watcher and the look at the threads go on");
    client.shutdown().await;
    let stats = group.upkeep().stats();
    assert_eq!((stats.pending(), stats.panicked), (0, 2), "{stats:?}");
}
