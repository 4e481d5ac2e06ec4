//! One endpoint of a worker that is drained while the worker serves others, and served again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ringplane::{
    CallError, CallRequest, Client, Codec, Config, DriverChoice, Error, Failure, Request, Responder, Worker, discovery,
};
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::id::{EndpointId, InstanceId};
use tokio::sync::Semaphore;

use crate::facade::support::{both, clients, connect, end_client, end_worker, on, place, runtime, serve, until};

const ONE: &str = "test.drained.one";
const TWO: &str = "test.drained.two";

/// A request of `1` is answered once there is a permit, others at once.
async fn answer(
    mut request: Request,
    out: Responder,
    permits: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
) -> Result<(), Failure> {
    if &request.body().await?[..] == b"1" {
        held.fetch_add(1, Ordering::SeqCst);
        permits.acquire().await.map_err(Failure::internal)?.forget();
    }
    Ok(out.send("7").await?)
}

/// A worker of two endpoints, the permits of its answers, and how many calls wait for one.
async fn worker(place: &str, config: Config) -> (Worker, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (permits, held) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let handler = || {
        let (permits, held) = (permits.clone(), held.clone());
        move |request: Request, out: Responder| answer(request, out, permits.clone(), held.clone())
    };
    let builder = Worker::builder().codec(Codec::Json).endpoint(ONE, handler()).endpoint(TWO, handler());
    (serve(builder, place, config).await, permits, held)
}

async fn ask(client: &Client, endpoint: &str, at: Option<InstanceId>) -> Result<(), CallError> {
    let mut request = CallRequest::new(endpoint, "0");
    if let Some(id) = at {
        request = request.with_instance(id);
    }
    client.call(request).unwrap().collect().await.map(drop)
}

async fn instances(place: &str) -> usize {
    let endpoint = EndpointId::parse(ONE).unwrap();
    discovery::open(place).unwrap().endpoints().list(Query::Endpoint(endpoint)).await.unwrap().len()
}

#[test]
fn callers_of_a_drained_endpoint_go_elsewhere_while_its_sibling_serves_and_find_it_again() {
    both(async |driver| {
        let place = place();
        let (drained, permits, held) = worker(&place, on(driver)).await;
        let (other, ..) = worker(&place, on(driver)).await;
        for client in clients(&place, driver) {
            let begun = held.load(Ordering::SeqCst);
            let at = drained.instance_id();
            let mut running = client.call(CallRequest::new(ONE, "1").with_instance(at)).unwrap();
            until("the call runs", || held.load(Ordering::SeqCst) > begun).await;
            let over = Arc::<AtomicBool>::default();
            let calling = tokio::spawn({
                let (client, over) = (client.clone(), over.clone());
                async move {
                    loop {
                        ask(&client, ONE, None).await.unwrap();
                        if over.load(Ordering::SeqCst) {
                            return;
                        }
                    }
                }
            });
            let draining = drained.drain_endpoint(ONE);
            let mut draining = std::pin::pin!(draining);
            let mut gone = std::pin::pin!(async {
                while instances(&place).await > 1 || ask(&client, ONE, Some(at)).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            });
            tokio::select! {
                biased;
                cut_off = &mut draining => panic!("a call still runs: {cut_off:?}"),
                () = &mut gone => {}
            }
            ask(&client, TWO, Some(at)).await.unwrap();
            permits.add_permits(1);
            assert_eq!(draining.await.unwrap(), 0);
            assert_eq!(running.next().await.unwrap().unwrap(), "7");
            assert_eq!(running.next().await, None);
            drained.resume_endpoint(ONE).await.unwrap();
            assert_eq!(instances(&place).await, 2);
            let mut answered = false;
            while !answered {
                answered = ask(&client, ONE, Some(at)).await.is_ok();
            }
            over.store(true, Ordering::SeqCst);
            calling.await.unwrap();
            drop(running);
            end_client(client.clone()).await;
        }
        end_worker(other).await;
        end_worker(drained).await;
    });
}

#[test]
fn what_runs_too_long_at_a_drained_endpoint_is_ended_and_counted_and_a_resume_ends_the_wait() {
    both(async |driver| {
        let place = place();
        let mut config = on(driver);
        config.worker.drain_timeout = Duration::from_millis(30);
        let (worker, _, held) = worker(&place, config).await;
        let client = connect(&place, on(driver));
        let mut long = client.call(CallRequest::new(ONE, "1")).unwrap();
        until("the call runs", || held.load(Ordering::SeqCst) == 1).await;
        assert_eq!(worker.drain_endpoint(ONE).await.unwrap(), 1);
        let error = long.next().await.unwrap().unwrap_err();
        assert!(error.is_migratable(), "{error:?}");
        assert!(matches!(worker.drain_endpoint("test.drained.none").await, Err(Error::NotServed(_))));
        assert!(matches!(worker.resume_endpoint("test.drained.none").await, Err(Error::NotServed(_))));
        worker.resume_endpoint(ONE).await.unwrap();
        ask(&client, ONE, None).await.unwrap();
        worker.drain().await;
        assert!(matches!(worker.resume_endpoint(ONE).await, Err(Error::Stopped)));
        drop(long);
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn an_endpoint_that_discovery_does_not_take_back_is_not_told_to_those_that_ask_either() {
    runtime().block_on(async {
        let place = place();
        let (worker, ..) = worker(&place, on(DriverChoice::Tokio)).await;
        let health = worker.health();
        let states = || health.endpoints().iter().map(|one| one.state.name()).collect::<Vec<_>>();
        let names = health.endpoints().into_iter().map(|one| one.endpoint).collect::<Vec<_>>();
        assert!(health.is_ready() && names == [ONE, TWO], "{names:?}");
        worker.drain_endpoint(ONE).await.unwrap();
        assert_eq!((states(), health.is_ready()), (vec!["drained", "ready"], false));
        let addr = "127.0.0.1:9".parse().unwrap();
        let other = Instance::new(worker.instance_id(), EndpointId::parse(ONE).unwrap(), addr);
        let other = discovery::open(&place).unwrap().endpoints().register(other).await.unwrap();
        assert!(matches!(worker.resume_endpoint(ONE).await, Err(Error::Discovery(_))));
        assert_eq!(states(), ["unregistered", "ready"]);
        let client = connect(&format!("static:{}", worker.addr()), on(DriverChoice::Tokio));
        ask(&client, TWO, None).await.unwrap();
        assert_eq!((client.instances(ONE).await.unwrap(), client.instances(TWO).await.unwrap().len()), (vec![], 1));
        other.unregister().await.unwrap();
        worker.resume_endpoint(ONE).await.unwrap();
        assert!(health.is_ready());
        ask(&client, ONE, None).await.unwrap();
        end_client(client).await;
        end_worker(worker).await;
        assert_eq!(states(), ["leaving", "leaving"]);
    });
}
