//! Whose threads a client runs on, and what its end means to others.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, Weak};

use ringplane::{CallError, CallRequest, Client, Error, Failure, Leftovers, Request, Responder, Worker};

use crate::facade::support::{all, connect, end_client, end_worker, on, place, runtime, serve, until};

const ECHO: &str = "test.lent.echo";
const OUTER: &str = "test.lent.outer";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

/// A client that a handler finds once there is one.
type Itself = Arc<Mutex<Option<Client>>>;

/// A handler that calls on through `itself`, on its own core.
fn outer(itself: &Itself) -> impl ringplane::Handler {
    let itself = itself.clone();
    move |mut request: Request, out: Responder| {
        let itself = itself.clone();
        async move {
            let local = itself.lock().unwrap().as_ref().and_then(Client::local);
            let local = local.ok_or_else(|| Failure::internal("not on the client's thread"))?;
            let mut call = local.call(CallRequest::new(ECHO, request.body().await?)).map_err(Failure::internal)?;
            while let Some(item) = call.next().await {
                out.send(item.map_err(Failure::internal)?).await?;
            }
            Ok(())
        }
    }
}

fn is_refused_for_good(client: &Client) {
    for request in [CallRequest::new(ECHO, "late"), CallRequest::streaming(ECHO), CallRequest::new("a.b.new", "late")] {
        assert!(matches!(client.call(request), Err(Error::Stopped)));
    }
}

#[test]
fn the_end_of_a_workers_own_client_ends_nothing_of_the_workers() {
    all(async |driver| {
        let place = place();
        let itself = Itself::default();
        let builder = Worker::builder().endpoint(ECHO, echo).endpoint(OUTER, outer(&itself));
        let worker = serve(builder, &place, on(driver)).await;
        let (own, other, outside) = (worker.client().unwrap(), worker.client().unwrap(), connect(&place, on(driver)));
        let clone = own.clone();
        *itself.lock().unwrap() = Some(own.clone());
        for client in [&own, &other, &outside] {
            for endpoint in [ECHO, OUTER] {
                assert_eq!(client.call(CallRequest::new(endpoint, "1")).unwrap().collect().await.unwrap(), ["1"]);
            }
        }
        // Under way across the end of the client that made it: finished all the same.
        let mut streaming = own.call(CallRequest::streaming(ECHO)).unwrap();
        assert_eq!(own.shutdown().await, Leftovers::default());
        streaming.send("2").await.unwrap();
        streaming.finish();
        assert_eq!(streaming.collect().await.unwrap(), ["2"]);
        is_refused_for_good(&clone);
        let refused = outside.call(CallRequest::new(OUTER, "3")).unwrap().collect().await.unwrap_err();
        assert!(matches!(&refused, CallError::Failed { message, .. } if **message == *Error::Stopped.to_string()));
        for client in [&other, &outside] {
            assert_eq!(client.call(CallRequest::new(ECHO, "4")).unwrap().collect().await.unwrap(), ["4"]);
        }
        *itself.lock().unwrap() = None;
        end_client(outside).await;
        end_worker(worker).await;
        is_refused_for_good(&other);
        assert!(matches!(other.snapshot().await, Err(Error::Stopped)));
    });
}

#[test]
fn a_handler_that_owns_its_workers_client_does_not_keep_the_worker() {
    all(async |driver| {
        let place = place();
        let itself = Itself::default();
        let handler = outer(&itself);
        let inside: Itself = Itself::default();
        let kept = inside.clone();
        let remote = move |mut request: Request<_>, out: Responder<_>| {
            let client = kept.lock().unwrap().clone();
            async move {
                let client = client.ok_or_else(|| Failure::internal("no client"))?;
                let call = client.call(CallRequest::new(ECHO, request.body().await?)).map_err(Failure::internal)?;
                for item in call.collect().await.map_err(Failure::internal)? {
                    out.send(item).await?;
                }
                Ok(())
            }
        };
        let executor = runtime_of_its_own();
        let builder = Worker::builder().endpoint(ECHO, echo).endpoint(OUTER, handler);
        let builder = builder.endpoint_on(executor.handle().clone(), "test.lent.remote", remote);
        let worker = serve(builder, &place, on(driver)).await;
        let addr = worker.addr();
        *itself.lock().unwrap() = Some(worker.client().unwrap());
        *inside.lock().unwrap() = Some(worker.client().unwrap());
        let client = connect(&place, on(driver));
        for endpoint in [OUTER, "test.lent.remote"] {
            assert_eq!(client.call(CallRequest::new(endpoint, "in")).unwrap().collect().await.unwrap(), ["in"]);
        }
        end_client(client).await;
        // From here on only the handlers own their clients.
        let gone: [Weak<Mutex<Option<Client>>>; 2] = [Arc::downgrade(&itself), Arc::downgrade(&inside)];
        drop((itself, inside));
        drop(worker);
        until("the handlers are gone", || gone.iter().all(|client| client.strong_count() == 0)).await;
        until("the port is free", || TcpListener::bind(addr).is_ok()).await;
        executor.shutdown_background();
    });
}

fn runtime_of_its_own() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

#[test]
fn a_call_on_a_stopped_client_is_refused_for_good_also_while_it_stops() {
    all(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(driver)).await;
        for round in 0..8 {
            let client = connect(&place, on(driver));
            let clone = client.clone();
            let begun = Arc::new(std::sync::Barrier::new(2));
            let ready = begun.clone();
            let caller = std::thread::spawn(move || {
                runtime().block_on(async {
                    let mut calls = 0;
                    loop {
                        if calls == 1 {
                            ready.wait();
                        }
                        calls += 1;
                        match clone.call(CallRequest::new(ECHO, "race")) {
                            Ok(call) => match call.collect().await {
                                Ok(_) => {}
                                Err(CallError::Closed) => break,
                                Err(other) => panic!("round {round}: {other}"),
                            },
                            Err(Error::Stopped) => break,
                            Err(other) => panic!("round {round}: {other}"),
                        }
                    }
                    is_refused_for_good(&clone);
                });
            });
            begun.wait();
            assert_eq!(client.shutdown().await, Leftovers::default());
            caller.join().unwrap();
        }
        end_worker(worker).await;
    });
}
