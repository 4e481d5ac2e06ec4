//! Whatever happened, nothing is left behind: no task, no connection, no descriptor.

use std::net::TcpStream;
use std::time::Duration;

use ringplane::{CallRequest, Client, DriverChoice, Leftovers, Request, Responder, Worker};

use crate::facade::child::in_children;
use crate::facade::proxy::{Proxy, Way};
use crate::facade::support::{
    connect, drivers, end, end_client, end_worker, on, place, runtime, serve, until, with_mux,
};

const RUN: &str = "test.leftovers.run";

async fn endless(_: Request, out: Responder) -> Result<(), ringplane::Failure> {
    loop {
        out.send("item").await?;
    }
}

async fn pair(driver: DriverChoice) -> (Worker, Client) {
    let (place, builder) = (place(), Worker::builder().endpoint(RUN, endless));
    (serve(builder, &place, on(driver)).await, connect(&place, on(driver)))
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn calls_dropped_in_full_flow(driver: DriverChoice) {
    let (worker, client) = pair(driver).await;
    for _ in 0..20 {
        let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
        call.next().await.unwrap().unwrap();
    }
    end(worker, client).await;
}

async fn a_worker_that_leaves_first(driver: DriverChoice) {
    let (place, builder) = (place(), Worker::builder().endpoint(RUN, endless));
    let mut config = on(driver);
    config.worker.drain_timeout = Duration::from_millis(100);
    let (worker, client) = (serve(builder, &place, config).await, connect(&place, on(driver)));
    let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
    call.next().await.unwrap().unwrap();
    assert_eq!(worker.shutdown().await, Leftovers::default());
    assert!(call.collect().await.is_err(), "the worker left in the middle");
    end_client(client).await;
}

async fn both_dropped_with_calls_under_way(driver: DriverChoice) {
    let (worker, client) = pair(driver).await;
    let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
    call.next().await.unwrap().unwrap();
    drop(worker);
    drop(client);
    // What was cut off does not look complete.
    call.collect().await.unwrap_err();
}

async fn a_path_cut_and_one_that_swallows_everything(driver: DriverChoice) {
    let config = with_mux(driver, |mux| {
        mux.ping_interval = Duration::from_millis(200);
        mux.ping_timeout = Duration::from_secs(2);
    });
    for cut in [true, false] {
        let (there, here) = (place(), place());
        let worker = serve(Worker::builder().endpoint(RUN, endless), &there, config.clone()).await;
        let proxy = Proxy::new(&worker, None);
        let _registered = proxy.advertise(&worker, RUN, &here).await;
        let client = connect(&here, config.clone());
        let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
        call.next().await.unwrap().unwrap();
        if cut {
            proxy.cut();
        } else {
            proxy.hold(Way::Up);
            proxy.hold(Way::Down);
        }
        call.collect().await.unwrap_err();
        end_client(client).await;
        end_worker(worker).await;
    }
}

async fn strangers_that_come_and_go(driver: DriverChoice) {
    let (worker, client) = pair(driver).await;
    let strangers: Vec<_> = (0..50).map(|_| TcpStream::connect(worker.addr()).unwrap()).collect();
    let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
    call.next().await.unwrap().unwrap();
    drop((strangers, call));
    end(worker, client).await;
}

#[test]
fn after_every_scenario_nothing_is_left_and_the_descriptors_are_as_many_as_before() {
    in_children(&["io-uring", "tokio", "monoio", "tokio-uring"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        runtime().block_on(async {
            // What a process opens once stays open.
            calls_dropped_in_full_flow(driver).await;
            let mut before = descriptors();
            macro_rules! leaves_nothing {
                ($($scenario:ident),*) => {$(
                    $scenario(driver).await;
                    until(stringify!($scenario), || {
                        // The thread of a watch ends by itself: some of its descriptors may have been counted.
                        let now = descriptors();
                        before = before.min(now);
                        now == before
                    }).await;
                )*};
            }
            leaves_nothing!(
                calls_dropped_in_full_flow,
                a_worker_that_leaves_first,
                both_dropped_with_calls_under_way,
                a_path_cut_and_one_that_swallows_everything,
                strangers_that_come_and_go
            );
            println!("measured: {driver:?}: {before} descriptors before and after every scenario");
        });
    });
}
