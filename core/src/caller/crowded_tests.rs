//! Calls that wait in front of the pick while every instance is full.

use core::time::Duration;
use std::vec::Vec;

use crate::caller::config::Config;
use crate::caller::error::{CallError, Kind};
use crate::caller::front;
use crate::caller::request::{CallId, EndpointKey, Request};
use crate::caller::target::Target;
use crate::id::InstanceId;
use crate::mux::event::{Ending, Opening};
use crate::overload::throttle;
use crate::protocol::Protocol;
use crate::retry::backoff;
use crate::route::attributes::Attributes;
use crate::route::eligible::{Ask, Candidate};
use crate::route::labels::Labels;
use crate::route::places::HELD;
use crate::route::policy::any::AnyPolicy;
use crate::route::policy::custom::Custom;
use crate::route::policy::filters::Busy;
use crate::route::policy::scored::{Filter, Scored};
use crate::route::routing::Routing;
use crate::tests::net::{Net, PATH, addr, millis, request, secs};
use crate::time::{Instant, Reason};
use crate::wire::mux::message::CancelMode;
use crate::worker;

fn waiting(max_waiting: usize) -> Config {
    Config { front: front::Config { max_waiting, ..front::Config::default() }, ..Config::default() }
}

/// Workers that answer nobody by themselves and tell nothing of their load.
fn net(caller: Config, max_running: usize, workers: usize) -> Net {
    let config = worker::Config { max_running, max_queued: 0, report_every: None, ..worker::Config::default() };
    let mut net = Net::new(caller, config, workers);
    net.sites.iter_mut().for_each(|site| site.echoes = false);
    net
}

/// These sites, with so many places each by their records.
fn recorded(net: &mut Net, endpoint: EndpointKey, sites: &[usize], capacity: u32) {
    let labels = Labels::new([(Labels::CAPACITY, alloc::format!("{capacity}"))]);
    let target =
        |site: &usize| (InstanceId(*site as u64), Target { labels: labels.clone(), ..Target::mux(addr(*site), PATH) });
    let now = net.now;
    net.caller().set_instances(endpoint, sites.iter().map(target), now);
    net.pump();
}

/// The call that runs longest at a site ends well, and its reader has read that.
fn finish(net: &mut Net, site: usize, call: CallId) {
    let (job, now) = (net.sites[site].jobs.pop_front().unwrap(), net.now);
    net.worker(site).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!(net.outcome(call), Ok(()));
    net.release(call);
}

fn is_out(net: &mut Net, call: CallId) -> bool {
    net.caller().attempts(call) > 0
}

fn of(priority: i8, tenant: &str) -> Request {
    let opening = Opening { priority, tenant: Some(tenant.into()), ..request("x").opening };
    Request { opening, ..request("x") }
}

#[test]
fn calls_wait_while_every_instance_is_full_and_go_out_by_priority_tenant_and_deadline_as_places_are_free() {
    let mut net = net(waiting(8), 4, 2);
    let endpoint = net.endpoint(&[]);
    recorded(&mut net, endpoint, &[1, 2], 1);
    let running = [0; 2].map(|_| net.call(endpoint, request("x")));
    net.pump();
    assert_eq!([1, 2].map(|site| net.sites[site].started), [1, 1], "round robin has nowhere else to go");
    let asked = [(0, "a"), (0, "a"), (0, "b"), (3, "a")].map(|(priority, tenant)| of(priority, tenant));
    let late = Request { timeout: Some(secs(50)), ..of(0, "a") };
    let calls: Vec<CallId> = asked.into_iter().chain([late]).map(|request| net.call(endpoint, request)).collect();
    net.pump();
    assert!(calls.iter().all(|call| !is_out(&mut net, *call)));
    assert_eq!((net.caller().footprint().waiting, net.caller().stats().waited), (5, 5));
    let mut last = running[0];
    for next in [3, 4, 2, 0, 1] {
        finish(&mut net, 1, last);
        let out: Vec<bool> = calls.iter().map(|call| is_out(&mut net, *call)).collect();
        assert!(out[next], "{next} is next: {out:?}");
        last = calls[next];
        let now = net.now;
        net.caller().cancel(last, CancelMode::Stop, now);
        net.pump();
    }
    assert_eq!((net.caller().footprint().waiting, net.sites[2].started), (0, 1));
}

