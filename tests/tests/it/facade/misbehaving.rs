//! Handlers with a mistake in them: one that panics, one that waits for its own core. The caller and the operator learn which.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringplane::{CallError, CallRequest, Class, Client, Codec, Failure, Request, Responder, Worker};

use crate::facade::child::in_children;
use crate::facade::denied::listen_to_the_log;
use crate::facade::support::{clients, connect, drivers, end, end_client, end_worker};
use crate::facade::support::{on, place, runtime, serve, until, until_worker};

const HERE: &str = "test.misbehaving.here";
const THERE: &str = "test.misbehaving.there";
const STUCK: &str = "test.misbehaving.stuck";

/// Payloads are JSON here: Dynamo's dialect looks at items.
const ITEM: &str = "7";
const BAD: &str = "666";

fn panic_if_bad(body: &[u8]) {
    assert!(body != BAD.as_bytes(), "wanted: \u{1B}[31m{}", "x".repeat(4000));
}

async fn here(mut request: Request, out: Responder) -> Result<(), Failure> {
    let body = request.body().await?;
    out.send(ITEM).await?;
    panic_if_bad(&body);
    Ok(())
}

/// Wanted panics are not printed: a backtrace on a busy machine takes longer than callers wait for an ack.
fn quieten() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.starts_with("wanted")) {
            print(info);
        }
    }));
}

fn json(endpoint: &str, body: &str) -> CallRequest {
    CallRequest::new(endpoint, body.to_owned()).with_codec(Codec::Json)
}

/// What a call that panics ends with, after its item.
async fn told(client: &Client, endpoint: &str) {
    let request = json(endpoint, BAD).with_id(format!("id-of-{endpoint}"));
    let mut call = client.call(request).unwrap();
    assert_eq!(call.next().await, Some(Ok(ITEM.into())));
    let Some(Err(CallError::Failed { class, reason, message })) = call.next().await else {
        panic!("{endpoint}: a panic is no end");
    };
    assert_eq!((class, &*reason), (Class::Internal, "backend.unknown"), "{endpoint}");
    assert!(message.starts_with("the handler panicked: wanted: \\u{1b}[31mxxx"), "{endpoint}: {message}");
    assert!(message.len() < 1200, "{endpoint}: {} bytes", message.len());
}

#[test]
fn the_panic_of_a_handler_is_told_to_its_caller_and_with_endpoint_and_call_to_the_log_and_the_others_go_on() {
    in_children(&["io-uring", "tokio", "monoio", "tokio-uring"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        let log = listen_to_the_log();
        quieten();
        runtime().block_on(async {
            let (place, own) = (place(), tokio::runtime::Handle::current());
            let there = |mut request: Request<_>, out: Responder<_>| async move {
                let body = request.body().await?;
                out.send(ITEM).await?;
                panic_if_bad(&body);
                Ok(())
            };
            let builder = Worker::builder().endpoint(HERE, here).endpoint_on(own, THERE, there);
            let worker = serve(builder, &place, on(driver)).await;
            let clients = clients(&place, driver);
            for endpoint in [HERE, THERE] {
                for client in &clients {
                    told(client, endpoint).await;
                    let good = client.call(json(endpoint, "1")).unwrap();
                    assert_eq!(good.collect().await.unwrap(), [ITEM]);
                }
            }
            until_worker("each is counted", &worker, |snapshot| snapshot.driver.panics == 2 * clients.len() as u64)
                .await;
            let text = log.text();
            let told: Vec<_> = text.lines().filter(|line| line.contains("a handler panicked")).collect();
            assert_eq!(told.len(), 2 * clients.len(), "{text}");
            for (endpoint, path) in [(HERE, "/here"), (THERE, "/there")] {
                let id = format!("id-of-{endpoint}");
                let named = |line: &&&str| ["ERROR", path, &id, "wanted"].iter().all(|part| line.contains(part));
                assert_eq!(told.iter().filter(named).count(), clients.len(), "{text}");
            }
            assert!(!text.contains("a task panicked"), "told twice: {text}");
            for client in clients {
                end_client(client).await;
            }
            end_worker(worker).await;
        });
    });
}

#[test]
fn a_handler_that_blocks_its_core_is_named_to_the_operator_while_it_does_and_once() {
    in_children(&["io-uring", "tokio"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        let log = listen_to_the_log();
        runtime().block_on(async {
            let (place, free) = (place(), Arc::new(AtomicBool::new(false)));
            let freed = free.clone();
            let stuck = move |_: Request, out: Responder| {
                let freed = freed.clone();
                async move {
                    let begun = Instant::now();
                    while !freed.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(20) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Ok(out.send("late").await?)
                }
            };
            let worker = serve(Worker::builder().endpoint(STUCK, stuck), &place, on(driver)).await;
            let client = connect(&place, on(driver));
            let call = client.call(CallRequest::new(STUCK, "")).unwrap();
            until("it is told while it lasts", || log.text().contains("has blocked its core")).await;
            free.store(true, Ordering::SeqCst);
            assert_eq!(call.collect().await.unwrap(), ["late"]);
            // Its end has passed once the next one has been served, and was no news.
            let next = client.call(CallRequest::new(STUCK, "")).unwrap();
            assert_eq!(next.collect().await.unwrap(), ["late"]);
            end(worker, client).await;
            let text = log.text();
            let told: Vec<_> = text.lines().filter(|line| line.contains("/stuck")).collect();
            assert!(told.len() == 1 && told[0].contains("WARN"), "{text}");
        });
    });
}
