//! Endpoints of clients that come and go with their use: what is kept of them, and that they are found again.

use std::time::{Duration, Instant};

use ringplane_core::caller::error::CallError;
use ringplane_tokio::random::random_u64;

use crate::client::client::Client;
use crate::client::request::CallRequest;
use crate::error::Error;
use crate::handler::request::{Request, Responder};
use crate::runtime::config::{Config, DriverChoice};
use crate::worker::worker::Worker;

async fn until_kept(client: &Client, expected: usize) {
    let begun = Instant::now();
    while client.kept().await != [expected; 3] {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?} are kept", client.kept().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn endpoints_that_nobody_uses_any_more_are_let_go_and_found_again() {
    let place = format!("mem:{}", random_u64());
    let echo = |mut request: Request, out: Responder| async move {
        while let Some(item) = request.next().await? {
            out.send(item).await?;
        }
        Ok(())
    };
    let worker = Worker::builder().endpoint("a.b.held", echo).endpoint("a.b.open", echo).endpoint("a.b.c", echo);
    let worker = worker.discovery(&place).serve().await.unwrap();
    let config = Config {
        driver: DriverChoice::Tokio,
        endpoint_idle: Duration::from_millis(20),
        max_endpoints: 3003,
        ..Config::default()
    };
    let client = Client::builder().discovery(&place).config(config).connect().unwrap();
    let held = client.endpoint("a.b.held").unwrap();
    let mut open = client.call(CallRequest::streaming("a.b.open")).unwrap();
    open.send("x").await.unwrap();
    assert_eq!(open.next().await.unwrap().unwrap(), "x");
    let many: Vec<_> = (0..3000).map(|n| client.endpoint(&format!("a.b.new{n}")).unwrap()).collect();
    assert_eq!(client.call(CallRequest::new("a.b.c", "y")).unwrap().collect().await.unwrap(), ["y"]);
    drop(many);
    until_kept(&client, 2).await;
    // A call under way keeps its endpoint, and so does a handle.
    open.send("z").await.unwrap();
    open.finish();
    assert_eq!(open.collect().await.unwrap(), ["z"]);
    until_kept(&client, 1).await;
    assert_eq!(held.call(CallRequest::new("a.b.held", "1")).unwrap().collect().await.unwrap(), ["1"]);
    assert_eq!(client.call(CallRequest::new("a.b.c", "2")).unwrap().collect().await.unwrap(), ["2"]);
    drop(held);
    until_kept(&client, 0).await;
    client.shutdown().await;
    worker.shutdown().await;
}

#[tokio::test]
async fn one_endpoint_more_than_may_be_kept_is_refused_for_want_of_room() {
    let config = Config { driver: DriverChoice::Tokio, max_endpoints: 2, ..Config::default() };
    let client = Client::builder().discovery(format!("mem:{}", random_u64())).config(config).connect().unwrap();
    let _kept = ["a.b.c", "a.b.d"].map(|name| client.endpoint(name).unwrap());
    let refused = client.endpoint("a.b.e").map(drop);
    assert!(matches!(refused, Err(Error::Call(CallError::Overloaded))), "{refused:?}");
    assert!(client.endpoint("a.b.c").is_ok(), "one that is kept already needs no room");
    client.shutdown().await;
}
