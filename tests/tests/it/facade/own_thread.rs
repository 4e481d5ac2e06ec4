//! Workers and clients that go on the very thread they run on: nothing hangs, panics or stays.

use std::net::TcpStream;
use std::sync::{Arc, Barrier, Mutex};

use ringplane::{CallRequest, Client, DriverChoice, Failure, Request, Responder, Worker};

use crate::facade::child::in_children;
use crate::facade::support::{connect, drivers, end_client, on, place, runtime, serve, until};

const RUN: &str = "test.own_thread.run";

/// What a handler is to drop.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn slot<T>() -> Slot<T> {
    Arc::default()
}

fn taken<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().unwrap().take()
}

/// Names of threads of this process that belong to a worker or a client; the runtime that handlers share is the process's.
fn threads() -> Vec<String> {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // One that ends meanwhile has none.
        std::fs::read_to_string(task.unwrap().path().join("comm")).ok()
    });
    names.filter(|name| name.starts_with("ringplane") && name.trim_end() != "ringplane-tokio").collect()
}

/// Calls once; the worker is gone afterwards, port and threads.
async fn calls_once(client: Client, addr: std::net::SocketAddr) {
    let outcome = client.call(CallRequest::new(RUN, "")).unwrap().collect().await;
    assert!(outcome.is_err(), "the worker has left in the middle: {outcome:?}");
    until("nobody listens", || TcpStream::connect(addr).is_err()).await;
    end_client(client).await;
    until("its threads have ended", || threads().is_empty()).await;
}

async fn a_worker_dropped_by_its_handler(driver: DriverChoice, panics: bool) {
    let (place, worker, lent) = (place(), slot::<Worker>(), slot::<Client>());
    let (inside, client) = (worker.clone(), lent.clone());
    let handler = move |_: Request, _: Responder| {
        let (worker, client) = (taken(&inside), taken(&client));
        async move {
            assert!(!panics, "on purpose: {:?}", worker.is_some());
            drop((worker, client));
            std::future::pending::<Result<(), Failure>>().await
        }
    };
    let mut config = on(driver);
    config.cores = 2;
    let served = serve(Worker::builder().endpoint(RUN, handler), &place, config).await;
    let addr = served.addr();
    *lent.lock().unwrap() = Some(served.client().unwrap());
    *worker.lock().unwrap() = Some(served);
    calls_once(connect(&place, on(driver)), addr).await;
}

async fn two_workers_that_drop_each_other(driver: DriverChoice) {
    let (slots, barrier) = ([slot::<Worker>(), slot::<Worker>()], Arc::new(Barrier::new(2)));
    let mut callers = Vec::new();
    for other in [1, 0] {
        let (place, slot, barrier) = (place(), slots[other].clone(), barrier.clone());
        let handler = move |_: Request, _: Responder| {
            let (slot, barrier) = (slot.clone(), barrier.clone());
            async move {
                barrier.wait();
                drop(taken(&slot));
                std::future::pending::<Result<(), Failure>>().await
            }
        };
        let served = serve(Worker::builder().endpoint(RUN, handler), &place, on(driver)).await;
        callers.push((connect(&place, on(driver)), served.addr()));
        *slots[1 - other].lock().unwrap() = Some(served);
    }
    futures::future::join_all(callers.into_iter().map(async |(client, addr)| {
        assert!(client.call(CallRequest::new(RUN, "")).unwrap().collect().await.is_err());
        until("nobody listens", || TcpStream::connect(addr).is_err()).await;
        end_client(client).await;
    }))
    .await;
    until("their threads have ended", || threads().is_empty()).await;
}

#[test]
fn a_worker_or_client_dropped_on_its_own_thread_ends_there_even_while_its_handler_panics() {
    in_children(&["io-uring", "tokio", "monoio", "tokio-uring"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        runtime().block_on(async {
            a_worker_dropped_by_its_handler(driver, false).await;
            a_worker_dropped_by_its_handler(driver, true).await;
            two_workers_that_drop_each_other(driver).await;
        });
    });
}
