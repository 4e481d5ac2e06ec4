//! Cancelling a call at every moment of its life.

use std::sync::atomic::Ordering;

use ringplane::{CallError, CallRequest, Cause, Client, Config, Request, Responder, Worker};

use crate::facade::proxy::{Proxy, Way};
use crate::facade::support::{
    Seen, all, both, connect, end, end_client, on, place, serve, until, until_client, until_worker,
};

const RUN: &str = "test.cancel.run";

type Outcome = Result<(), ringplane::Failure>;

/// Sends "first", then waits to be cancelled; after a stop it says "bye" and ends well.
fn patient(seen: &Seen) -> impl Fn(Request, Responder) -> futures::future::LocalBoxFuture<'static, Outcome> + use<> {
    let seen = seen.clone();
    move |mut request, out| {
        let seen = seen.clone();
        Box::pin(async move {
            let _here = seen.enter();
            if request.body().await? == "at once" {
                return Ok(out.send("done").await?);
            }
            out.send("first").await?;
            if out.cancelled().await == Cause::Stop {
                seen.stopped.fetch_add(1, Ordering::SeqCst);
                out.send("bye").await?;
            }
            Ok(())
        })
    }
}

/// Sends numbers for as long as it may.
fn busy(seen: &Seen) -> impl Fn(Request, Responder) -> futures::future::LocalBoxFuture<'static, Outcome> + use<> {
    let seen = seen.clone();
    move |_, out| {
        let seen = seen.clone();
        Box::pin(async move {
            let _here = seen.enter();
            let mut number = 0_u64;
            while out.cause() != Some(Cause::Stop) {
                out.send(number.to_be_bytes().to_vec()).await?;
                number += 1;
            }
            seen.stopped.fetch_add(1, Ordering::SeqCst);
            Ok(out.send("bye").await?)
        })
    }
}

async fn at_once(client: &Client) {
    let items = client.call(CallRequest::new(RUN, "at once")).unwrap().collect().await.unwrap();
    assert_eq!(items, ["done"]);
}

#[test]
fn a_call_cancelled_while_it_waits_for_an_instance_ends_at_once() {
    both(async |driver| {
        let client = connect(&place(), on(driver));
        for kill in [true, false] {
            let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
            until_client("the call waits", &client, |snapshot| snapshot.caller.calls == 1).await;
            if kill {
                call.kill()
            } else {
                call.stop()
            }
            assert_eq!(call.next().await, Some(Err(CallError::Cancelled)));
            assert!(call.next().await.is_none());
        }
        drop(client.call(CallRequest::new(RUN, "")).unwrap());
        end_client(client).await;
    });
}

#[test]
fn a_call_cancelled_before_its_connection_is_up_never_reaches_the_worker() {
    all(async |driver| {
        let (seen, there, here) = (Seen::default(), place(), place());
        let worker = serve(Worker::builder().endpoint(RUN, patient(&seen)), &there, on(driver)).await;
        let proxy = Proxy::new(&worker, None);
        let _registered = proxy.advertise(&worker, RUN, &here).await;
        let client = connect(&here, on(driver));
        proxy.hold(Way::Down);
        for kill in [true, false] {
            let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
            until("the client has greeted", || proxy.passed(Way::Up) > 8).await;
            if kill {
                call.kill()
            } else {
                call.stop()
            }
            assert_eq!(call.next().await, Some(Err(CallError::Cancelled)));
        }
        let dropped = client.call(CallRequest::new(RUN, "")).unwrap();
        until_client("the call waits", &client, |snapshot| snapshot.caller.calls == 1).await;
        drop(dropped);
        // The drop crosses to the client's thread, the connection comes up on another.
        until_client("the call is over", &client, |snapshot| snapshot.caller.calls == 0).await;
        proxy.release();
        at_once(&client).await;
        assert_eq!((seen.started(), seen.gone()), (1, 1));
        assert_eq!(worker.snapshot().await.unwrap().served.admitted, 1);
        end(worker, client).await;
    });
}

