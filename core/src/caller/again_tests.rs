//! Calls made in place of others, or beside them: when they go out and where, and what they cost.

use std::boxed::Box;
use std::vec::Vec;

use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::request::{Again, Earlier, Request};
use crate::caller::target::Target;
use crate::id::InstanceId;
use crate::overload::throttle;
use crate::retry::{backoff, budget};
use crate::route::policy::any::AnyPolicy;
use crate::route::routing::Routing;
use crate::tests::net::{Mood, Net, PATH, addr, millis, request, secs};
use crate::worker;

fn again(why: Again, attempts: u32, avoid: &[u64]) -> Request {
    let avoid = avoid.iter().copied().map(InstanceId).collect();
    Request { earlier: Some(Box::new(Earlier { why, attempts, avoid })), ..request("x") }
}

#[test]
fn a_call_in_place_of_one_that_broke_pauses_like_a_retry_and_goes_elsewhere() {
    let base = secs(1);
    let config = Config { backoff: backoff::Config { base, ..backoff::Config::default() }, ..Config::default() };
    let mut net = Net::new(config, worker::Config::default(), 3);
    let endpoint = net.endpoint(&[1, 2, 3]);
    let mut waited = 0;
    for _ in 0..20 {
        let before = net.sites[2].started;
        let call = net.call(endpoint, again(Again::Broke(1), 4, &[1, 3]));
        net.pump();
        waited += usize::from(net.sites[2].started == before);
        net.advance(base);
        assert_eq!(net.outcome(call), Ok(()));
        assert_eq!(net.caller().attempts(call), 5);
        net.release(call);
        assert_eq!(net.caller().attempts(call), 0);
    }
    assert!(waited >= 15, "{waited} of 20 pauses, drawn from 0 to a second, were more than nothing");
    assert_eq!((net.sites[1].started, net.sites[2].started, net.sites[3].started), (0, 20, 0));
    assert_eq!((net.caller().stats().continued, net.caller().stats().retries), (20, 0));
}

#[test]
fn where_a_call_was_is_avoided_only_while_there_are_others_and_the_last_eight_count() {
    let mut net = Net::plain(2);
    let endpoint = net.endpoint(&[1, 2]);
    let many = [1, 11, 12, 13, 14, 15, 16, 17, 2];
    for _ in 0..10 {
        let call = net.call(endpoint, again(Again::Broke(1), 1, &many));
        net.advance(secs(1));
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
    }
    assert_eq!((net.sites[1].started, net.sites[2].started), (10, 0));
    net.instances(endpoint, &[2]);
    let call = net.call(endpoint, again(Again::Broke(1), 1, &[2]));
    net.advance(secs(1));
    assert_eq!((net.outcome(call), net.sites[2].started), (Ok(()), 1));
}

#[test]
fn a_call_beside_one_that_is_slow_never_meets_the_worker_of_that_and_leaves_its_key_there() {
    let mut net = Net::plain(2);
    net.sites[1].echoes = false;
    let (now, target) = (net.now, |site| Target::mux(addr(site), PATH));
    let endpoint = net.caller().endpoint(AnyPolicy::from_name("sticky").unwrap());
    net.caller().add_instance(endpoint, InstanceId(1), target(1), now);
    let keyed = |request: Request| {
        let routing = Routing { affinity: Some(7), ..Routing::default() };
        Request { routing, ..request }
    };
    let slow = net.call(endpoint, keyed(request("x")));
    net.pump();
    let alone = net.call(endpoint, keyed(again(Again::Slow, 1, &[1])));
    assert_eq!(net.outcome(alone), Err(CallError::NoneEligible));
    net.caller().add_instance(endpoint, InstanceId(2), target(2), now);
    let second = net.call(endpoint, keyed(again(Again::Slow, 1, &[1])));
    net.pump();
    assert_eq!((net.outcome(second), net.sites[2].started), (Ok(()), 1));
    let next = net.call(endpoint, keyed(request("x")));
    net.pump();
    assert_eq!((net.sites[1].started, net.sites[2].started), (2, 1), "the key is where it was");
    net.sites[2].mood = Mood::Stopped;
    let late = net.call(endpoint, keyed(again(Again::Slow, 1, &[1])));
    net.advance(secs(60));
    assert!(net.outcome(late).is_err());
    assert_eq!(net.sites[1].started, 2, "nor after a try elsewhere that failed");
    [slow, alone, second, next, late].into_iter().for_each(|call| net.release(call));
}

