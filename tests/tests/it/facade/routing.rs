//! A policy of the application's own, and calls that say where they may go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringplane::{
    CallError, CallRequest, Client, Config, Endpoint, Error, Failure, InstanceState, InstanceView, Policy, Request,
    Responder, Worker,
};
use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Candidate, Eligible};
use ringplane_core::route::policy::custom::Custom;
use ringplane_core::route::policy::direct::Direct;
use ringplane_core::route::policy::pick::Pick;
use ringplane_core::route::policy::scored::{Filter, Scored};
use ringplane_core::route::policy::scorers::Figure;
use ringplane_core::time::Instant;
use tokio::sync::Semaphore;

use crate::facade::support::{both, connect, end_client, end_worker, on, place, serve};

const NAME: &str = "test.routing.name";

/// The instance whose place among the eligible the affinity names.
struct ByAffinity;

impl Pick for ByAffinity {
    fn choose(&mut self, ask: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        eligible.nth(usize::try_from(ask.affinity?).ok()? % eligible.len())
    }
}

/// Keeps the instances that serve the request's tenant.
struct Tenants;

impl Filter for Tenants {
    fn keeps(&self, ask: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        let tenant = ask.attributes.and_then(|attributes| attributes.get("tenant")?.parse().ok());
        tenant.is_none_or(|tenant: u64| candidate.figure("tenant", now) == Some(tenant))
    }
}

/// Who answers.
async fn who(client: &Client, request: CallRequest) -> Result<u8, CallError> {
    let items = client.call(request).unwrap().collect().await?;
    Ok(items[0][0])
}

/// Three workers that answer with their number.
async fn three(place: &str, config: Config) -> Vec<Worker> {
    let mut workers = Vec::new();
    for number in 0..3 {
        let naming = move |_: Request, out: Responder| async move { Ok::<_, Failure>(out.send(vec![number]).await?) };
        workers.push(serve(Worker::builder().endpoint(NAME, naming), place, config.clone()).await);
    }
    workers
}

#[test]
fn a_call_says_which_instance_answers_and_one_that_failed_where_it_was_tried() {
    both(async |driver| {
        let place = place();
        let workers = three(&place, on(driver)).await;
        let client = connect(&place, on(driver));
        for (number, worker) in workers.iter().enumerate() {
            let mut call = client.call(CallRequest::new(NAME, "x").with_instance(worker.instance_id())).unwrap();
            assert_eq!(call.next().await.unwrap().unwrap(), [u8::try_from(number).unwrap()][..]);
            let at = call.instance().unwrap();
            assert_eq!((at.instance, at.addr), (worker.instance_id(), Some(worker.addr())));
        }
        let mut nowhere = client.call(CallRequest::new(NAME, "x").with_instance(InstanceId(1))).unwrap();
        assert!(nowhere.next().await.unwrap().is_err());
        assert_eq!(nowhere.instance(), None, "it was sent nowhere");
        end_client(client).await;
        for worker in workers {
            end_worker(worker).await;
        }
    });
}

#[test]
fn calls_of_one_affinity_meet_at_one_instance_and_stay_among_those_allowed() {
    both(async |driver| {
        let place = place();
        let workers = three(&place, on(driver)).await;
        let client = Client::builder().discovery(&place).config(on(driver)).router(Custom::new(|| ByAffinity));
        let client = client.connect().unwrap();
        let request = |affinity| CallRequest::new(NAME, "x").with_affinity(affinity).with_cost(7);
        let mut seen = BTreeSet::new();
        for affinity in 0..3 {
            let first = who(&client, request(affinity)).await.unwrap();
            for _ in 0..20 {
                assert_eq!(who(&client, request(affinity)).await, Ok(first));
            }
            seen.insert(first);
        }
        assert_eq!(seen.len(), 3, "one each");

        let only: Vec<InstanceId> = workers.iter().take(1).map(Worker::instance_id).collect();
        let plain = connect(&place, on(driver));
        for affinity in 0..20 {
            let allowed = request(affinity).with_allowed(only.iter().copied());
            assert_eq!(who(&client, allowed.clone()).await, Ok(0));
            assert_eq!(who(&plain, allowed).await, Ok(0), "whatever the policy");
        }
        end_client(plain).await;
        end_client(client).await;
        for worker in workers {
            end_worker(worker).await;
        }
    });
}

#[test]
fn an_endpoint_with_a_policy_of_its_own_leaves_the_others_theirs() {
    both(async |driver| {
        let place = place();
        let workers = three(&place, on(driver)).await;
        let client = connect(&place, on(driver));
        let plain = client.endpoint(NAME).unwrap();
        let sticky = client.endpoint_with(NAME, Custom::new(|| ByAffinity)).unwrap();
        let last = client.endpoint_with(NAME, Policy::Direct(Direct(workers[2].instance_id()))).unwrap();
        let answer = async |endpoint: &Endpoint| {
            endpoint.call(CallRequest::item("x").with_affinity(1)).unwrap().collect().await.unwrap()[0][0]
        };
        let mut seen = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for _ in 0..9 {
            for (endpoint, seen) in [&plain, &sticky, &last].into_iter().zip(&mut seen) {
                seen.insert(answer(endpoint).await);
            }
        }
        assert_eq!((seen[0].len(), seen[1].len(), &seen[2]), (3, 1, &BTreeSet::from([2])));
        assert!(matches!(client.endpoint_with("no endpoint", Custom::new(|| ByAffinity)), Err(Error::Name(_))));
        end_client(client).await;
        assert!(matches!(last.call(CallRequest::item("x")), Err(Error::Stopped)));
        for worker in workers {
            end_worker(worker).await;
        }
    });
}