#[test]
fn a_call_killed_before_the_worker_has_seen_it_does_not_start_or_does_not_run_on() {
    both(async |driver| {
        let (seen, there, here) = (Seen::default(), place(), place());
        let worker = serve(Worker::builder().endpoint(RUN, patient(&seen)), &there, on(driver)).await;
        let proxy = Proxy::new(&worker, None);
        let _registered = proxy.advertise(&worker, RUN, &here).await;
        let client = connect(&here, on(driver));
        at_once(&client).await;
        proxy.hold(Way::Up);
        let mut killed = client.call(CallRequest::new(RUN, "")).unwrap();
        let dropped = client.call(CallRequest::new(RUN, "")).unwrap();
        until_client("both are under way", &client, |snapshot| snapshot.caller.streams == 2).await;
        killed.kill();
        drop(dropped);
        assert_eq!(killed.next().await, Some(Err(CallError::Cancelled)));
        until_client("both are over", &client, |snapshot| snapshot.caller.calls <= 1).await;
        proxy.release();
        at_once(&client).await;
        drop(killed);
        // The open frames and the cancels behind them may arrive in one piece or in two; in either case nothing runs on.
        until_worker("nothing runs", &worker, |snapshot| snapshot.worker.jobs == 0).await;
        assert_eq!(seen.started(), seen.gone());
        println!("measured: {driver:?}: {} of 2 handlers started before their kill came", seen.started() - 2);
        end(worker, client).await;
    });
}

#[test]
fn a_queued_call_that_is_cancelled_never_starts() {
    both(async |driver| {
        let (seen, place) = (Seen::default(), place());
        let mut config: Config = on(driver);
        config.worker.max_running = 1;
        let worker = serve(Worker::builder().endpoint(RUN, patient(&seen)), &place, config).await;
        let client = connect(&place, on(driver));
        let mut first = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(first.next().await.unwrap().unwrap(), "first");
        let mut killed = client.call(CallRequest::new(RUN, "")).unwrap();
        let mut stopped = client.call(CallRequest::new(RUN, "")).unwrap();
        let dropped = client.call(CallRequest::new(RUN, "")).unwrap();
        until_worker("three are queued", &worker, |snapshot| snapshot.served.queued == 3).await;
        killed.kill();
        stopped.stop();
        drop(dropped);
        assert_eq!(killed.next().await, Some(Err(CallError::Cancelled)));
        let outcome = stopped.next().await.unwrap().unwrap_err();
        assert_eq!(outcome.class(), ringplane_core::wire::class::Class::Cancelled, "{outcome}");
        until_worker("the queue is empty", &worker, |snapshot| snapshot.worker.jobs == 1).await;
        first.stop();
        assert_eq!(first.next().await.unwrap().unwrap(), "bye");
        assert!(first.next().await.is_none());
        at_once(&client).await;
        assert_eq!((seen.started(), seen.gone(), seen.stopped()), (2, 2, 1));
        drop((killed, stopped, first));
        end(worker, client).await;
    });
}

#[test]
fn a_stop_lets_the_handler_finish_and_a_kill_or_a_drop_ends_it() {
    all(async |driver| {
        let (seen, place) = (Seen::default(), place());
        let worker = serve(Worker::builder().endpoint(RUN, patient(&seen)), &place, on(driver)).await;
        let client = connect(&place, on(driver));

        let mut stopped = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(stopped.next().await.unwrap().unwrap(), "first");
        stopped.stop();
        assert_eq!(stopped.collect().await.unwrap(), ["bye"]);
        assert_eq!((seen.stopped(), seen.gone()), (1, 1));

        let mut killed = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(killed.next().await.unwrap().unwrap(), "first");
        killed.kill();
        assert_eq!(killed.next().await, Some(Err(CallError::Cancelled)));
        assert!(killed.next().await.is_none());
        until("the killed handler is gone", || seen.gone() == 2).await;

        let mut dropped = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(dropped.next().await.unwrap().unwrap(), "first");
        drop(dropped);
        until("the dropped call's handler is gone", || seen.gone() == 3).await;
        assert_eq!((seen.started(), seen.stopped()), (3, 1));
        assert_eq!(worker.snapshot().await.unwrap().served.cancelled, 3);
        drop(killed);
        end(worker, client).await;
    });
}