#[test]
fn of_a_full_queue_a_call_is_refused_at_once_with_advice_or_takes_the_place_of_one_that_gives_way() {
    let mut net = net(waiting(2), 4, 1);
    let endpoint = net.endpoint(&[]);
    recorded(&mut net, endpoint, &[1], 1);
    let calls: Vec<_> = (0..4).map(|_| net.call(endpoint, of(0, "a"))).collect();
    let refused = CallError::NoPlace { waited: Duration::ZERO, retry_after: Some(millis(100)) };
    assert_eq!(net.outcome(calls[3]), Err(refused.clone()));
    assert!(refused.is_retryable());
    net.advance(millis(300));
    let other = net.call(endpoint, of(0, "b"));
    let waited = CallError::NoPlace { waited: millis(300), retry_after: Some(millis(100)) };
    assert_eq!((net.outcome(calls[2]), net.read(other).1), (Err(waited), None));
    let stats = *net.caller().stats();
    assert_eq!((stats.waited, stats.crowded_out, stats.displaced), (3, 2, 1));
    assert_eq!(net.sites[1].started, 1);
}

#[test]
fn a_wait_ends_by_its_bound_the_calls_deadline_or_a_cancel_and_leaves_nothing_behind() {
    let mut net = net(waiting(8), 4, 1);
    let endpoint = net.endpoint(&[]);
    recorded(&mut net, endpoint, &[1], 1);
    let running = net.call(endpoint, request("x"));
    let [bounded, due, cancelled] =
        [None, Some(secs(2)), None].map(|timeout| net.call(endpoint, Request { timeout, ..request("x") }));
    let now = net.now;
    net.caller().cancel(cancelled, CancelMode::Stop, now);
    assert_eq!(net.outcome(cancelled), Err(CallError::Cancelled));
    net.advance(secs(2));
    assert_eq!(net.outcome(due), Err(CallError::DeadlineExceeded));
    assert_eq!(net.caller().footprint().waiting, 1);
    net.advance(secs(58));
    let late = CallError::NoPlace { waited: secs(60), retry_after: Some(millis(100)) };
    assert_eq!((net.outcome(bounded), net.caller().footprint().waiting), (Err(late), 0));
    finish(&mut net, 1, running);
    [bounded, due, cancelled].into_iter().for_each(|call| net.release(call));
    assert_eq!(net.sites[1].started, 1);
    net.assert_idle();
}

#[test]
fn a_new_instance_ends_the_wait_and_so_does_the_loss_of_the_one_that_was_full() {
    let mut net = net(waiting(8), 4, 2);
    let endpoint = net.endpoint(&[]);
    recorded(&mut net, endpoint, &[1], 1);
    let calls: Vec<_> = (0..4).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    assert_eq!(net.sites[1].started, 1);
    recorded(&mut net, endpoint, &[1, 2], 2);
    assert_eq!([1, 2].map(|site| net.sites[site].started), [2, 2]);
    let last = net.call(endpoint, request("x"));
    assert!(!is_out(&mut net, last));
    recorded(&mut net, endpoint, &[], 2);
    net.advance(secs(5));
    assert_eq!(net.outcome(last), Err(CallError::NoInstances));
    assert!(calls.iter().all(|call| net.read(*call).1.is_none()));
}

/// Calls for a zone go to instances of that zone alone.
struct Zones;

impl Filter for Zones {
    fn keeps(&self, ask: &Ask<'_>, candidate: &Candidate, _: Instant) -> bool {
        ask.attributes.and_then(|attributes| attributes.get("zone")) == candidate.labels.get("zone")
    }
}

fn for_zone(zone: &str) -> Request {
    let mut attributes = Attributes::new();
    attributes.set("zone", zone);
    Request { routing: Routing { attributes: Some(attributes.into()), ..Routing::default() }, ..request("x") }
}

/// Two sites with one place each, the first in zone a and the second in b, and a call that runs at each.
fn zones() -> (Net, EndpointKey, [CallId; 2]) {
    let mut net = net(waiting(64), 4, 2);
    let endpoint = net.caller().endpoint(AnyPolicy::Custom(Custom::new(|| Scored::new().filter(Zones))));
    let target = |(site, zone): (usize, &str)| {
        let labels = Labels::new([(Labels::CAPACITY, "1"), ("zone", zone)]);
        (InstanceId(site as u64), Target { labels, ..Target::mux(addr(site), PATH) })
    };
    let now = net.now;
    net.caller().set_instances(endpoint, [(1, "a"), (2, "b")].map(target), now);
    let running = ["a", "b"].map(|zone| net.call(endpoint, for_zone(zone)));
    net.pump();
    assert_eq!([1, 2].map(|site| net.sites[site].started), [1, 1]);
    (net, endpoint, running)
}

