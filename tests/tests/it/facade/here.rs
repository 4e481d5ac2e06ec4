//! A worker and a client whose cores run on the caller's own thread.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use ringplane::{
    CallError, CallRequest, Cause, Client, ClientBuilder, Error, Failure, Leftovers, Request, Responder, Worker,
};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use crate::facade::support::{place, runtime};

const ECHO: &str = "test.here.echo";
const PATIENT: &str = "test.here.patient";
const ITEMS: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers with each item of the request, and in the end with the thread it has run on.
async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    while let Some(item) = request.next().await? {
        out.send(item).await?;
    }
    Ok(out.send(format!("{:?}", thread::current().id())).await?)
}

/// Begins, and ends with the call's cancellation.
async fn patient(_: Request, out: Responder) -> Result<(), Failure> {
    out.send("begun").await?;
    match out.cancelled().await {
        Cause::Stop => Ok(out.send("bye").await?),
        _ => Ok(()),
    }
}

/// A worker on this thread.
async fn worker(place: &str) -> Worker {
    let builder = Worker::builder().discovery(place).endpoint(ECHO, echo).endpoint(PATIENT, patient);
    builder.here(|core| drop(spawn_local(core))).serve().await.unwrap()
}

/// A client on this thread, and its core's task.
fn client(builder: ClientBuilder) -> (Client, JoinHandle<()>) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let client = builder.here(move |core| _ = tell.send(spawn_local(core))).connect().unwrap();
    (client, told.try_recv().unwrap())
}

/// Runs a scenario in a `LocalSet`, where nothing but its own thread could run it.
fn alone(scenario: impl AsyncFnOnce(String)) {
    let bounded = async { timeout(PATIENCE, scenario(place())).await };
    assert!(LocalSet::new().block_on(&runtime(), bounded).is_ok(), "not done after {PATIENCE:?}");
}

async fn first(client: &Client) -> ringplane::Call {
    let mut call = client.call(CallRequest::new(PATIENT, "")).unwrap();
    assert_eq!(call.next().await.unwrap().unwrap(), "begun");
    call
}

#[test]
fn a_worker_and_a_client_serve_stream_cancel_and_end_on_their_callers_thread() {
    alone(async |place| {
        let worker = worker(&place).await;
        let (client, core) = client(Client::builder().discovery(&*place));
        assert_eq!(client.driver().to_string(), "tokio (on the caller's own thread)");
        let here = format!("{:?}", thread::current().id());
        let answer = client.call(CallRequest::new(ECHO, "one")).unwrap().collect().await.unwrap();
        assert_eq!(answer, [Bytes::from("one"), Bytes::from(here)]);

        // More items each way than may be ahead.
        let mut call = client.call(CallRequest::streaming(ECHO)).unwrap();
        let requests = call.take_sender().unwrap();
        let sent = spawn_local(async move {
            for number in 0..ITEMS {
                requests.send(number.to_string()).await.unwrap();
            }
        });
        for number in 0..ITEMS {
            assert_eq!(call.next().await.unwrap().unwrap(), number.to_string());
        }
        sent.await.unwrap();
        assert_eq!(call.collect().await.unwrap().len(), 1);

        let mut stopped = first(&client).await;
        stopped.stop();
        assert_eq!(stopped.next().await.unwrap().unwrap(), "bye");
        assert!(stopped.next().await.is_none());
        let killed = first(&client).await;
        killed.kill();
        assert_eq!(killed.collect().await, Err(CallError::Cancelled));
        drop(first(&client).await);
        while worker.snapshot().await.unwrap().worker.running > 0 {
            tokio::task::yield_now().await;
        }

        assert_eq!(client.shutdown().await, Leftovers::default());
        core.await.unwrap();
        assert_eq!(worker.shutdown().await, Leftovers::default());
    });
}

#[test]
fn a_core_ends_with_its_client_and_a_call_with_its_core() {
    alone(async |place| {
        let worker = worker(&place).await;
        let (dropped, core) = client(Client::builder().discovery(&*place));
        drop(first(&dropped).await);
        drop(dropped);
        core.await.unwrap();

        let (client, core) = client(Client::builder().discovery(&*place));
        let call = first(&client).await;
        core.abort();
        assert!(core.await.unwrap_err().is_cancelled());
        assert!(call.collect().await.is_err());
        assert!(matches!(client.call(CallRequest::new(ECHO, "")), Err(Error::Stopped)));
        assert_eq!(client.shutdown().await, Leftovers::default());
        assert_eq!(worker.shutdown().await, Leftovers::default());
    });
}

#[test]
fn a_core_without_a_tokio_or_that_nobody_runs_is_refused() {
    let refused = Client::builder().discovery(place()).here(drop).connect();
    assert!(matches!(refused, Err(Error::Tokio(_))), "{refused:?}");
    let refused = runtime().block_on(async { Client::builder().discovery(place()).here(drop).connect() });
    assert!(matches!(refused, Err(Error::Stopped)), "{refused:?}");
}
