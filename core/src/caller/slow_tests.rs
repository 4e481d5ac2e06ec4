//! Which instances calls keep away from because they are slow, or fail fast.

use std::collections::VecDeque;

use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::request::{EndpointKey, Request};
use crate::id::InstanceId;
use crate::mux::event::Ending;
use crate::retry::backoff;
use crate::route::policy::any::AnyPolicy;
use crate::tests::net::{Net, millis, request, secs};
use crate::wire::class::Class;
use crate::wire::mux::message::RejectCode;
use crate::worker;

/// An endpoint of a policy of this name, with the first two sites.
fn endpoint(net: &mut Net, policy: &str) -> EndpointKey {
    let endpoint = net.caller().endpoint(AnyPolicy::from_name(policy).unwrap());
    net.instances(endpoint, &[1, 2]);
    endpoint
}

/// How many of a hundred calls, one after the other, reach worker 1, which fails each at once with `class`; worker 2 takes its
/// time.
fn drawn(config: Config, policy: &str, class: Class) -> usize {
    let mut net = Net::new(config, worker::Config::default(), 2);
    net.sites[1].echoes = false;
    net.sites[2].echoes = false;
    let endpoint = endpoint(&mut net, policy);
    let (mut failed, mut running) = (0, VecDeque::new());
    for round in 0..100 {
        let call = net.call(endpoint, request("x"));
        net.pump();
        let now = net.now;
        if let Some(job) = net.sites[1].jobs.pop_front() {
            net.worker(1).finish(job, Ending::failed(class, "", ""), now);
            net.pump();
            assert!(matches!(net.outcome(call), Err(CallError::Failed { .. })));
            net.release(call);
            failed += 1;
        } else {
            running.push_back((round, call));
        }
        net.advance(millis(20));
        if running.front().is_some_and(|(since, _)| since + 3 <= round) {
            let (now, job) = (net.now, net.sites[2].jobs.pop_front().unwrap());
            net.worker(2).finish(job, Ending::ok(), now);
            net.pump();
            let (_, call) = running.pop_front().unwrap();
            assert_eq!(net.outcome(call), Ok(()));
            net.release(call);
        }
    }
    failed
}

#[test]
fn a_worker_that_fails_at_once_does_not_draw_the_calls_of_one_that_works() {
    for policy in ["least-loaded", "power-of-two", "peak-ewma"] {
        let off = Config { penalty: millis(0), ..Config::default() };
        let hole = drawn(off, policy, Class::Internal);
        assert!(hole > 70, "{policy}: without a penalty it does, {hole}");
        let few = drawn(Config::default(), policy, Class::Internal);
        assert!(few < 50, "{policy}: {few}");
        let wrong = drawn(Config::default(), policy, Class::InvalidRequest);
        assert!(wrong > 70, "{policy}: requests that are wrong say nothing of it, {wrong}");
    }
}

#[test]
fn a_worker_that_refuses_counts_as_loaded_for_as_long_as_it_asks() {
    let full = worker::Config { max_running: 1, max_queued: 0, retry_after: secs(5), ..worker::Config::default() };
    let once = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let mut net = Net::new(Config { backoff: once, ..Config::default() }, full, 2);
    net.sites[1].echoes = false;
    let endpoint = endpoint(&mut net, "least-loaded");
    let directly = || Request { direct: Some(InstanceId(1)), ..request("x") };
    let (busy, refused) = (net.call(endpoint, directly()), net.call(endpoint, directly()));
    net.pump();
    assert!(matches!(net.outcome(refused), Err(CallError::Rejected { code: RejectCode::Overloaded, .. })));
    let (now, job) = (net.now, net.sites[1].jobs.pop_front().unwrap());
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!(net.outcome(busy), Ok(()));

    let mut reached = [0; 2];
    for round in &mut reached {
        for _ in 0..30 {
            let call = net.call(endpoint, request("x"));
            net.pump();
            let now = net.now;
            if let Some(job) = net.sites[1].jobs.pop_front() {
                net.worker(1).finish(job, Ending::ok(), now);
                net.pump();
                *round += 1;
            }
            assert_eq!(net.outcome(call), Ok(()));
            net.release(call);
        }
        net.advance(secs(5));
    }
    assert!(reached[0] == 0 && (1..30).contains(&reached[1]), "{reached:?}");
}
