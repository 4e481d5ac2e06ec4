//! Handlers on the user's own tokio runtime.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ringplane::{CallError, CallRequest, Cause, Config, Worker};
use ringplane::{Remote, Request, Responder, SendFuture};
use tokio::runtime::Runtime;

use crate::facade::support::{Seen, all, both, connect, end, on, place, serve, small_windows, until, with_mux};

const RUN: &str = "test.remote.run";

fn own_runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("users-own").enable_all().build().unwrap()
}

/// Ends the user's runtime from inside a test's.
fn stop(runtime: Runtime) {
    runtime.shutdown_background();
}

#[test]
fn a_slow_reader_stops_a_handler_on_the_users_runtime() {
    const LEN: usize = 10_000;
    const BRIDGE: usize = 4;
    all(async |driver| {
        let (seen, place, own) = (Seen::default(), place(), own_runtime());
        let handler = {
            let seen = seen.clone();
            move |_: Request<Remote>, out: Responder<Remote>| -> SendFuture {
                let seen = seen.clone();
                Box::pin(async move {
                    let _here = seen.enter();
                    assert_eq!(std::thread::current().name(), Some("users-own"));
                    let item = Bytes::from(vec![1; LEN]);
                    loop {
                        out.send(item.clone()).await?;
                        seen.items.fetch_add(1, Ordering::SeqCst);
                    }
                })
            }
        };
        let echo =
            |mut request: Request<_>, out: Responder<_>| async move { Ok(out.send(request.body().await?).await?) };
        let config = Config { bridge: BRIDGE, ..with_mux(driver, small_windows) };
        let builder =
            Worker::builder().endpoint_on(own.handle().clone(), RUN, handler).endpoint("test.remote.echo", echo);
        let worker = serve(builder, &place, config.clone()).await;
        let client = connect(&place, config.clone());
        let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
        call.next().await.unwrap().unwrap();
        // At rest: its count does not change while a hundred other calls come and go.
        let mut sent = usize::MAX;
        while sent != seen.items() {
            sent = seen.items();
            for _ in 0..100 {
                client.call(CallRequest::new("test.remote.echo", "x")).unwrap().collect().await.unwrap();
            }
        }
        let mux = config.caller.mux;
        // Two bridges with a hand at each, the window, the send buffer.
        let bound = 2 * (BRIDGE + 2) * LEN + mux.stream_window as usize + mux.send_buffer + LEN;
        println!("measured: {driver:?}: {} bytes sent into a stalled stream, bound {bound}", sent * LEN);
        assert!(sent * LEN <= bound);
        for _ in 0..100 {
            call.next().await.unwrap().unwrap();
        }
        drop(call);
        until("the task is gone", || seen.gone() == 1).await;
        end(worker, client).await;
        stop(own);
    });
}