#[test]
fn a_stream_in_full_flow_can_be_stopped_killed_and_dropped() {
    all(async |driver| {
        let (seen, place) = (Seen::default(), place());
        let worker = serve(Worker::builder().endpoint(RUN, busy(&seen)), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        for round in 0..3 {
            let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
            for number in 0..1_000_u64 {
                assert_eq!(call.next().await.unwrap().unwrap(), number.to_be_bytes().to_vec());
            }
            match round {
                0 => {
                    call.stop();
                    let rest = call.collect().await.unwrap();
                    assert_eq!(rest.last().unwrap(), "bye");
                    for (number, item) in (1_000_u64..).zip(&rest[..rest.len() - 1]) {
                        assert_eq!(item, &number.to_be_bytes().to_vec());
                    }
                }
                1 => {
                    call.kill();
                    // What had already crossed to this thread can still be read; then exactly one outcome.
                    let mut outcome = call.next().await.unwrap();
                    while outcome.is_ok() {
                        outcome = call.next().await.unwrap();
                    }
                    assert_eq!(outcome, Err(CallError::Cancelled));
                    assert!(call.next().await.is_none());
                }
                _ => drop(call),
            }
            until("the handler is gone", || seen.gone() == round + 1).await;
        }
        assert_eq!(seen.stopped(), 1);
        end(worker, client).await;
    });
}

#[test]
fn cancelling_a_call_that_is_over_changes_nothing() {
    both(async |driver| {
        let (seen, place) = (Seen::default(), place());
        let worker = serve(Worker::builder().endpoint(RUN, patient(&seen)), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut call = client.call(CallRequest::new(RUN, "at once")).unwrap();
        until("the handler is gone", || seen.gone() == 1).await;
        until_client("the call is over", &client, |snapshot| snapshot.called.succeeded == 1).await;
        call.kill();
        call.stop();
        assert_eq!(call.next().await.unwrap().unwrap(), "done");
        assert!(call.next().await.is_none());
        assert_eq!(worker.snapshot().await.unwrap().served.cancelled, 0);
        drop(call);
        end(worker, client).await;
    });
}

#[test]
fn a_request_that_is_dropped_half_way_never_looks_complete_to_its_handler() {
    const ROUNDS: usize = 100;
    all(async |driver| {
        let (seen, place) = (Seen::default(), place());
        let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let local = {
            let seen = seen.clone();
            move |mut request: Request, _out: Responder| {
                let seen = seen.clone();
                async move {
                    let _here = seen.enter();
                    while request.next().await?.is_some() {
                        seen.items.fetch_add(1, Ordering::SeqCst);
                    }
                    seen.stopped.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        };
        let remote = {
            let seen = seen.clone();
            move |mut request: Request<_>, _out: Responder<_>| {
                let seen = seen.clone();
                async move {
                    let _here = seen.enter();
                    while request.next().await?.is_some() {
                        seen.items.fetch_add(1, Ordering::SeqCst);
                    }
                    seen.stopped.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        };
        let builder =
            Worker::builder().endpoint(RUN, local).endpoint_on(own.handle().clone(), "test.cancel.far", remote);
        let worker = serve(builder, &place, on(driver)).await;
        let client = connect(&place, on(driver));
        for round in 0..ROUNDS {
            let endpoint = if round % 2 == 0 { RUN } else { "test.cancel.far" };
            let call = client.call(CallRequest::streaming(endpoint)).unwrap();
            call.send("one").await.unwrap();
            call.send("two").await.unwrap();
            until("two items are there", || seen.items() == 2 * (round + 1)).await;
            drop(call);
            until("the handler is gone", || seen.gone() == round + 1).await;
        }
        assert_eq!(seen.stopped(), 0, "a handler took half a request for a whole one");
        let mut whole = client.call(CallRequest::streaming(RUN)).unwrap();
        whole.send("one").await.unwrap();
        whole.finish();
        assert_eq!(whole.collect().await, Ok(Vec::new()));
        assert_eq!(seen.stopped(), 1);
        end(worker, client).await;
        own.shutdown_background();
    });
}

#[test]
fn a_kill_counts_however_often_a_stop_was_asked_for_before() {
    both(async |driver| {
        let (seen, place) = (Seen::default(), place());
        let deaf = {
            let seen = seen.clone();
            move |_: Request, out: Responder| {
                let seen = seen.clone();
                async move {
                    let _here = seen.enter();
                    out.send("first").await?;
                    std::future::pending().await
                }
            }
        };
        let worker = serve(Worker::builder().endpoint(RUN, deaf), &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut call = client.call(CallRequest::new(RUN, "")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "first");
        for _ in 0..10 {
            call.stop();
        }
        call.kill();
        assert_eq!(call.next().await, Some(Err(CallError::Cancelled)));
        until("the handler is gone", || seen.gone() == 1).await;
        drop(call);
        end(worker, client).await;
    });
}
