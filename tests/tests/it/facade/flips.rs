//! One bit flipped on the way between two real sockets.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ringplane::{Call, CallError, CallRequest, Request, Responder, Worker};
use ringplane_core::protocol::Fault;
use ringplane_core::wire::mux::{HEAD_LEN, PREFACE_LEN, goaway};
use ringplane_core::wire::parse::ErrorKind;

use crate::facade::proxy::{Flip, Proxy, Way};
use crate::facade::support::{Seen, both, connect, end_client, end_worker, on, place, serve, until, until_worker};

const RUN: &str = "test.flips.run";
const STEADY: &str = "test.flips.steady";
const ITEMS: usize = 200;
/// The preface and the hello, in either direction.
const GREETING: usize = PREFACE_LEN + HEAD_LEN + 20;

type Outcome = Result<(), ringplane::Failure>;

fn answer(seen: &Seen) -> impl Fn(Request, Responder) -> futures::future::LocalBoxFuture<'static, Outcome> + use<> {
    let seen = seen.clone();
    move |mut request, out| {
        let seen = seen.clone();
        Box::pin(async move {
            let _here = seen.enter();
            let body = request.body().await?;
            for _ in 0..ITEMS {
                out.send(body.clone()).await?;
            }
            Ok(())
        })
    }
}

async fn steady(_: Request, out: Responder) -> Outcome {
    let mut number = 0_u64;
    loop {
        out.send(number.to_be_bytes().to_vec()).await?;
        number += 1;
    }
}

/// Reads on: nothing is missing.
async fn flows(steady: &mut Call, next: &mut u64) {
    for _ in 0..100 {
        assert_eq!(steady.next().await.unwrap().unwrap(), next.to_be_bytes().to_vec());
        *next += 1;
    }
}

fn flip(way: Way, at: usize) -> Flip {
    Flip { way, at, bit: (at % 8) as u8 }
}

#[test]
fn a_flipped_bit_ends_its_connection_with_a_typed_error_on_both_sides_and_harms_no_other() {
    both(async |driver| {
        let (seen, there) = (Seen::default(), place());
        let builder = Worker::builder().endpoint(RUN, answer(&seen)).endpoint(STEADY, steady);
        let worker = serve(builder, &there, on(driver)).await;
        let bystander = connect(&there, on(driver));
        let mut stream = bystander.call(CallRequest::new(STEADY, "")).unwrap();
        let mut next = 0;
        flows(&mut stream, &mut next).await;
        let body = Bytes::from(vec![7; 1000]);
        for way in [Way::Up, Way::Down] {
            for at in [GREETING + 3, GREETING + 17, GREETING + HEAD_LEN + 5, GREETING + 400, GREETING + 900] {
                let (before, started) = (worker.snapshot().await.unwrap().served, seen.started());
                let (proxy, here) = (Proxy::new(&worker, Some(flip(way, at))), place());
                let _registered = proxy.advertise(&worker, RUN, &here).await;
                let client = connect(&here, on(driver));
                let outcome = client.call(CallRequest::new(RUN, body.clone())).unwrap().collect().await;
                let context = format!("{driver:?}: {way:?} at {at}: {outcome:?}");
                // Its open frame was on its way, so nobody but the application may decide to run it again.
                let Err(CallError::Protocol { fault, delivered: true }) = outcome.clone() else { panic!("{context}") };
                match (way, fault) {
                    (Way::Up, Fault::Told(goaway::CHECKSUM)) => {}
                    (Way::Down, Fault::Wire(error)) => assert_eq!(error.kind, ErrorKind::Checksum, "{context}"),
                    _ => panic!("{context}"),
                }
                assert!(!outcome.unwrap_err().is_retryable(), "{context}");
                let here = client.snapshot().await.unwrap().called;
                assert_eq!((here.faults, here.retries, here.dials), (1, 0, 1), "{context}");
                let gone = format!("both ends are closed: {context}");
                let after = until_worker(&gone, &worker, |now| now.worker.connections == 1).await;
                assert_eq!(after.served.faults, before.faults + 1, "{context}");
                assert!(seen.started() <= started + 1, "{context}");
                until("the handler is gone", || seen.gone() == seen.started()).await;
                flows(&mut stream, &mut next).await;
                end_client(client).await;
            }
        }
        let unharmed = bystander.snapshot().await.unwrap().called;
        assert_eq!((unharmed.dials, unharmed.faults), (1, 0));
        drop(stream);
        end_client(bystander).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_call_that_had_not_been_delivered_when_a_bit_flipped_is_tried_again_and_runs_once() {
    both(async |driver| {
        let (seen, there) = (Seen::default(), place());
        let worker = serve(Worker::builder().endpoint(RUN, answer(&seen)), &there, on(driver)).await;
        let cases = [(Way::Down, 3), (Way::Down, 20), (Way::Down, 40), (Way::Up, 3)];
        for (number, (way, at)) in (1..).zip(cases) {
            let (proxy, here) = (Proxy::new(&worker, Some(flip(way, at))), place());
            let _registered = proxy.advertise(&worker, RUN, &here).await;
            let client = connect(&here, on(driver));
            let items = client.call(CallRequest::new(RUN, "x")).unwrap().collect().await;
            let context = format!("{driver:?}: {way:?} at {at}");
            assert_eq!(items.unwrap_or_else(|error| panic!("{context}: {error}")).len(), ITEMS, "{context}");
            let here = client.snapshot().await.unwrap().called;
            assert_eq!((here.retries, here.dials, proxy.accepted()), (1, 2, 2), "{context}");
            assert_eq!(seen.started(), number, "{context}: a call ran twice");
            end_client(client).await;
        }
        end_worker(worker).await;
    });
}

#[test]
fn a_call_that_may_have_been_delivered_is_tried_again_only_if_that_does_no_harm() {
    both(async |driver| {
        let (seen, there, here) = (Seen::default(), place(), place());
        let worker = serve(Worker::builder().endpoint(RUN, answer(&seen)), &there, on(driver)).await;
        let proxy = Proxy::new(&worker, Some(flip(Way::Up, GREETING + 30)));
        let _registered = proxy.advertise(&worker, RUN, &here).await;
        let client = connect(&here, on(driver));
        let items = client.call(CallRequest::new(RUN, "x").idempotent()).unwrap().collect().await.unwrap();
        assert_eq!((items.len(), seen.started.load(Ordering::SeqCst)), (ITEMS, 1));
        assert_eq!(client.snapshot().await.unwrap().called.retries, 1);
        end_client(client).await;
        end_worker(worker).await;
    });
}
