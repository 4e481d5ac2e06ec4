//! Whose turn it is at a worker that has more calls than room, over an in-memory network in virtual time.

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::caller;
use crate::caller::error::CallError;
use crate::caller::request::{CallId, EndpointKey, Request};
use crate::caller::target::Target;
use crate::id::InstanceId;
use crate::mux::event::{Ending, Opening};
use crate::overload::gradient;
use crate::retry::backoff;
use crate::rng::Rng;
use crate::route::policy::any::AnyPolicy;
use crate::tests::net::{Mood, Net, addr, millis, request, secs};
use crate::wire::mux::message::RejectCode;
use crate::worker::config::Config;
use crate::worker::job::JobId;

/// A caller that never tries twice and a worker whose jobs the test ends.
fn net(config: Config) -> (Net, EndpointKey) {
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let mut net = Net::new(caller::config::Config { backoff, ..caller::config::Config::default() }, config, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    (net, endpoint)
}

fn named(id: &str, priority: i8, tenant: Option<&str>) -> Request {
    let opening =
        Opening { request_id: id.to_string(), priority, tenant: tenant.map(ToString::to_string), ..Opening::default() };
    Request { opening, ..request("x") }
}

fn call(net: &mut Net, endpoint: EndpointKey, id: &str, priority: i8, tenant: Option<&str>) -> CallId {
    let call = net.call(endpoint, named(id, priority, tenant));
    net.pump();
    call
}

/// The next call that runs.
fn started(net: &mut Net) -> Option<(JobId, String)> {
    let job = net.sites[1].jobs.pop_front()?;
    let id = net.worker(1).opening(job).unwrap().request_id.to_string();
    Some((job, id))
}

fn finish(net: &mut Net, job: JobId) {
    let now = net.now;
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
}

/// Runs everything that waits, one after the other: the ids in their order.
fn run_all(net: &mut Net) -> Vec<String> {
    let mut order = vec![];
    while let Some((job, id)) = started(net) {
        order.push(id);
        finish(net, job);
    }
    order
}

fn overloaded(net: &mut Net, call: CallId) -> Option<core::time::Duration> {
    match net.outcome(call) {
        Err(CallError::Rejected { code: RejectCode::Overloaded, retry_after, .. }) => retry_after,
        other => panic!("not refused for want of room: {other:?}"),
    }
}

#[test]
fn calls_run_by_priority_then_tenants_in_turn_then_by_deadline() {
    let (mut net, endpoint) = net(Config { max_running: 1, ..Config::default() });
    call(&mut net, endpoint, "first", 0, None);
    for (id, priority, tenant) in [
        ("a1", 0, Some("a")),
        ("a2", 0, Some("a")),
        ("a3", 0, Some("a")),
        ("b1", 0, Some("b")),
        ("own", 0, None),
        ("low", -3, Some("a")),
        ("high", 5, Some("a")),
    ] {
        call(&mut net, endpoint, id, priority, tenant);
    }
    let soon = Request { timeout: Some(secs(3)), ..named("a-soon", 0, Some("a")) };
    net.call(endpoint, soon);
    net.pump();
    assert_eq!(run_all(&mut net), ["first", "high", "a-soon", "b1", "own", "a1", "a2", "a3", "low"]);
}

#[test]
fn a_call_that_has_waited_for_as_long_as_one_may_is_refused_and_never_runs() {
    let (mut net, endpoint) = net(Config { max_running: 1, max_wait: secs(2), ..Config::default() });
    call(&mut net, endpoint, "runs", 0, None);
    let waits = call(&mut net, endpoint, "waits", 0, None);
    net.advance(millis(1999));
    assert_eq!(net.worker(1).load(), (1, 1));
    net.advance(millis(2));
    assert_eq!((overloaded(&mut net, waits), net.worker(1).load()), (Some(millis(100)), (1, 0)));
    net.advance(secs(10));
    let (job, _) = started(&mut net).unwrap();
    assert_eq!(net.sites[1].cancelled, [], "one that runs takes the time it takes");
    finish(&mut net, job);
    assert_eq!((net.sites[1].started, net.worker(1).timers()), (1, 1), "what is left is the connection's");
}

#[test]
fn of_a_full_queue_the_call_of_a_greedy_tenant_gives_way_to_that_of_another() {
    let (mut net, endpoint) = net(Config { max_running: 1, max_queued: 3, ..Config::default() });
    call(&mut net, endpoint, "runs", 0, None);
    let greedy: Vec<CallId> =
        ["g1", "g2", "g3", "g4"].iter().map(|id| call(&mut net, endpoint, id, 0, Some("greedy"))).collect();
    assert!(overloaded(&mut net, greedy[3]).is_some());
    call(&mut net, endpoint, "modest", 0, Some("modest"));
    assert!(overloaded(&mut net, greedy[2]).is_some());
    let urgent = call(&mut net, endpoint, "urgent", 1, Some("greedy"));
    assert!(overloaded(&mut net, greedy[1]).is_some());
    let stats = *net.worker(1).stats();
    assert_eq!((stats.displaced, stats.overloaded), (2, 3));
    assert_eq!(run_all(&mut net), ["runs", "urgent", "g1", "modest"]);
    assert_eq!(net.outcome(urgent), Ok(()));
}

#[test]
fn an_endpoint_that_is_slow_delays_no_other_on_the_same_connection() {
    let (mut net, slow) = net(Config { max_running: 4, endpoint_share: 50, ..Config::default() });
    net.worker(1).serve("1/a/b/quick", 2);
    let now = net.now;
    let quick = net.caller().endpoint(AnyPolicy::default());
    net.caller().set_instances(quick, [(InstanceId(1), Target::mux(addr(1), "1/a/b/quick"))], now);
    for n in 0..6 {
        call(&mut net, slow, &n.to_string(), 0, None);
    }
    assert_eq!(net.worker(1).load(), (2, 4));
    let quick = call(&mut net, quick, "quick", 0, None);
    assert_eq!(net.worker(1).load(), (3, 4));
    let (job, _) = net.sites[1].jobs.pop_back().map(|job| (job, ())).unwrap();
    finish(&mut net, job);
    assert_eq!((net.outcome(quick), net.worker(1).load()), (Ok(()), (2, 4)));
    assert_eq!(run_all(&mut net).len(), 6);
}

#[test]
fn advice_grows_with_the_queue_and_the_time_a_place_takes_within_its_bounds() {
    let (mut net, endpoint) = net(Config { max_running: 1, max_queued: 4, ..Config::default() });
    for n in 0..5 {
        call(&mut net, endpoint, &n.to_string(), 0, None);
    }
    let early = call(&mut net, endpoint, "early", 0, None);
    assert_eq!(overloaded(&mut net, early), Some(millis(100)), "nothing is known of its pace");
    for n in 0..4 {
        net.advance(millis(200));
        let (job, _) = started(&mut net).unwrap();
        finish(&mut net, job);
        call(&mut net, endpoint, &(5 + n).to_string(), 0, None);
    }
    let late = call(&mut net, endpoint, "late", 0, None);
    assert_eq!(overloaded(&mut net, late), Some(millis(1000)), "four wait, and one more place");
    net.advance(secs(50));
    let (job, _) = started(&mut net).unwrap();
    finish(&mut net, job);
    call(&mut net, endpoint, "another", 0, None);
    let later = call(&mut net, endpoint, "later", 0, None);
    assert_eq!(overloaded(&mut net, later), Some(secs(5)), "the most");
}

/// Places of the worker below, as many as a batch of a model has, and how many milliseconds a call holds one: at least, and at
/// random beside it. Sixty-four calls a second.
const PLACES: usize = 64;
const TAKES: (u64, u64) = (200, 1600);

/// Tenants at a worker, each with so many calls in a thousand milliseconds that come at random: the 99th percentile of what a call
/// takes from its arrival to its end, of each tenant in milliseconds. `fair`: the calls say whose they are.
fn takes(seed: u64, tenants: &[(&str, u64)], fair: bool) -> BTreeMap<String, u64> {
    const STEP: u64 = 2;
    let (mut net, endpoint) = net(Config { max_running: PLACES, ..Config::default() });
    let mut rng = Rng::new(seed);
    let mut came: BTreeMap<String, u64> = BTreeMap::new();
    let mut took: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut running: Vec<(JobId, u64)> = vec![];
    for milli in (0..200_000u64).step_by(STEP as usize) {
        for (tenant, rate) in tenants {
            if rng.below(1000) < *rate * STEP {
                let id = std::format!("{tenant}/{milli}");
                let request = named(&id, 0, fair.then_some(*tenant));
                net.call(endpoint, request);
                came.insert(id, milli);
            }
        }
        let now = net.now;
        for (job, _) in running.extract_if(.., |(_, until)| *until <= milli) {
            net.worker(1).finish(job, Ending::ok(), now);
        }
        net.advance(millis(STEP));
        while let Some((job, id)) = started(&mut net) {
            let until = milli + TAKES.0 + rng.below(TAKES.1);
            running.push((job, until));
            let tenant = id.split('/').next().unwrap().to_string();
            took.entry(tenant).or_default().push(until - came[&id]);
        }
    }
    let percentile = |mut took: Vec<u64>| {
        took.sort_unstable();
        took[took.len() * 99 / 100]
    };
    took.into_iter().map(|(tenant, took)| (tenant, percentile(took))).collect()
}

#[test]
fn a_tenant_at_ten_times_the_load_costs_the_others_less_than_a_tenth_of_their_99th_percentile() {
    // Four tenants ask for a tenth of what there is room for, each; then one of them for ten times that.
    let even = [("a", 6), ("b", 6), ("c", 6), ("greedy", 6)];
    let greedy = [("a", 6), ("b", 6), ("c", 6), ("greedy", 64)];
    for seed in 0..3 {
        let [before, after] = [even, greedy].map(|tenants| takes(seed, &tenants, true));
        let unfair = takes(seed, &greedy, false);
        for tenant in ["a", "b", "c"] {
            let [before, after, unfair] = [&before, &after, &unfair].map(|took| took[tenant]);
            let line = std::format!(
                "seed {seed}, tenant {tenant}: p99 {before} ms, {after} ms beside a greedy one, {unfair} ms if nobody says whose calls they are"
            );
            std::println!("{line}");
            assert!(10 * after <= 11 * before, "{line}");
            assert!(10 * unfair > 13 * before, "there is nothing to be fair about: {line}");
        }
    }
}

#[test]
fn after_a_stall_no_work_is_done_for_calls_whose_deadline_has_passed() {
    let (mut net, endpoint) = net(Config { max_running: 4, max_queued: 1000, share: 100, ..Config::default() });
    for n in 0..4 {
        call(&mut net, endpoint, &n.to_string(), 0, None);
    }
    let brief = Request { timeout: Some(millis(100)), ..named("brief", 0, None) };
    let calls: Vec<CallId> = (0..1000).map(|_| net.call(endpoint, brief.clone())).collect();
    net.pump();
    assert_eq!(net.worker(1).load(), (4, 1000));
    // The worker's host is stopped for a second; when it goes on, its handlers finish before it looks at a clock.
    net.sites[1].mood = Mood::Stopped;
    net.advance(secs(1));
    net.sites[1].mood = Mood::Well;
    run_all(&mut net);
    assert_eq!((net.sites[1].started, net.worker(1).load()), (4, (0, 0)));
    for call in calls {
        assert_eq!(net.outcome(call), Err(CallError::DeadlineExceeded));
    }
    let stats = *net.worker(1).stats();
    assert_eq!((stats.admitted, stats.expired + stats.cancelled), (4, 1000));
}

/// Calls at random, so many in each thousand milliseconds, at a worker of eight places that each call holds for 100 ms: how many
/// ended well within their 500 ms in ten seconds, and the longest that one waited to be refused.
fn goodput(seed: u64, rate: u64) -> (usize, u64) {
    let (mut net, endpoint) = net(Config { max_running: 8, max_queued: 16, ..Config::default() });
    let mut rng = Rng::new(seed);
    let mut open: Vec<(CallId, u64)> = vec![];
    let mut running: Vec<(JobId, u64)> = vec![];
    let (mut well, mut longest) = (0, 0);
    for milli in 0..10_000u64 {
        if rng.below(1000) < rate {
            let request = Request { timeout: Some(millis(500)), ..named("x", 0, None) };
            open.push((net.call(endpoint, request), milli));
        }
        let now = net.now;
        for (job, _) in running.extract_if(.., |(_, until)| *until <= milli) {
            net.worker(1).finish(job, Ending::ok(), now);
        }
        net.advance(millis(1));
        while let Some((job, _)) = started(&mut net) {
            running.push((job, milli + 100));
        }
        open.retain(|(call, since)| {
            match net.read(*call).1 {
                None => return true,
                Some(Ok(())) => well += 1,
                Some(Err(CallError::Rejected { code: RejectCode::Overloaded, .. })) => {
                    longest = longest.max(milli - since)
                }
                Some(Err(other)) => panic!("seed {seed}: {other:?}"),
            }
            net.release(*call);
            false
        });
    }
    (well, longest)
}

#[test]
fn at_three_times_the_load_a_worker_does_what_it_can_and_refuses_the_rest_at_once() {
    for seed in 0..4 {
        // It can do 80 a second.
        let peak = [60, 80, 100].map(|rate| goodput(seed, rate).0).into_iter().max().unwrap();
        let (well, longest) = goodput(seed, 240);
        std::println!("seed {seed}: {well} of {peak} at the peak end well in ten seconds, refused within {longest} ms");
        assert!(well * 10 >= peak * 9, "seed {seed}: {well} of {peak}");
        assert!(longest <= 2, "seed {seed}: refused after {longest} ms");
    }
}

#[test]
fn a_limit_that_adapts_lets_as_many_run_as_make_no_call_longer() {
    // Sixteen calls take 100 ms each to their first item; more of them, in proportion longer.
    let adaptive = Some(gradient::Config::default());
    let (mut net, endpoint) = net(Config { max_running: 128, adaptive, ..Config::default() });
    let mut open: Vec<CallId> = (0..160).map(|_| net.call(endpoint, request("x"))).collect();
    let mut running: Vec<(JobId, u64)> = vec![];
    let mut limits = vec![];
    for milli in (0..40_000u64).step_by(5) {
        let now = net.now;
        for (job, _) in running.extract_if(.., |(_, until)| *until <= milli) {
            net.worker(1).respond(job, Bytes::from_static(b"first")).unwrap();
            net.worker(1).finish(job, Ending::ok(), now);
        }
        net.advance(millis(5));
        while let Some((job, _)) = started(&mut net) {
            let load = (running.len() as u64 + 1).max(16);
            running.push((job, milli + 100 * load / 16));
        }
        // Each one that is over makes room for another.
        for call in &mut open {
            if net.read(*call).1.is_some() {
                net.release(*call);
                *call = net.call(endpoint, request("x"));
            }
        }
        if milli >= 20_000 {
            limits.push(net.worker(1).capacity());
        }
    }
    let inside = limits.iter().filter(|limit| (8..=40).contains(*limit)).count();
    assert!(inside * 100 >= limits.len() * 95, "{limits:?}");
}
