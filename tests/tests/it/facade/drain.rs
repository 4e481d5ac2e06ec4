//! A worker that leaves: what its handlers have finished reaches its callers, whatever those send meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringplane::{CallError, CallRequest, Client, Config, DriverChoice, Leftovers, Request, Responder, Worker};
use ringplane_core::caller::config::Dialect;
use ringplane_core::protocol::CloseReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::facade::hostile::greeting;
use crate::facade::support::{all, connect, is_on_a_runtime_of_others, on, place, serve, until, until_worker};

const ECHO: &str = "test.drain.echo";
/// Workers that come and go on each driver.
const ROUNDS: usize = 20;
/// Callers of each, on as many connections as there are clients.
const CALLERS: usize = 200;
const CLIENTS: usize = 4;

/// A text of that length in MessagePack, which is what Dynamo's callers have to send.
fn body(len: usize) -> Vec<u8> {
    let prefix = u32::try_from(len).unwrap().to_be_bytes();
    [&[0xDB][..], &prefix, &vec![b'x'; len]].concat()
}

/// What one round saw.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    finished: AtomicUsize,
    answered: AtomicUsize,
}

fn echo(seen: &Arc<Seen>) -> impl Fn(Request, Responder) -> futures::future::LocalBoxFuture<'static, Outcome> + use<> {
    let seen = seen.clone();
    move |mut request, out| {
        let seen = seen.clone();
        Box::pin(async move {
            seen.begun.fetch_add(1, Ordering::SeqCst);
            let body = request.body().await?;
            out.send(body).await?;
            seen.finished.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

type Outcome = Result<(), ringplane::Failure>;

/// Calls until it is refused; the refusal.
async fn keep_calling(client: Client, body: Vec<u8>, seen: Arc<Seen>) -> CallError {
    loop {
        match client.call(CallRequest::new(ECHO, body.clone())).unwrap().collect().await {
            Ok(items) => {
                assert!(items == [&body[..]], "an answer of another length or other bytes");
                seen.answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => return error,
        }
    }
}

/// One worker that leaves amid its calls.
async fn round(driver: DriverChoice, config: Config) {
    let is_dynamo = config.caller.dialect == Dialect::CallHome;
    let (place, seen) = (place(), Arc::new(Seen::default()));
    let worker = serve(Worker::builder().endpoint(ECHO, echo(&seen)), &place, on(driver)).await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(&place, config.clone())).collect();
    let calling: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let client = clients[caller % CLIENTS].clone();
            tokio::spawn(keep_calling(client, body(caller * 250), seen.clone()))
        })
        .collect();
    until("calls are under way on every connection", || seen.begun.load(Ordering::SeqCst) > CALLERS / 2).await;
    assert_eq!(worker.shutdown().await, Leftovers::default());
    for call in calling {
        let error = call.await.unwrap();
        // Dynamo's callers cannot be told to send no more: what arrives behind the last ack is neither taken nor refused.
        // The kernel resets a connection that it takes in between the last look at the waiting ones and the listener's close.
        let is_unheard = matches!(
            error,
            CallError::Disconnected { reason: CloseReason::Eof | CloseReason::Reset, delivered: true, .. }
        );
        let is_fine = error.is_retryable() || (is_dynamo && is_unheard);
        assert!(is_fine, "{driver:?}: a call that cannot be made again: {error:?}");
    }
    let (finished, answered) = (seen.finished.load(Ordering::SeqCst), seen.answered.load(Ordering::SeqCst));
    assert_eq!(finished, answered, "{driver:?}: finished answers and those that arrived");
    for client in clients {
        assert_eq!(client.shutdown().await, Leftovers::default());
    }
}

#[test]
fn a_worker_that_leaves_loses_no_finished_answer_and_resets_no_caller_that_still_sends() {
    // One after the other, so that each has a scenario's time.
    for dialect in [Dialect::Auto, Dialect::CallHome] {
        all(async |driver| {
            if dialect == Dialect::CallHome && is_on_a_runtime_of_others(driver) {
                return;
            }
            let mut config = on(driver);
            config.caller.dialect = dialect;
            config.caller.instance_timeout = Duration::from_millis(50);
            let begun = std::time::Instant::now();
            for _ in 0..ROUNDS {
                round(driver, config.clone()).await;
            }
            println!("measured: {driver:?}, {dialect:?}: {ROUNDS} workers have come and gone in {:?}", begun.elapsed());
        });
    }
}

/// Reads until the peer ends the connection, in whatever way. A machine that has other things to do gets its time.
async fn ends(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await.is_ok()
}

#[test]
fn nobody_who_comes_while_a_worker_leaves_is_let_in_and_forgotten() {
    all(async |driver| {
        let worker = serve(Worker::builder().endpoint(ECHO, echo(&Arc::default())), &place(), on(driver)).await;
        let addr = worker.addr();
        // It is told good-bye and does not end its side: the worker's threads linger for it, which is when the others come.
        let mut first = TcpStream::connect(addr).await.unwrap();
        first.write_all(&greeting()).await.unwrap();
        until_worker("the first is in", &worker, |snapshot| snapshot.worker.connections > 0).await;
        let leaving = tokio::spawn(worker.shutdown());
        assert!(ends(&mut first).await, "{driver:?}: the first is not told good-bye");
        let mut late = Vec::new();
        while !leaving.is_finished() {
            late.extend(TcpStream::connect(addr).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(leaving.await.unwrap(), Leftovers::default());
        println!("measured: {driver:?}: {} got through while the worker left", late.len());
        for mut stream in late {
            assert!(ends(&mut stream).await, "{driver:?}: the worker is gone, a connection to it is not");
        }
    });
}
