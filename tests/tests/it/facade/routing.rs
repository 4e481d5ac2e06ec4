//! A policy of the application's own, and calls that say where they may go.

use std::collections::BTreeSet;

use ringplane::{CallError, CallRequest, Client, Failure, Request, Responder, Worker};
use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::route::policy::custom::Custom;
use ringplane_core::route::policy::pick::{Ask, Eligible, Pick};

use crate::facade::support::{both, connect, end_client, end_worker, on, place, serve};

const NAME: &str = "test.routing.name";

/// The instance whose place among the eligible the affinity names.
struct ByAffinity;

impl Pick for ByAffinity {
    fn choose(&mut self, ask: &Ask, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        eligible.nth(usize::try_from(ask.affinity?).ok()? % eligible.len())
    }
}

/// Who answers.
async fn who(client: &Client, request: CallRequest) -> Result<u8, CallError> {
    let items = client.call(request).unwrap().collect().await?;
    Ok(items[0][0])
}

#[test]
fn calls_of_one_affinity_meet_at_one_instance_and_stay_among_those_allowed() {
    both(async |driver| {
        let place = place();
        let mut workers = Vec::new();
        for number in 0..3 {
            let naming =
                move |_: Request, out: Responder| async move { Ok::<_, Failure>(out.send(vec![number]).await?) };
            workers.push(serve(Worker::builder().endpoint(NAME, naming), &place, on(driver)).await);
        }
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