#[test]
fn a_handler_on_the_users_runtime_sees_a_stop_and_is_aborted_by_a_kill() {
    both(async |driver| {
        let (seen, place, own) = (Seen::default(), place(), own_runtime());
        let handler = {
            let seen = seen.clone();
            move |_: Request<_>, out: Responder<_>| {
                let seen = seen.clone();
                async move {
                    let _here = seen.enter();
                    out.send("first").await?;
                    assert_eq!(out.cancelled().await, Cause::Stop);
                    assert_eq!(out.cause(), Some(Cause::Stop));
                    seen.stopped.fetch_add(1, Ordering::SeqCst);
                    Ok(out.send("bye").await?)
                }
            }
        };
        let worker = serve(Worker::builder().endpoint_on(own.handle().clone(), RUN, handler), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut stopped = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(stopped.next().await.unwrap().unwrap(), "first");
        stopped.stop();
        assert_eq!(stopped.collect().await.unwrap(), ["bye"]);
        let mut killed = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(killed.next().await.unwrap().unwrap(), "first");
        killed.kill();
        assert_eq!(killed.next().await, Some(Err(CallError::Cancelled)));
        until("the killed task is gone", || seen.gone() == 2).await;
        assert_eq!((seen.started(), seen.stopped()), (2, 1));
        drop(killed);
        end(worker, client).await;
        stop(own);
    });
}

#[test]
fn a_handler_on_the_users_runtime_knows_its_remaining_time_and_is_aborted_when_it_is_up() {
    both(async |driver| {
        let (seen, place, own) = (Seen::default(), place(), own_runtime());
        let left = Arc::new(Mutex::new(Vec::new()));
        let handler = {
            let (seen, left) = (seen.clone(), left.clone());
            move |request: Request<_>, _out: Responder<_>| {
                let (seen, left) = (seen.clone(), left.clone());
                async move {
                    let _here = seen.enter();
                    left.lock().unwrap().push(request.remaining());
                    std::future::pending().await
                }
            }
        };
        let worker = serve(Worker::builder().endpoint_on(own.handle().clone(), RUN, handler), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let limit = Duration::from_millis(300);
        let mut call = client.call(CallRequest::new(RUN, "").with_timeout(limit)).unwrap();
        assert_eq!(call.next().await, Some(Err(CallError::DeadlineExceeded)));
        until("the late task is gone", || seen.gone() == 1).await;
        let first = left.lock().unwrap()[0].unwrap();
        assert!(first > Duration::ZERO && first <= limit, "{first:?}");
        let unlimited = client.call(CallRequest::new(RUN, "")).unwrap();
        until("the second task runs", || seen.started() == 2).await;
        assert_eq!(left.lock().unwrap()[1], None);
        drop((call, unlimited));
        end(worker, client).await;
        stop(own);
    });
}

#[test]
fn a_handler_that_panics_on_the_users_runtime_fails_its_call_and_nothing_else() {
    both(async |driver| {
        let (place, own) = (place(), own_runtime());
        let handler = |mut request: Request<_>, out: Responder<_>| async move {
            let body = request.body().await?;
            assert_ne!(body, "bad", "this panic is wanted");
            Ok(out.send(body).await?)
        };
        let worker = serve(Worker::builder().endpoint_on(own.handle().clone(), RUN, handler), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let bad = client.call(CallRequest::new(RUN, "bad")).unwrap().collect().await;
        assert!(matches!(bad, Err(CallError::Failed { .. })), "{bad:?}");
        assert_eq!(client.call(CallRequest::new(RUN, "good")).unwrap().collect().await.unwrap(), ["good"]);
        end(worker, client).await;
        stop(own);
    });
}

#[test]
fn handlers_read_and_send_many_items_at_a_time_wherever_they_run() {
    const ITEMS: u16 = 300;
    both(async |driver| {
        let (place, own) = (place(), own_runtime());
        let on_the_core = async |mut request: Request, out: Responder| {
            let mut items = Vec::new();
            while request.next_batch(&mut items, 20).await? > 0 {
                assert!(items.len() <= 20);
                out.send_many(&mut items).await?;
                assert!(items.is_empty());
            }
            assert_eq!(request.next_batch(&mut items, 0).await, Ok(0));
            Ok(())
        };
        let on_a_runtime = async |mut request: Request<Remote>, out: Responder<Remote>| {
            let mut items = Vec::new();
            while request.next_batch(&mut items, 20).await? > 0 {
                assert!(items.len() <= 20);
                out.send_many(&mut items).await?;
                assert!(items.is_empty());
            }
            assert_eq!(request.next_batch(&mut items, 0).await, Ok(0));
            Ok(())
        };
        let builder = Worker::builder().endpoint("test.remote.core", on_the_core);
        let builder = builder.endpoint_on(own.handle().clone(), "test.remote.runtime", on_a_runtime);
        let worker = serve(builder, &place, on(driver)).await;
        let client = connect(&place, on(driver));
        for endpoint in ["test.remote.core", "test.remote.runtime"] {
            let mut call = client.call(CallRequest::streaming(endpoint)).unwrap();
            let sender = call.take_sender().unwrap();
            let sending = async move {
                let mut items = (0..ITEMS).map(|number| number.to_be_bytes().to_vec().into()).collect();
                sender.send_many(&mut items).await.unwrap();
            };
            let (answer, ()) = futures::join!(call.collect(), sending);
            let numbers = answer.unwrap().into_iter().map(|item| u16::from_be_bytes(item[..].try_into().unwrap()));
            assert!(numbers.eq(0..ITEMS));
        }
        end(worker, client).await;
        stop(own);
    });
}
