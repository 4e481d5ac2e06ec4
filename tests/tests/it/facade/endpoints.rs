//! Endpoints that are asked for once: what their calls find, and that nobody who asks or calls is held up.

use std::sync::{Arc, Mutex, mpsc};

use futures::FutureExt;
use ringplane::{Call, CallError, CallRequest, Client, Endpoint, Error, Failure, Request, Responder, Worker};

use crate::facade::support::{both, connect, end, end_worker, on, place, serve, until_client};

const ECHO: &str = "test.endpoints.echo";
const OUTER: &str = "test.endpoints.outer";
const BLOCK: &str = "test.endpoints.block";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

#[test]
fn an_endpoint_takes_every_request_until_its_client_is_shut_down() {
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        assert!(matches!(client.endpoint("no endpoint"), Err(Error::Name(_))));
        let endpoint = client.endpoint(ECHO).unwrap();
        for request in [CallRequest::item("x"), CallRequest::new("another.name.here", "x")] {
            assert_eq!(endpoint.call(request).unwrap().collect().await.unwrap(), ["x"]);
        }
        let mut call = endpoint.call(CallRequest::items()).unwrap();
        call.send("streamed").await.unwrap();
        call.finish();
        assert_eq!(call.collect().await.unwrap(), ["streamed"]);
        assert!(endpoint.local().is_none(), "this is none of the client's threads");
        end(worker, client).await;
        assert!(matches!(endpoint.call(CallRequest::item("x")), Err(Error::Stopped)));
    });
}

#[test]
fn a_handler_calls_an_endpoint_on_its_own_core_and_an_overload_behind_it_stays_one() {
    both(async |driver| {
        let place = place();
        let behind: Arc<Mutex<Option<Endpoint>>> = Arc::default();
        let outer = {
            let behind = behind.clone();
            move |mut request: Request, out: Responder| {
                let local = behind.lock().unwrap().as_ref().and_then(Endpoint::local);
                async move {
                    let local = local.ok_or_else(|| Failure::internal("not on the client's thread"))?;
                    let mut call = local.call(CallRequest::item(request.body().await?))?;
                    while let Some(item) = call.next().await {
                        out.send(item?).await?;
                    }
                    Ok(())
                }
            }
        };
        // One call at a time and none that waits: the one behind the outer one finds no room.
        let mut config = on(driver);
        let builder = Worker::builder().endpoint(ECHO, echo).endpoint(OUTER, outer);
        config.worker.max_running = 1;
        config.worker.max_queued = 0;
        config.caller.backoff.attempts = 1;
        let worker = serve(builder, &place, config).await;
        let own = worker.client().unwrap();
        *behind.lock().unwrap() = Some(own.endpoint(ECHO).unwrap());
        let client = connect(&place, on(driver));
        let failed = client.call(CallRequest::new(OUTER, "x")).unwrap().collect().await.unwrap_err();
        let CallError::Failed { class, reason, .. } = &failed else { panic!("{failed:?}") };
        assert_eq!((*class, &**reason), (ringplane::Class::CapacityExhausted, "capacity.worker_overloaded"));
        *behind.lock().unwrap() = None;
        drop(own);
        end(worker, client).await;
    });
}

#[test]
fn asking_for_an_endpoint_and_for_a_snapshot_holds_nobody_up_while_a_core_does_not_listen() {
    both(async |driver| {
        let place = place();
        let (entered, inside) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let left = Arc::new(Mutex::new(left));
        // Blocks its core, which a handler must not do.
        let block = move |_request: Request, _out: Responder| {
            let (entered, left) = (entered.clone(), left.clone());
            async move {
                entered.send(()).unwrap();
                left.lock().unwrap().recv().unwrap();
                Ok(())
            }
        };
        let worker = serve(Worker::builder().endpoint(ECHO, echo).endpoint(BLOCK, block), &place, on(driver)).await;
        let client = worker.client().unwrap();
        let blocked = client.call(CallRequest::new(BLOCK, "")).unwrap();
        tokio::task::spawn_blocking(move || inside.recv().unwrap()).await.unwrap();

        let waiting = fill(&client);
        assert!(!waiting.is_empty(), "the mailbox takes calls");
        // Each of these needs a word with the core, and none waits for it here.
        let fresh = client.endpoint("test.endpoints.fresh").expect("the endpoint is watched all the same");
        let refused = fresh.call(CallRequest::item("x")).unwrap().collect().now_or_never();
        assert_eq!(refused, Some(Err(CallError::Overloaded)));
        let mut snapshot = Box::pin(worker.snapshot());
        assert!(snapshot.as_mut().now_or_never().is_none(), "the core answered");

        leave.send(()).unwrap();
        assert_eq!(blocked.collect().await, Ok(Vec::new()));
        drop(waiting);
        assert!(snapshot.await.is_ok());
        end_worker(worker).await;
    });
}

/// Calls until the core's mailbox is full.
fn fill(client: &Client) -> Vec<Call> {
    let endpoint = client.endpoint(ECHO).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..1 << 20 {
        let mut call = endpoint.call(CallRequest::item("x")).unwrap();
        match call.next().now_or_never() {
            None => waiting.push(call),
            Some(outcome) => {
                assert_eq!(outcome, Some(Err(CallError::Overloaded)));
                return waiting;
            }
        }
    }
    panic!("the mailbox has no bound")
}

#[test]
fn a_snapshot_says_what_discovery_has_counted() {
    both(async |driver| {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().display());
        let worker = serve(Worker::builder().endpoint(ECHO, echo).endpoint(BLOCK, echo), &url, on(driver)).await;
        assert_eq!(worker.snapshot().await.unwrap().registered.writes, 2);
        let client = connect(&url, on(driver));
        assert_eq!(client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await.unwrap(), ["x"]);
        until_client("the directory is read", &client, |snapshot| snapshot.discovered.snapshots > 0).await;
        assert_eq!(client.snapshot().await.unwrap().registered.writes, 0);
        end(worker, client).await;
    });
}
