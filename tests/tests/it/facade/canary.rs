//! Endpoints that their own worker asks whether they answer: those that do not are found no more until they do.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ringplane::{
    CallError, CallRequest, Client, Codec, Config, DriverChoice, EndpointState, Error, Failure, Request, Responder,
    Snapshot, Worker, discovery,
};
use ringplane_core::discovery::key::Query;
use ringplane_core::id::EndpointId;
use tokio::sync::Semaphore;

use crate::facade::support::{both, connect, end_client, end_worker, on, place, runtime, serve, until, until_worker};

const ONE: &str = "test.canary.one";
const TWO: &str = "test.canary.two";
const CANARY: &str = "\"canary\"";
const HOLD: &str = "\"hold\"";

const WELL: u8 = 0;
const HANGS: u8 = 1;
const FAILS: u8 = 2;
const BLOCKS: u8 = 3;

/// What a handler does with the canary, and what one that blocks its core waits for.
#[derive(Default)]
struct Mood {
    now: AtomicU8,
    free: Mutex<bool>,
    freed: Condvar,
}

impl Mood {
    fn set(&self, mood: u8) {
        self.now.store(mood, Ordering::SeqCst);
        *self.free.lock().unwrap() = mood != BLOCKS;
        self.freed.notify_all();
    }

    async fn answer(&self, mut request: Request, out: Responder) -> Result<(), Failure> {
        let body = request.body().await?;
        if body == CANARY {
            match self.now.load(Ordering::SeqCst) {
                HANGS => std::future::pending().await,
                FAILS => return Err(Failure::internal("out of memory")),
                BLOCKS => drop(self.freed.wait_while(self.free.lock().unwrap(), |free| !*free).unwrap()),
                _ => {}
            }
        }
        Ok(out.send(body).await?)
    }

    /// The same, and holds calls that are no canaries until there is a permit.
    async fn answer_or_hold(
        &self,
        mut request: Request,
        out: Responder,
        held: &AtomicUsize,
        permits: &Semaphore,
    ) -> Result<(), Failure> {
        if request.body().await? == CANARY {
            return if self.now.load(Ordering::SeqCst) == FAILS { Err(Failure::internal("never")) } else { Ok(()) };
        }
        held.fetch_add(1, Ordering::SeqCst);
        permits.acquire().await.map_err(Failure::internal)?.forget();
        Ok(out.send("1").await?)
    }
}

/// Canaries that follow one another quickly, and have longer than a busy machine takes.
fn config(driver: DriverChoice) -> Config {
    let mut config = on(driver);
    config.worker.canary.enabled = true;
    config.worker.canary.wait = Duration::from_millis(20);
    config.worker.canary.timeout = Duration::from_millis(250);
    config
}

async fn listed(place: &str, endpoint: &str) -> bool {
    let endpoint = EndpointId::parse(endpoint).unwrap();
    !discovery::open(place).unwrap().endpoints().list(Query::Endpoint(endpoint)).await.unwrap().is_empty()
}

/// Waits until an endpoint of the worker is in this state, and discovery agrees.
async fn until_state(worker: &Worker, place: &str, endpoint: &str, state: EndpointState) {
    let health = worker.health();
    let holds = || health.endpoints().iter().any(|one| one.endpoint == endpoint && one.state == state);
    let agree = async {
        while !(holds() && listed(place, endpoint).await == state.is_ready()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), agree).await.unwrap_or_else(|_| panic!("{:?}", health.endpoints()));
}