#[test]
fn a_client_shows_its_instances_with_their_calls_and_what_is_held_against_them() {
    both(async |driver| {
        let place = place();
        let mut workers = three(&place, on(driver)).await;
        let client = connect(&place, Config { cores: 2, ..on(driver) });
        let endpoint = client.endpoint(NAME).unwrap();
        let ids: BTreeSet<InstanceId> = workers.iter().map(Worker::instance_id).collect();
        let seen = until(&endpoint, |seen| seen.len() == 3 && seen.iter().all(|one| one.seen_by == 2)).await;
        assert_eq!(seen.iter().map(|one| one.id).collect::<BTreeSet<_>>(), ids);
        for one in &seen {
            assert_eq!((one.state, one.remaining, one.protocol), (InstanceState::Routable, None, "mux"));
            assert!(workers.iter().any(|worker| (worker.instance_id(), worker.addr()) == (one.id, one.addr)));
        }
        assert_eq!(client.instances(NAME).await.unwrap().len(), 3);
        for _ in 0..6 {
            who(&client, CallRequest::new(NAME, "x")).await.unwrap();
        }
        until(&endpoint, |seen| seen.iter().all(|one| one.in_flight == 0)).await;
        let snapshot = client.snapshot().await.unwrap();
        // One endpoint, known to both cores.
        assert_eq!(snapshot.instances.routable, 6);
        end_worker(workers.pop().unwrap()).await;
        until(&endpoint, |seen| seen.len() == 2).await;
        assert!(matches!(client.instances("no name").await, Err(Error::Name(_))));
        drop(endpoint);
        end_client(client).await;
        for worker in workers {
            end_worker(worker).await;
        }
    });
}

#[test]
fn a_policy_of_parts_goes_by_attributes_and_facts_and_fails_a_call_that_none_will_do_for() {
    both(async |driver| {
        let place = place();
        let workers = three(&place, on(driver)).await;
        let blocks = || Figure { name: "blocks".into(), most: 10 };
        let policy = Custom::new(move || Scored::new().filter(Tenants).score(1, blocks()));
        let client = Client::builder().discovery(&place).config(on(driver)).router(policy).connect().unwrap();
        let request = || CallRequest::new(NAME, "x");
        // The core that answers knows all three.
        who(&client, request()).await.unwrap();
        let lasting = Duration::from_secs(3600);
        for (number, worker) in (0..).zip(&workers) {
            for (name, value) in [("tenant", number / 2), ("blocks", number)] {
                assert!(client.set_fact(NAME, worker.instance_id(), name, value, lasting).await.unwrap());
            }
        }
        assert!(!client.set_fact(NAME, InstanceId(1), "blocks", 1, lasting).await.unwrap(), "nobody knows it");
        for (tenant, expected) in [("0", 1), ("1", 2)] {
            for _ in 0..10 {
                let answer = who(&client, request().with_routing_attribute("tenant", tenant)).await;
                assert_eq!(answer, Ok(expected), "the one with the most blocks of those of the tenant");
            }
        }
        let nobodys = request().with_routing_attribute("tenant", "7");
        assert_eq!(who(&client, nobodys).await, Err(CallError::NoneEligible));
        let large = request().with_routing_bytes(vec![0; 65_537]);
        assert_eq!(who(&client, large).await, Err(CallError::AttributesTooLarge));
        end_client(client).await;
        for worker in workers {
            end_worker(worker).await;
        }
    });
}

#[test]
fn a_caller_that_minds_places_knows_them_from_the_record_and_waits_until_one_is_free() {
    both(async |driver| {
        let place = place();
        let (go, gate) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let (open, started) = (go.clone(), gate.clone());
        let waits = move |_: Request, out: Responder| {
            let (open, started) = (open.clone(), started.clone());
            async move {
                started.fetch_add(1, Ordering::SeqCst);
                open.acquire().await.unwrap().forget();
                Ok::<_, Failure>(out.send("x").await?)
            }
        };
        let mut config = on(driver);
        (config.worker.max_running, config.worker.report_every) = (1, None);
        let worker = serve(Worker::builder().endpoint(NAME, waits), &place, config).await;
        let mut config = on(driver);
        config.caller.front.max_waiting = 1;
        let client = connect(&place, config);
        let mut calls: Vec<_> = (0..3).map(|_| client.call(CallRequest::new(NAME, "x")).unwrap()).collect();
        let refused = calls.pop().unwrap().collect().await;
        assert!(matches!(refused, Err(CallError::NoPlace { retry_after: Some(_), .. })), "{refused:?}");
        let snapshot = client.snapshot().await.unwrap();
        assert_eq!((snapshot.caller.waiting, snapshot.called.waited, snapshot.called.crowded_out), (1, 1, 1));
        go.add_permits(1);
        assert_eq!(calls.remove(0).collect().await.unwrap(), ["x"]);
        go.add_permits(1);
        assert_eq!(calls.remove(0).collect().await.unwrap(), ["x"]);
        assert_eq!(gate.load(Ordering::SeqCst), 2);
        assert_eq!(worker.snapshot().await.unwrap().served.overloaded, 0, "the worker never had more than it takes");
        end_client(client).await;
        end_worker(worker).await;
    });
}

/// What is seen of the endpoint's instances once it is as wanted.
async fn until(endpoint: &Endpoint, wanted: impl Fn(&[InstanceView]) -> bool) -> Vec<InstanceView> {
    for _ in 0..10_000 {
        let seen = endpoint.instances().await.unwrap();
        if wanted(&seen) {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("not as wanted: {:?}", endpoint.instances().await);
}
