//! Handlers on a stage: no socket, no thread, and yet all that a call has.

use std::time::{Duration, Instant};

use ringplane::testing::Stage;
use ringplane::{CallError, CallRequest, Cause, Class, Codec, Error, Failure};
use ringplane::{Remote, Request, Responder, TypedResponder, Worker};

use crate::facade::support::{Seen, runtime, until};

const ECHO: &str = "test.staged.echo";
const COUNT: &str = "test.staged.count";
const SUM: &str = "test.staged.sum";
const THERE: &str = "test.staged.there";

async fn echo(mut request: Request, out: Responder) -> Result<(), Failure> {
    while let Some(item) = request.next().await? {
        assert!(item != "bad", "on purpose");
        out.send(item).await?;
    }
    Ok(())
}

/// An answer that ends when it is stopped.
fn counting(seen: &Seen) -> impl ringplane::Handler {
    let seen = seen.clone();
    move |_: Request, out: Responder| {
        let here = seen.enter();
        async move {
            let _here = here;
            for number in 0_u64.. {
                if out.cause() == Some(Cause::Stop) {
                    out.send("stopped").await?;
                    break;
                }
                out.send(number.to_string()).await?;
            }
            Ok(())
        }
    }
}

#[test]
fn a_staged_handler_answers_streams_fails_and_panics_as_over_sockets() {
    runtime().block_on(async {
        let stage = Stage::new(Worker::builder().endpoint(ECHO, echo)).unwrap();
        let large = vec![7; 3 << 20];
        let answer = stage.call(CallRequest::new(ECHO, large.clone())).unwrap().collect().await.unwrap();
        assert_eq!(answer, [large]);

        let mut call = stage.call(CallRequest::streaming(ECHO)).unwrap();
        for item in ["a", "b"] {
            call.send(item).await.unwrap();
            assert_eq!(call.next().await.unwrap().unwrap(), item);
        }
        call.finish().await;
        assert_eq!(call.next().await, None);

        let Err(CallError::Failed { class, message, .. }) =
            stage.call(CallRequest::new(ECHO, "bad")).unwrap().collect().await
        else {
            panic!("a panic is no end");
        };
        assert_eq!((class, &*message), (Class::Internal, "the handler panicked: on purpose"));
        assert_eq!(stage.call(CallRequest::new(ECHO, "good")).unwrap().collect().await.unwrap(), ["good"]);
        let unknown = stage.call(CallRequest::new("test.staged.other", "")).unwrap_err();
        assert!(matches!(unknown, Error::Call(CallError::NoInstances)), "{unknown:?}");
    });
}

#[test]
fn a_staged_call_is_stopped_killed_dropped_and_runs_out_of_time() {
    runtime().block_on(async {
        let seen = Seen::default();
        let stage = Stage::new(Worker::builder().endpoint(COUNT, counting(&seen)).endpoint(ECHO, echo)).unwrap();
        let mut call = stage.call(CallRequest::new(COUNT, "")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "0");
        call.stop();
        assert_eq!(call.collect().await.unwrap().last().unwrap(), "stopped");

        let mut call = stage.call(CallRequest::new(COUNT, "")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "0");
        call.kill();
        assert_eq!(call.collect().await, Err(CallError::Cancelled));

        let begun = Instant::now();
        let timeout = Duration::from_millis(40);
        let call = stage.call(CallRequest::streaming(ECHO).with_timeout(timeout)).unwrap();
        assert_eq!(call.collect().await, Err(CallError::DeadlineExceeded));
        assert!(begun.elapsed() >= timeout);

        let mut call = stage.call(CallRequest::new(COUNT, "")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "0");
        drop(call);
        // Another call moves the stage on.
        assert_eq!(stage.call(CallRequest::new(ECHO, "x")).unwrap().collect().await.unwrap(), ["x"]);
        assert_eq!((seen.started(), seen.gone()), (3, 3));

        let mut call = stage.call(CallRequest::new(COUNT, "")).unwrap();
        assert_eq!(call.next().await.unwrap().unwrap(), "0");
        drop((call, stage));
        assert_eq!(seen.gone(), 4, "nothing outlives its stage");
    });
}

#[test]
fn values_and_handlers_on_a_runtime_are_staged_as_well() {
    runtime().block_on(async {
        let sum = |numbers: Vec<u64>, out: TypedResponder<u64>| async move { out.send(&numbers.iter().sum()).await };
        let seen = Seen::default();
        let inside = seen.clone();
        let there = move |mut request: Request<Remote>, out: Responder<Remote>| {
            let here = inside.enter();
            async move {
                let _here = here;
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(out.send(request.body().await?).await?)
            }
        };
        let own = tokio::runtime::Handle::current();
        let builder = Worker::builder().typed_endpoint(SUM, sum).endpoint_on(own, THERE, there);
        let stage = Stage::new(builder).unwrap();
        for codec in Codec::ALL {
            let call = stage.call(CallRequest::typed_in(codec, SUM, &[1, 2, 39]).unwrap()).unwrap();
            assert_eq!(call.collect_as::<u64>().await.unwrap(), [42], "{codec:?}");
        }
        assert_eq!(stage.call(CallRequest::new(THERE, "x")).unwrap().collect().await.unwrap(), ["x"]);
        until("its task is gone", || seen.gone() == 1).await;
    });
}
