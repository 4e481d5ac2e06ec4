//! Answers that go on at another worker: each item once and in order, and not after what the application has answered.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ringplane::{
    CallError, CallRequest, Class, Client, Codec, Config, DriverChoice, Failure, KeepAll, MigratingCall,
    MigrationConfig, Onward, Request, Responder, Resume, Snapshot, Worker,
};
use ringplane_core::retry::budget;

use crate::facade::support::{
    both, clients, connect, end_client, end_worker, on, place, runtime, serve, until_client, until_worker,
};

const COUNT: &str = "test.migrate.count";
/// The items of a whole answer.
const ALL: u32 = 20;
/// Those of a worker that stops there and waits for its end.
const SOME: u32 = 5;

/// Counts from the number of the request up to `until`; a whole answer ends there, another waits to be ended.
async fn count(mut request: Request, out: Responder, until: u32) -> Result<(), Failure> {
    let body = request.body().await?;
    let first: u32 = String::from_utf8_lossy(&body).parse().map_err(Failure::invalid)?;
    for number in first..until {
        out.send(number.to_string()).await?;
    }
    if until < ALL {
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn counts_to(until: u32, place: &str, config: Config) -> Worker {
    // Numbers in JSON: in Dynamo's protocol an item is a value.
    let builder = Worker::builder().codec(Codec::Json);
    serve(builder.endpoint(COUNT, move |request, out| count(request, out, until)), place, config).await
}

/// The request for the items behind those that have come.
fn behind(request: &CallRequest, items: &[Bytes]) -> Onward {
    Onward::Request(request.clone().with_body(items.len().to_string()))
}

type Counting = MigratingCall<KeepAll<fn(&CallRequest, &[Bytes]) -> Onward>>;

fn begin(client: &Client, request: CallRequest, config: MigrationConfig) -> Counting {
    client.call_migrating(request, config, KeepAll::new(behind as fn(&_, &_) -> _)).unwrap()
}

fn from_zero() -> CallRequest {
    CallRequest::new(COUNT, "0")
}

/// Takes so many items, which are the next in order.
async fn take<R: Resume>(call: &mut MigratingCall<R>, first: u32, many: u32) {
    for number in first..first + many {
        assert_eq!(call.next().await.unwrap().unwrap(), number.to_string());
    }
}

/// Waits until a client knows a worker.
async fn until_known(client: &Client, worker: &Worker) {
    let known = async {
        while !client.instances(COUNT).await.unwrap().iter().any(|one| one.id == worker.instance_id()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.expect("the client never learns of the worker");
}

/// How a worker leaves its calls.
#[derive(Copy, Clone, Debug)]
enum Way {
    /// It drops everything.
    Dropped,
    /// It drains, for less time than its calls need.
    Drained,
}

#[test]
fn an_answer_goes_on_where_it_broke_off_however_often_its_workers_leave() {
    for way in [Way::Dropped, Way::Drained] {
        both(async |driver| {
            let place = place();
            for client in clients(&place, driver) {
                let mut short = on(driver);
                short.worker.drain_timeout = Duration::from_millis(20);
                let mut worker = counts_to(SOME, &place, short.clone()).await;
                let mut call = begin(&client, from_zero(), MigrationConfig::default());
                take(&mut call, 0, SOME).await;
                for until in [2 * SOME, 3 * SOME, ALL] {
                    let next = counts_to(until, &place, short.clone()).await;
                    until_known(&client, &next).await;
                    match way {
                        Way::Dropped => drop(worker),
                        Way::Drained => assert_eq!(worker.drain().await, 1, "the call under way is cut off"),
                    }
                    take(&mut call, until - SOME, SOME).await;
                    worker = next;
                }
                assert_eq!((call.next().await, call.migrations()), (None, 3));
                let called = client.snapshot().await.unwrap().called;
                assert_eq!(called.continued, 3, "{way:?}: {called:?}");
                drop(call);
                end_client(client).await;
                drop(worker);
            }
        });
    }
}

/// Answers two items, then as the request says.
async fn fail(mut request: Request, out: Responder) -> Result<(), Failure> {
    let how = request.body().await?;
    out.send("0").await?;
    out.send("1").await?;
    match &how[..] {
        b"internal" => Err(Failure::internal("it is broken")),
        b"leaving" => Err(Failure::new(Class::Unavailable, "backend.engine_shutdown", "it leaves")),
        _ => Err(Failure::new(Class::Unavailable, "backend.unavailable", "what is behind it is gone")),
    }
}

#[test]
fn what_a_handler_answers_is_final_unless_it_says_that_its_worker_leaves() {
    both(async |driver| {
        let place = place();
        let worker = serve(Worker::builder().endpoint(COUNT, fail), &place, on(driver)).await;
        for client in clients(&place, driver) {
            for (how, times) in [("internal", 0), ("behind", 0), ("leaving", 2)] {
                let resume = KeepAll::new(|request: &CallRequest, _: &[Bytes]| Onward::Request(request.clone()));
                let config = MigrationConfig { limit: 2, ..MigrationConfig::default() };
                let mut call = client.call_migrating(CallRequest::new(COUNT, how), config, resume).unwrap();
                for _ in 0..=times {
                    take(&mut call, 0, 2).await;
                }
                let error = call.next().await.unwrap().unwrap_err();
                assert!(matches!(error, CallError::Failed { .. }), "{how}: {error:?}");
                assert_eq!((call.next().await, call.migrations()), (None, times), "{how}");
            }
            end_client(client).await;
        }
        end_worker(worker).await;
    });
}

/// What becomes of a call whose worker is dropped after its first items.
async fn broken<R: Resume>(
    driver: DriverChoice,
    config: Config,
    call: impl FnOnce(&Client, &Worker) -> MigratingCall<R>,
) {
    let place = place();
    let worker = counts_to(SOME, &place, on(driver)).await;
    let client = connect(&place, config);
    let mut call = call(&client, &worker);
    take(&mut call, 0, SOME).await;
    let other = counts_to(ALL, &place, on(driver)).await;
    drop(worker);
    let error = call.next().await.unwrap().unwrap_err();
    assert!(error.is_migratable(), "the error that broke it: {error:?}");
    assert_eq!(call.next().await, None);
    drop(call);
    let called = client.snapshot().await.unwrap().called;
    assert_eq!(called.continued, 0, "{called:?}");
    end_client(client).await;
    end_worker(other).await;
}

#[test]
fn a_call_does_not_go_on_beyond_its_bounds_and_its_error_is_the_one_that_broke_it() {
    both(async |driver| {
        let begins = |config| move |client: &Client, _: &Worker| begin(client, from_zero(), config);
        let defaults = MigrationConfig::default();
        broken(driver, on(driver), begins(MigrationConfig { limit: 0, ..defaults })).await;
        broken(driver, on(driver), begins(MigrationConfig { max_kept: 4 * 33, ..defaults })).await;
        broken(driver, on(driver), begins(MigrationConfig { within: Duration::ZERO, ..defaults })).await;
        broken(driver, on(driver), |client, worker| {
            begin(client, from_zero().with_instance(worker.instance_id()), defaults)
        })
        .await;
        broken(driver, on(driver), |client, _| {
            let resume = KeepAll::new(|_: &CallRequest, _: &[Bytes]| Onward::Impossible);
            client.call_migrating(from_zero(), defaults, resume).unwrap()
        })
        .await;
        let mut spent = on(driver);
        spent.caller.budget = budget::Config { max_tokens: 2, ..budget::Config::default() };
        broken(driver, spent, begins(defaults)).await;
    });
}

#[test]
fn an_answer_that_is_complete_when_its_worker_is_lost_ends_well() {
    both(async |driver| {
        for last in [None, Some(Bytes::from_static(b"that is all"))] {
            let place = place();
            let worker = counts_to(SOME, &place, on(driver)).await;
            let client = connect(&place, on(driver));
            let told = last.clone();
            let resume = KeepAll::new(move |_: &CallRequest, _: &[Bytes]| Onward::Complete(told.clone()));
            let mut call = client.call_migrating(from_zero(), MigrationConfig::default(), resume).unwrap();
            take(&mut call, 0, SOME).await;
            drop(worker);
            assert_eq!(call.next().await.transpose().unwrap(), last);
            assert_eq!(call.next().await, None);
            drop(call);
            end_client(client).await;
        }
    });
}

#[test]
fn a_deadline_and_a_kill_hold_for_all_workers_of_a_call_together() {
    both(async |driver| {
        let place = place();
        let patience = Duration::from_secs(30);
        let first = counts_to(SOME, &place, on(driver)).await;
        let client = connect(&place, on(driver));
        let mut call = begin(&client, from_zero().with_timeout(patience), MigrationConfig::default());
        let begun = Instant::now();
        take(&mut call, 0, SOME).await;
        let taken = begun.elapsed();
        // Says how much time is left, then nothing more.
        let left = |_: Request, out: Responder| async move {
            out.send(out.remaining().unwrap_or_default().as_micros().to_string()).await?;
            std::future::pending().await
        };
        let second = serve(Worker::builder().endpoint(COUNT, left), &place, on(driver)).await;
        drop(first);
        let left = call.next().await.unwrap().unwrap();
        let left = Duration::from_micros(String::from_utf8_lossy(&left).parse().unwrap());
        assert!(!left.is_zero() && left + taken <= patience, "{left:?} after {taken:?}");
        call.kill();
        assert_eq!(call.next().await.unwrap(), Err(CallError::Cancelled));
        assert_eq!((call.next().await, call.migrations()), (None, 1));
        drop(call);
        until_worker("the handler is gone", &second, |snapshot| snapshot.worker.jobs == 0).await;
        end_client(client).await;
        end_worker(second).await;
    });
}

#[test]
fn a_call_that_was_killed_goes_on_nowhere_and_one_that_waits_to_go_on_ends_with_the_kill() {
    both(async |driver| {
        let place = place();
        let worker = counts_to(SOME, &place, on(driver)).await;
        let mut config = on(driver);
        config.caller.instance_timeout = Duration::from_secs(60);
        let client = connect(&place, config);
        let mut call = begin(&client, from_zero(), MigrationConfig::default());
        take(&mut call, 0, SOME).await;
        drop(worker);
        // There is nobody to go on with: it waits.
        tokio::select! {
            biased;
            item = call.next() => panic!("{item:?}"),
            _ = until_client("it goes on", &client, |snapshot| snapshot.called.continued == 1) => {}
        }
        call.kill();
        assert_eq!(call.next().await.unwrap(), Err(CallError::Cancelled));
        drop(call);
        end_client(client).await;
    });
}

#[test]
fn values_are_read_across_workers_and_a_request_whose_items_follow_is_refused() {
    runtime().block_on(async {
        let (place, config) = (place(), on(DriverChoice::Tokio));
        let worker = counts_to(SOME, &place, config.clone()).await;
        let client = connect(&place, config.clone());
        let streaming =
            client.call_migrating(CallRequest::streaming(COUNT), MigrationConfig::default(), KeepAll::new(behind));
        assert!(matches!(streaming, Err(ringplane::Error::NotWhole)));
        let mut call = begin(&client, from_zero(), MigrationConfig::default()).typed::<u32>();
        for number in 0..SOME {
            assert_eq!(call.next().await.unwrap().unwrap(), number);
        }
        let other = counts_to(ALL, &place, config).await;
        drop(worker);
        assert_eq!(call.collect().await.unwrap(), (SOME..ALL).collect::<Vec<_>>());
        until_client("nothing is held", &client, Snapshot::is_idle).await;
        end_client(client).await;
        end_worker(other).await;
    });
}
