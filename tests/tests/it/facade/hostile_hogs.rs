//! Handlers that compute much and wait for nothing: whoever shares their core is served all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};

use crate::facade::child::in_children;
use crate::facade::denied::listen_to_the_log;
use crate::facade::support::{all, connect, drivers, end, on, place, runtime, serve, until, with_mux};

const HOG: &str = "test.hogs.hog";
const ECHO: &str = "test.hogs.echo";
const HOGS: usize = 100;

/// Keeps the processor busy.
fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

async fn hog(_: Request, out: Responder) -> Result<(), Failure> {
    loop {
        compute(Duration::from_micros(300));
        out.send("item").await?;
    }
}

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

/// Begins a call that hogs, and reads it to its end on a task; how it ended.
fn begin(client: &Client, flowing: &Arc<AtomicUsize>) -> tokio::task::JoinHandle<Option<ringplane::CallError>> {
    let (mut call, flowing) = (client.call(CallRequest::new(HOG, "")).unwrap(), flowing.clone());
    tokio::spawn(async move {
        let mut first = true;
        while let Some(item) = call.next().await {
            match item {
                Ok(_) if std::mem::take(&mut first) => _ = flowing.fetch_add(1, Ordering::SeqCst),
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
        None
    })
}

#[test]
fn beside_a_hundred_handlers_that_compute_between_items_others_are_served_and_nobody_falls_silent() {
    const CALLS: usize = 10;
    all(async |driver| {
        let place = place();
        // A worker that does not get to its sockets for that long is taken for dead.
        let config = with_mux(driver, |mux| {
            mux.ping_interval = Duration::from_millis(500);
            mux.ping_timeout = Duration::from_secs(4);
        });
        let builder = Worker::builder().endpoint(HOG, hog).endpoint(ECHO, echo);
        let worker = serve(builder, &place, config.clone()).await;
        let (greedy, healthy) = (connect(&place, config.clone()), connect(&place, config));
        let flowing = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..HOGS).map(|_| begin(&greedy, &flowing)).collect();
        until("all of them have begun", || flowing.load(Ordering::SeqCst) == HOGS).await;
        let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
        for _ in 0..CALLS {
            let asked = Instant::now();
            assert_eq!(healthy.call(CallRequest::new(ECHO, "hello")).unwrap().collect().await.unwrap(), ["hello"]);
            slowest = slowest.max(asked.elapsed());
        }
        println!(
            "measured: {driver:?}: {CALLS} calls beside {HOGS} hogs in {:?}, slowest {slowest:?}",
            begun.elapsed()
        );
        assert!(slowest < Duration::from_secs(4), "{driver:?}: {slowest:?}");
        for client in [&greedy, &healthy] {
            let called = client.snapshot().await.unwrap().called;
            assert_eq!((called.dials, called.faults, called.retries), (1, 0, 0), "{driver:?}: {called:?}");
        }
        for call in calls {
            assert!(!call.is_finished(), "{driver:?}: {:?}", call.await);
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        assert_eq!(healthy.shutdown().await, ringplane::Leftovers::default());
        end(worker, greedy).await;
    });
}

#[test]
fn a_handler_that_holds_its_core_is_named_to_the_operator() {
    in_children(&["io-uring", "tokio", "monoio", "tokio-uring"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        let log = listen_to_the_log();
        runtime().block_on(async {
            let place = place();
            let slow = async |_: Request, out: Responder| {
                compute(Duration::from_millis(120));
                Ok(out.send("late").await?)
            };
            let worker = serve(Worker::builder().endpoint(HOG, slow).endpoint(ECHO, echo), &place, on(driver)).await;
            let client = connect(&place, on(driver));
            for _ in 0..2 {
                assert_eq!(client.call(CallRequest::new(HOG, "")).unwrap().collect().await.unwrap(), ["late"]);
            }
            until("it is told", || log.text().contains("held its core")).await;
            let text = log.text();
            let told: Vec<_> = text.lines().filter(|line| line.contains("held its core")).collect();
            assert_eq!(told.len(), 1, "{text}");
            assert!(told[0].contains("WARN") && told[0].contains("/hog"), "{told:?}");
            end(worker, client).await;
        });
    });
}
