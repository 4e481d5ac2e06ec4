//! What a burst took is given back when it is over.

use std::time::{Duration, Instant};

use ringplane::{CallRequest, Failure, Request, Responder, Snapshot, Worker};

use crate::facade::child::in_children;
use crate::facade::support::{connect, drivers, end_worker, on, place, resident, runtime, serve, until, until_worker};

const LARGE: &str = "test.bursts.large";
const CALLS: usize = 170;
const ITEM: usize = 8 << 20;

async fn large(_: Request, out: Responder) -> Result<(), Failure> {
    Ok(out.send(vec![7; ITEM]).await?)
}

#[test]
fn memory_of_a_burst_of_large_answers_is_given_back_within_a_minute() {
    const MINUTE: Duration = Duration::from_secs(60);
    in_children(&["io-uring", "tokio", "monoio", "tokio-uring"], |role| {
        let driver = role.parse().unwrap();
        if !drivers().any(|known| known == driver) {
            return;
        }
        runtime().block_on(async {
            let place = place();
            let worker = serve(Worker::builder().endpoint(LARGE, large), &place, on(driver)).await;
            let client = connect(&place, on(driver));
            let before = resident();
            let calls: Vec<_> = (0..CALLS).map(|_| client.call(CallRequest::new(LARGE, "")).unwrap()).collect();
            let mut most = 0;
            until("as much is held as may be", || {
                let now = resident();
                let grows = now > most;
                most = now.max(most);
                !grows && now > before + (100 << 20)
            })
            .await;
            drop(calls);
            client.shutdown().await;
            until_worker("all is over", &worker, Snapshot::is_idle).await;
            let over = Instant::now();
            let mut last = usize::MAX;
            while last > before + (64 << 20) && over.elapsed() < MINUTE {
                tokio::time::sleep(Duration::from_millis(50)).await;
                last = resident();
            }
            println!(
                "measured: {driver:?}: {} MiB before, {} at the most, {} after {:?}",
                before >> 20,
                most >> 20,
                last >> 20,
                over.elapsed()
            );
            end_worker(worker).await;
            assert!(last <= before + (64 << 20), "{driver:?}: {last} bytes");
        });
    });
}