#[test]
fn an_endpoint_that_hangs_fails_or_holds_its_core_is_found_no_more_until_it_answers() {
    both(async |driver| {
        let (place, mood) = (place(), Arc::<Mood>::default());
        let handler = {
            let mood = mood.clone();
            move |request: Request, out: Responder| {
                let mood = mood.clone();
                async move { mood.answer(request, out).await }
            }
        };
        let builder = Worker::builder().codec(Codec::Json).endpoint(ONE, handler).canary(ONE, CANARY);
        let idle = |_: Request, _: Responder| async { Ok(()) };
        let worker = serve(builder.endpoint(TWO, idle), &place, config(driver)).await;
        let client = connect(&place, on(driver));
        for ill in [HANGS, FAILS, BLOCKS] {
            until_state(&worker, &place, ONE, EndpointState::Ready).await;
            mood.set(ill);
            until_state(&worker, &place, ONE, EndpointState::Unhealthy).await;
            assert!(!worker.health().is_ready());
            until_state(&worker, &place, TWO, EndpointState::Ready).await;
            mood.set(WELL);
            until_state(&worker, &place, ONE, EndpointState::Ready).await;
            assert_eq!(client.call(CallRequest::new(ONE, "7")).unwrap().collect().await.unwrap(), [Bytes::from("7")]);
        }
        let seen = until_worker("canaries are answered", &worker, |all| all.canaries.answered > 0).await.canaries;
        assert!(seen.late >= 2 && seen.failed >= 1 && seen.withdrawn >= 3 && seen.returned >= 3, "{seen:?}");
        worker.drain_endpoint(ONE).await.unwrap();
        let enough = seen.sent + 3;
        until_worker("canaries go on", &worker, |all| all.canaries.sent >= enough).await;
        until_state(&worker, &place, ONE, EndpointState::Drained).await;
        worker.resume_endpoint(ONE).await.unwrap();
        until_state(&worker, &place, ONE, EndpointState::Ready).await;
        end_client(client).await;
        end_worker(worker).await;
    });
}

/// Calls until there is room, and reads the answer.
async fn hold(client: Client) {
    loop {
        match client.call(CallRequest::new(ONE, HOLD)).unwrap().collect().await {
            Ok(items) => return assert_eq!(items, ["1"]),
            Err(error) => assert!(matches!(error, CallError::Rejected { .. }), "{error:?}"),
        }
    }
}

#[test]
fn want_of_room_says_nothing_of_an_endpoint_and_an_answer_to_a_caller_that_it_is_well() {
    runtime().block_on(async {
        let (place, mood) = (place(), Arc::<Mood>::default());
        let (held, permits) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
        let handler = {
            let (mood, held, permits) = (mood.clone(), held.clone(), permits.clone());
            move |request: Request, out: Responder| {
                let (mood, held, permits) = (mood.clone(), held.clone(), permits.clone());
                async move { mood.answer_or_hold(request, out, &held, &permits).await }
            }
        };
        let mut config = config(DriverChoice::Tokio);
        (config.worker.max_running, config.worker.max_queued) = (2, 0);
        // Here none is to be late.
        config.worker.canary.timeout = Duration::from_secs(20);
        let worker = serve(Worker::builder().endpoint(ONE, handler).canary(ONE, CANARY), &place, config).await;
        let client = connect(&place, on(DriverChoice::Tokio));
        let calls = [tokio::spawn(hold(client.clone())), tokio::spawn(hold(client.clone()))];
        until("both places are taken", || held.load(Ordering::SeqCst) == 2).await;
        let before = worker.snapshot().await.unwrap().canaries;
        let told = |all: &Snapshot| all.canaries.untold >= before.untold + 2;
        let seen = until_worker("canaries find no room", &worker, told).await.canaries;
        assert_eq!(seen.withdrawn, before.withdrawn);
        mood.set(FAILS);
        permits.add_permits(1);
        until_state(&worker, &place, ONE, EndpointState::Unhealthy).await;
        let before = worker.snapshot().await.unwrap().canaries.returned;
        permits.add_permits(1);
        until_worker("the second answer counts", &worker, |all| all.canaries.returned > before).await;
        for call in calls {
            call.await.unwrap();
        }
        end_client(client).await;
        end_worker(worker).await;
    });
}

#[test]
fn a_canary_for_an_endpoint_that_is_not_served_is_refused_and_without_the_switch_none_is_sent() {
    runtime().block_on(async {
        let idle = |_: Request, _: Responder| async { Ok(()) };
        let builder = || Worker::builder().discovery(place()).endpoint(ONE, idle);
        let refused = builder().canary(TWO, CANARY).serve().await.map(drop);
        assert!(matches!(&refused, Err(Error::NotServed(name)) if name == TWO), "{refused:?}");
        let worker = builder().canary(ONE, CANARY).config(on(DriverChoice::Tokio)).serve().await.unwrap();
        assert_eq!(worker.snapshot().await.unwrap().canaries.sent, 0);
        end_worker(worker).await;
    });
}
