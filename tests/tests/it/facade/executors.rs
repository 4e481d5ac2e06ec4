//! Calls from any executor, and from the core itself.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::ThreadId;

use bytes::Bytes;
use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};

use crate::facade::support::{both, connect, end, end_client, end_worker, on, place, serve, until_client};

const ECHO: &str = "test.executors.echo";
const EACH: &str = "test.executors.each";
const OUTER: &str = "test.executors.outer";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(request.body().await?).await?)
}

/// Answers with every item of the request.
async fn each(mut request: Request, out: Responder) -> Result<(), Failure> {
    while let Some(item) = request.next().await? {
        out.send(item).await?;
    }
    Ok(())
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
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
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

#[test]
fn tasks_of_a_runtime_are_woken_together_and_one_that_blocks_its_thread_is_woken_all_the_same() {
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(ECHO, echo), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let inside = client.clone();
        let elsewhere = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            // Few enough for the budget that tokio gives each poll of a task: one that blocks gets no other.
            let call = async |client: Client| {
                for _ in 0..20 {
                    let answer = client.call(CallRequest::new(ECHO, "x")).unwrap().collect().await;
                    assert_eq!(answer.unwrap(), ["x"]);
                }
            };
            for _ in 0..2 {
                runtime.block_on(async {
                    let tasks: Vec<_> = (0..16).map(|_| tokio::spawn(call(inside.clone()))).collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                    let blocking = inside.clone();
                    tokio::spawn(async move { block_on(call(blocking)) }).await.unwrap();
                    call(inside.clone()).await;
                });
            }
        };
        std::thread::spawn(elsewhere).join().unwrap();
        end(worker, client).await;
    });
}

#[test]
fn items_are_sent_many_at_a_time_and_none_is_lost_or_sent_twice_by_whoever_stops_waiting() {
    const ITEMS: usize = 1000;
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(EACH, each), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut call = client.call(CallRequest::streaming(EACH)).unwrap();
        let sender = call.take_sender().unwrap();
        let sending = async move {
            let mut items: Vec<Bytes> = (0..ITEMS).map(|number| number.to_be_bytes().to_vec().into()).collect();
            let mut given_up = 0;
            while !items.is_empty() {
                match futures::poll!(std::pin::pin!(sender.send_many(&mut items))) {
                    Poll::Ready(sent) => sent.unwrap(),
                    Poll::Pending => given_up += 1,
                }
                tokio::task::yield_now().await;
            }
            assert!(given_up > 0, "these are more than there is room for");
        };
        let reading = async {
            let mut read = Vec::new();
            assert_eq!(call.next_batch(&mut read, 0).await, Ok(0));
            while call.next_batch(&mut read, 20).await.unwrap() > 0 {}
            read
        };
        let (read, ()) = futures::join!(reading, sending);
        let numbers = read.iter().map(|item| usize::from_be_bytes(item[..].try_into().unwrap()));
        assert!(numbers.eq(0..ITEMS));
        assert_eq!(call.next_batch(&mut Vec::new(), 20).await, Ok(0), "also afterwards");
        end(worker, client).await;
    });
}

#[test]
fn what_is_there_is_read_at_once_up_to_a_number() {
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(EACH, each), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut call = client.call(CallRequest::streaming(EACH)).unwrap();
        for number in 0..30_u8 {
            call.send(vec![number]).await.unwrap();
        }
        call.finish();
        // Its core has nothing to do with the call any more: all of it is there.
        until_client("the call is over", &client, |now| now.caller.calls == 0).await;
        let mut items = Vec::new();
        assert_eq!(call.next().await, Some(Ok(Bytes::from_static(&[0]))));
        assert_eq!(call.next_batch(&mut items, 20).await, Ok(20));
        assert_eq!(call.next_batch(&mut items, 20).await, Ok(9));
        assert_eq!(call.next_batch(&mut items, 20).await, Ok(0));
        assert!(items.iter().map(|item| item[0]).eq(1..30));
        end(worker, client).await;
    });
}
