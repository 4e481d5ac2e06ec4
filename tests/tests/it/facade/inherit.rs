//! What a handler's own calls take over from its request, and what its worker tells callers of its load.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Eligible};
use ringplane_core::route::load::Load;
use ringplane_core::route::policy::custom::Custom;
use ringplane_core::route::policy::pick::Pick;

use crate::facade::support::{both, connect, end_client, end_worker, on, place, serve};

const OUTER: &str = "test.inherit.outer";
const INNER: &str = "test.inherit.inner";

/// Says what its request has: milliseconds left, priority, tenant.
async fn inner(request: Request, out: Responder) -> Result<(), Failure> {
    let left = request.remaining().map_or(u128::MAX, |left| left.as_millis());
    let (priority, tenant) = (request.open().priority, request.open().tenant.unwrap_or("none"));
    Ok(out.send(format!("{left} {priority} {tenant}")).await?)
}

#[test]
fn a_call_made_within_a_request_has_its_time_its_tenant_and_its_priority() {
    both(async |driver| {
        let place = place();
        let client = Arc::new(connect(&place, on(driver)));
        let outer = {
            let client = client.clone();
            move |request: Request, out: Responder| {
                let client = client.clone();
                async move {
                    let plain = CallRequest::new(INNER, "x").with_timeout(Duration::from_secs(3600));
                    let own = plain.clone().with_priority(-1).with_tenant("own").within(&request);
                    for call in [plain.clone().within(&request), own, plain] {
                        let said = client.call(call).map_err(Failure::internal)?.collect().await?;
                        out.send(said.concat()).await?;
                    }
                    Ok(())
                }
            }
        };
        let worker = serve(Worker::builder().endpoint(OUTER, outer).endpoint(INNER, inner), &place, on(driver)).await;
        let asking = connect(&place, on(driver));
        let request = CallRequest::new(OUTER, "x").with_timeout(Duration::from_secs(50));
        let said = asking.call(request.with_priority(3).with_tenant("t")).unwrap().collect().await.unwrap();
        let said: Vec<_> = said.iter().map(|item| std::str::from_utf8(item).unwrap().split(' ').collect()).collect();
        let [inherits, own, plain]: [Vec<&str>; 3] = said.try_into().unwrap();
        assert_eq!([&inherits[1..], &own[1..], &plain[1..]], [["3", "t"], ["-1", "own"], ["0", "none"]]);
        let left = |said: &[&str]| said[0].parse::<u128>().unwrap();
        assert!(left(&inherits) <= 50_000 && left(&own) <= 50_000, "{inherits:?} {own:?}");
        assert!(left(&plain) > 50_000, "it has its own: {plain:?}");
        end_client(asking).await;
        end_worker(worker).await;
    });
}

/// Picks the first, and keeps what it knows of it.
struct Watching(Arc<Mutex<Option<Arc<Load>>>>);

impl Pick for Watching {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        let (index, candidate) = eligible.iter().next()?;
        self.0.lock().unwrap().clone_from(&candidate.load);
        Some(index)
    }
}

#[test]
fn a_workers_load_and_its_own_gauges_reach_the_policy_of_its_callers() {
    both(async |driver| {
        let (place, seen) = (place(), Arc::new(Mutex::new(None)));
        let mut config = on(driver);
        config.worker.max_running = 7;
        let worker = serve(Worker::builder().endpoint(INNER, inner), &place, config).await;
        let policy = {
            let seen = seen.clone();
            Custom::new(move || Watching(seen.clone()))
        };
        let client = Client::builder().discovery(&place).config(on(driver)).router(policy).connect().unwrap();
        let begun = Instant::now();
        for value in [11, 12] {
            worker.gauge("blocks", value).await.unwrap();
            loop {
                client.call(CallRequest::new(INNER, "x")).unwrap().collect().await.unwrap();
                let load = seen.lock().unwrap().clone();
                if let Some(load) = load.filter(|load| load.gauge("blocks") == Some(value)) {
                    assert_eq!((load.capacity, load.queued), (7, 0));
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(20), "no report of {value}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        end_client(client).await;
        end_worker(worker).await;
    });
}