#[test]
fn a_call_made_again_takes_of_the_budget_if_one_broke_and_needs_it_if_one_is_slow() {
    let budget = budget::Config { max_tokens: 10, milli_tokens_per_success: 1 };
    let mut net = Net::new(Config { budget, ..Config::default() }, worker::Config::default(), 1);
    net.sites[1].mood = Mood::Stopped;
    let (endpoint, now) = (net.endpoint(&[1]), net.now);
    for _ in 0..20 {
        assert!(net.caller().call(endpoint, again(Again::Slow, 1, &[]), now).is_ok(), "it costs nothing");
    }
    for _ in 0..4 {
        assert!(net.caller().call(endpoint, again(Again::Broke(1), 1, &[]), now).is_ok());
    }
    for why in [Again::Broke(1), Again::Slow] {
        assert_eq!(net.caller().call(endpoint, again(why, 1, &[]), now), Err(CallError::NoBudget));
    }
    let stats = *net.caller().stats();
    assert_eq!((stats.calls, stats.continued, stats.hedged), (24, 4, 20));
}

#[test]
fn a_worker_hears_how_often_a_request_has_been_tried_before() {
    let mut net = Net::plain(2);
    net.sites[1].mood = Mood::Refusing;
    net.sites[2].echoes = false;
    let endpoint = net.endpoint(&[1, 2]);
    let mut told = Vec::new();
    for request in [request("x"), request("y"), again(Again::Slow, 4, &[1])] {
        net.call(endpoint, request);
        net.advance(millis(500));
        let job = net.sites[2].jobs.pop_front().unwrap();
        told.push(net.worker(2).opening(job).unwrap().attempts);
    }
    // Of the first two calls one met the worker that cannot be reached.
    told[..2].sort_unstable();
    assert_eq!((told.as_slice(), net.worker(2).stats().repeated), (&[0, 1, 4][..], 2));
}

#[test]
fn tries_are_counted_with_those_of_calls_before() {
    let mut net = Net::plain(2);
    net.sites[1].mood = Mood::Refusing;
    net.sites[2].mood = Mood::Refusing;
    let endpoint = net.endpoint(&[1, 2]);
    let call = net.call(endpoint, request("x"));
    net.advance(millis(500));
    assert_eq!(net.caller().attempts(call), 3);
}

#[test]
fn a_call_that_the_budget_does_not_allow_is_none_that_was_accepted() {
    let budget = budget::Config { max_tokens: 2, ..budget::Config::default() };
    let config = Config { throttle: Some(throttle::Config::default()), budget, ..Config::default() };
    let mut net = Net::new(config, worker::Config::default(), 2);
    let endpoint = net.endpoint(&[1, 2]);
    let first = net.call(endpoint, request("x"));
    net.pump();
    net.release(first);
    let spent = (0..3).filter(|_| net.caller().budget.failed()).count();
    assert_eq!(spent, 0);
    let now = net.now;
    for _ in 0..10 {
        let hedge = net.caller().call(endpoint, again(Again::Slow, 1, &[1]), now);
        assert_eq!(hedge, Err(CallError::NoBudget));
    }
    assert_eq!(net.caller().endpoints.throttle(endpoint.0).unwrap().sums(), (1, 0));
    assert_eq!((net.caller().stats().hedged, net.caller().stats().unaffordable), (0, 10));
}