#[test]
fn calls_that_have_no_use_for_a_free_place_keep_their_turns_their_bounds_and_their_age() {
    let (mut net, endpoint, [mut at_a, at_b]) = zones();
    let calls = [0; 4].map(|_| net.call(endpoint, for_zone("a")));
    finish(&mut net, 2, at_b);
    // Each of these finds the place in b free, and frees it once more: all that wait are asked in vain.
    let visit = |net: &mut Net| {
        let visitor = net.call(endpoint, for_zone("b"));
        net.pump();
        finish(net, 2, visitor);
    };
    // In order of age, then, as the queue stands, the newest first.
    for (after, next) in [(0, 0), (20, 1), (20, 3)] {
        net.advance(secs(after));
        (0..3).for_each(|_| visit(&mut net));
        finish(&mut net, 1, at_a);
        let out = calls.map(|call| is_out(&mut net, call));
        at_a = calls[next];
        assert!(out[next], "{next} is next: {out:?}");
    }
    net.advance(secs(20) - millis(1));
    assert_eq!((net.read(calls[2]).1, net.caller().footprint().waiting), (None, 1));
    net.advance(millis(1));
    let Err(CallError::NoPlace { waited, .. }) = net.outcome(calls[2]) else { panic!("{:?}", net.outcome(calls[2])) };
    assert_eq!((waited, net.caller().footprint().waiting), (secs(60), 0));
    assert_eq!((net.caller().stats().waited, net.caller().stats().crowded_out), (4, 1));
}

#[test]
fn many_calls_that_have_no_use_for_a_free_place_do_not_keep_it_from_one_that_has() {
    let (mut net, endpoint, [at_a, at_b]) = zones();
    let calls: Vec<_> = (0..12).map(|_| net.call(endpoint, for_zone("a"))).collect();
    let last = net.call(endpoint, for_zone("b"));
    finish(&mut net, 2, at_b);
    let others: Vec<_> = (0..2).map(|_| net.call(endpoint, for_zone("b"))).collect();
    assert!(is_out(&mut net, last) && !others.into_iter().any(|other| is_out(&mut net, other)));
    assert_eq!((net.caller().footprint().waiting, net.caller().stats().waited), (14, 15));
    finish(&mut net, 1, at_a);
    assert_eq!(calls.into_iter().filter(|call| is_out(&mut net, *call)).count(), 1);
}

#[test]
fn a_fact_that_lifts_a_filter_lets_calls_out() {
    let mut net = net(waiting(8), 4, 2);
    let busy = || Scored::new().filter(Busy { prefill_tokens: Some(100), ..Busy::default() });
    let endpoint = net.caller().endpoint(AnyPolicy::Custom(Custom::new(busy)));
    recorded(&mut net, endpoint, &[1, 2], 1);
    let read = |net: &mut Net, tokens| {
        let now = net.now;
        assert!(net.caller().set_fact(endpoint, InstanceId(2), ("active_prefill_tokens", tokens), secs(60), now));
        net.pump();
    };
    read(&mut net, 200);
    let calls = [0; 2].map(|_| net.call(endpoint, request("x")));
    net.pump();
    assert_eq!([1, 2].map(|site| net.sites[site].started), [1, 0]);
    read(&mut net, 100);
    assert!(net.sites[2].started == 1 && is_out(&mut net, calls[1]));
}

#[test]
fn a_worker_that_says_nothing_of_its_places_is_found_out_by_what_it_refuses_and_asked_again_when_its_lease_ends() {
    let mut net = net(waiting(64), 4, 1);
    let endpoint = net.endpoint(&[1]);
    let calls: Vec<_> = (0..20).map(|_| net.call(endpoint, request("x"))).collect();
    net.advance(millis(400));
    assert_eq!(net.sites[1].started, 4);
    let refused = net.worker(1).stats().overloaded;
    assert!(refused <= 16 + 4, "{refused}");
    // Nobody asks in vain from now on but the one that a lease's end or a hold's lets out.
    net.advance(HELD / 2);
    let later = net.worker(1).stats().overloaded - refused;
    assert!(later < 16, "{later} refusals in 5 s");
    let waits = net.caller().poll_timeout().is_some();
    assert!(waits && net.caller().footprint().waiting > 0);
    let running: Vec<_> = calls.iter().copied().filter(|call| net.caller().instance(*call).is_some()).collect();
    for call in running.into_iter().take(4) {
        finish(&mut net, 1, call);
    }
    net.advance(millis(200));
    assert!(net.sites[1].started > 4, "the places are others' now");
}

