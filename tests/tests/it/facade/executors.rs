//! Calls from any executor, and from the core itself.

use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};

use crate::facade::support::{both, connect, end, end_client, end_worker, on, place, serve};

const ECHO: &str = "test.executors.echo";
const OUTER: &str = "test.executors.outer";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

async fn one_call(client: &Client, body: &'static str) {
    assert!(tokio::runtime::Handle::try_current().is_err(), "there is no tokio around");
    assert_eq!(client.call(CallRequest::new(ECHO, body)).unwrap().collect().await.unwrap(), [body]);
}

/// An executor of ten lines: polls, then parks its thread.
fn poll_and_park<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn calls_can_be_made_from_executors_that_are_not_tokio() {
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let inside = client.clone();
        let elsewhere = move || {
            block_on(one_call(&inside, "futures"));
            poll_and_park(one_call(&inside, "by hand"));
            let mut pool = LocalPool::new();
            for _ in 0..100 {
                let client = inside.clone();
                pool.spawner().spawn_local(async move { one_call(&client, "pool").await }).unwrap();
            }
            pool.run();
            // Readable as a stream too, with somebody else's combinators.
            let call = inside.call(CallRequest::new(ECHO, "stream")).unwrap();
            let items: Vec<_> = block_on(futures::StreamExt::collect(call));
            assert_eq!(items, [Ok("stream".into())]);
        };
        tokio::task::spawn_blocking(|| std::thread::spawn(elsewhere).join().unwrap()).await.unwrap();
        let from_tokio = client.call(CallRequest::new(ECHO, "tokio")).unwrap();
        assert_eq!(from_tokio.collect().await.unwrap(), ["tokio"]);
        assert_eq!(client.snapshot().await.unwrap().called.succeeded, 104);
        end(worker, client).await;
    });
}

#[test]
fn a_handler_calls_from_its_own_core_without_crossing_a_thread() {
    both(async |driver| {
        let place = place();
        let threads: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
        let itself: Arc<Mutex<Option<Client>>> = Arc::default();
        let outer = {
            let (threads, itself) = (threads.clone(), itself.clone());
            move |mut request: Request, out: Responder| {
                let (threads, itself) = (threads.clone(), itself.clone());
                async move {
                    threads.lock().unwrap().push(std::thread::current().id());
                    let local = itself.lock().unwrap().as_ref().and_then(Client::local);
                    let local = local.ok_or_else(|| Failure::internal("not on the client's thread"))?;
                    let inner = CallRequest::new(ECHO, request.body().await?);
                    let mut call = local.call(inner)?;
                    while let Some(item) = call.next().await {
                        threads.lock().unwrap().push(std::thread::current().id());
                        out.send(item?).await?;
                    }
                    Ok(())
                }
            }
        };
        let builder = Worker::builder().endpoint(ECHO, echo).endpoint(OUTER, outer);
        let worker = serve(builder, &place, on(driver)).await;
        let own = worker.client().unwrap();
        assert!(own.local().is_none(), "this is not the worker's thread");
        *itself.lock().unwrap() = Some(own);
        let client = connect(&place, on(driver));
        for _ in 0..10 {
            let items = client.call(CallRequest::new(OUTER, "through")).unwrap().collect().await.unwrap();
            assert_eq!(items, ["through"]);
        }
        let threads = std::mem::take(&mut *threads.lock().unwrap());
        assert!(threads.len() == 20 && threads.iter().all(|id| *id == threads[0]), "{threads:?}");
        *itself.lock().unwrap() = None;
        end_client(client).await;
        end_worker(worker).await;
    });
}
