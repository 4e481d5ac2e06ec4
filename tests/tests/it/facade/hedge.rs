//! Calls that are made a second time when the first is slow to begin.

use std::time::Duration;

use ringplane::{
    CallError, CallRequest, Client, Codec, DriverChoice, Failure, Hedge, HedgeConfig, Request, Responder, Slow, Worker,
};

use crate::facade::support::{Seen, both, clients, end_client, end_worker, on, place, serve, until};

const NAME: &str = "test.hedge.name";
/// Calls that are made one after the other.
const CALLS: usize = 20;

/// A worker that never answers, and one that does at once.
async fn slow_and_fast(place: &str, driver: DriverChoice, slow: &Seen) -> [Worker; 2] {
    let seen = slow.clone();
    let never = move |_: Request, out: Responder| {
        let presence = seen.enter();
        async move {
            out.cancelled().await;
            drop(presence);
            Ok::<_, Failure>(())
        }
    };
    let at_once = |_: Request, out: Responder| async move {
        out.send("1").await?;
        out.send("2").await?;
        Ok::<_, Failure>(())
    };
    let builder = || Worker::builder().codec(Codec::Json);
    let slow = serve(builder().endpoint(NAME, never), place, on(driver)).await;
    [slow, serve(builder().endpoint(NAME, at_once), place, on(driver)).await]
}

fn after(time: Duration, share: u8) -> Hedge {
    Hedge::new(HedgeConfig { slow: Slow::After(time), share })
}

async fn hedged(client: &Client) -> u64 {
    client.snapshot().await.unwrap().called.hedged
}

#[test]
fn a_call_that_is_slow_to_begin_is_answered_by_another_worker_and_its_loser_is_killed() {
    both(async |driver| {
        let (place, seen) = (place(), Seen::default());
        let workers = slow_and_fast(&place, driver, &seen).await;
        for client in clients(&place, driver) {
            let hedge = after(Duration::from_millis(5), 100);
            let before = seen.started();
            for _ in 0..CALLS {
                let call = client.call_hedged(CallRequest::new(NAME, "0"), &hedge).unwrap();
                assert_eq!(call.collect().await.unwrap(), ["1", "2"], "the items of one worker");
            }
            let slow = seen.started() - before;
            assert!(slow > 0, "the slow one was never met, so this has shown nothing");
            // One that is fast may be made again too, on a machine that has other things to do.
            assert!(hedged(&client).await >= slow as u64);
            until("the losers are gone", || seen.gone() == seen.started()).await;
            end_client(client).await;
        }
        for worker in workers {
            end_worker(worker).await;
        }
    });
}

#[test]
fn a_call_for_one_instance_and_one_beyond_the_share_are_made_once() {
    both(async |driver| {
        let (place, seen) = (place(), Seen::default());
        let [slow, fast] = slow_and_fast(&place, driver, &seen).await;
        for client in clients(&place, driver) {
            // Both are known once one has answered.
            let first = CallRequest::new(NAME, "0").with_allowed([fast.instance_id()]);
            client.call(first).unwrap().collect().await.unwrap();
            for share in [0, 100] {
                let mut request = CallRequest::new(NAME, "0").with_timeout(Duration::from_millis(60));
                request = request.with_allowed([slow.instance_id()]);
                if share == 100 {
                    request = request.with_instance(slow.instance_id());
                }
                let call = client.call_hedged(request, &after(Duration::ZERO, share)).unwrap();
                assert_eq!(call.collect().await, Err(CallError::DeadlineExceeded));
            }
            assert_eq!(hedged(&client).await, 0);
            let request = CallRequest::streaming(NAME);
            assert!(matches!(
                client.call_hedged(request, &after(Duration::ZERO, 100)),
                Err(ringplane::Error::NotWhole)
            ));
            let mut call =
                client.call_hedged(CallRequest::new(NAME, "0"), &after(Duration::from_secs(60), 100)).unwrap();
            call.kill();
            // It may have been answered before.
            if let Some(item) = call.next().await {
                assert!(item.is_ok() || item == Err(CallError::Cancelled), "{item:?}");
            }
            drop(call);
            end_client(client).await;
        }
        end_worker(slow).await;
        end_worker(fast).await;
    });
}