#[test]
fn what_reports_say_of_other_callers_counts_while_it_is_fresh() {
    let config = worker::Config { max_running: 2, report_every: Some(Duration::ZERO), ..worker::Config::default() };
    let mut net = Net::new(waiting(8), config, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let [first, second] = [0; 2].map(|_| net.call(endpoint, request("x")));
    net.pump();
    finish(&mut net, 1, first);
    let [third, fourth] = [0; 2].map(|_| net.call(endpoint, request("x")));
    net.pump();
    assert!(is_out(&mut net, third) && !is_out(&mut net, fourth), "it takes two");
    let due = net.caller().poll_timeout().unwrap();
    assert_ne!(due.why, Reason::Place, "time alone makes no place");
    finish(&mut net, 1, second);
    assert!(is_out(&mut net, fourth));
}

#[test]
fn a_call_for_named_instances_waits_for_nobody_and_without_the_queue_nobody_waits() {
    for (config, expected) in [(waiting(8), 3), (Config::default(), 4)] {
        let mut net = net(config, 8, 1);
        let endpoint = net.endpoint(&[]);
        recorded(&mut net, endpoint, &[1], 1);
        let named = [
            Request { direct: Some(InstanceId(1)), ..request("x") },
            Request { allow: alloc::vec![InstanceId(1)], ..request("x") },
        ];
        for request in [request("x")].into_iter().chain(named).chain([request("x")]) {
            net.call(endpoint, request);
        }
        net.pump();
        assert_eq!(net.sites[1].started, expected);
    }
}

#[test]
fn a_refusal_counts_once_and_while_most_calls_are_accepted_none_is_turned_away() {
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let config = Config { throttle: Some(throttle::Config::default()), backoff, ..Config::default() };
    let mut net = net(config, 3, 1);
    let endpoint = net.endpoint(&[1]);
    for _ in 0..50 {
        let calls = [0; 5].map(|_| net.call(endpoint, request("x")));
        net.advance(millis(10));
        let refused = calls.into_iter().filter(|call| net.read(*call).1.is_some()).count();
        assert_eq!(refused, 2);
        calls[..3].iter().for_each(|call| finish(&mut net, 1, *call));
        calls[3..].iter().for_each(|call| net.release(*call));
        net.advance(millis(500));
    }
    assert_eq!(net.caller().endpoints.throttle(endpoint.0).unwrap().sums(), (250, 100));
    assert_eq!(net.caller().stats().throttled, 0);
}

#[test]
fn while_most_calls_are_refused_others_are_turned_away_here_but_those_for_a_named_instance() {
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let config = Config { throttle: Some(throttle::Config::default()), backoff, ..Config::default() };
    let mut net = net(config, 1, 1);
    let endpoint = net.endpoint(&[1]);
    let running = net.call(endpoint, request("x"));
    net.pump();
    let mut turned_away = 0u64;
    for _ in 0..1000 {
        let now = net.now;
        match net.caller().call(endpoint, request("x"), now) {
            Err(error) => {
                assert_eq!((error.kind(), error.is_retryable()), (Kind::NoRoom, true));
                turned_away += 1;
            }
            Ok(call) => {
                net.advance(millis(10));
                assert!(matches!(net.outcome(call), Err(CallError::Rejected { .. })));
                net.release(call);
            }
        }
    }
    assert_eq!(net.caller().stats().throttled, turned_away);
    assert!(net.worker(1).stats().overloaded < 30, "{} of 1,000 refused there", net.worker(1).stats().overloaded);
    for _ in 0..20 {
        let pinned = Request { direct: Some(InstanceId(1)), ..request("x") };
        let call = net.call(endpoint, pinned);
        net.advance(millis(10));
        net.release(call);
    }
    finish(&mut net, 1, running);
    net.sites[1].echoes = true;
    net.advance(secs(150));
    for _ in 0..100 {
        let call = net.call(endpoint, request("x"));
        net.pump();
        assert_eq!(net.outcome(call), Ok(()), "what was is forgotten");
        net.release(call);
    }
}
