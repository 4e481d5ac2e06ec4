//! What a caller hears of its workers' load, over an in-memory network in virtual time.

use alloc::sync::Arc;
use std::vec::Vec;

use crate::caller::request::EndpointKey;
use crate::id::InstanceId;
use crate::mux::event::Ending;
use crate::route::load::Load;
use crate::tests::net::{Net, millis, request, secs};
use crate::worker;

fn net(report_every: Option<core::time::Duration>) -> (Net, EndpointKey) {
    let config = worker::config::Config { max_running: 8, report_every, ..worker::config::Config::default() };
    let mut net = Net::new(crate::caller::config::Config::default(), config, 2);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    (net, endpoint)
}

fn known(net: &mut Net, endpoint: EndpointKey, instance: u64) -> Option<Arc<Load>> {
    net.caller().endpoints.load(endpoint.0, InstanceId(instance))
}

fn finish(net: &mut Net) {
    let (job, now) = (net.sites[1].jobs.pop_front().unwrap(), net.now);
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
}

#[test]
fn a_worker_reports_its_load_with_the_end_of_a_reply_and_no_oftener_than_it_may() {
    let (mut net, endpoint) = net(Some(millis(100)));
    assert!(net.worker(1).gauge("kv", 7) && !net.worker(1).gauge(&"x".repeat(65), 1));
    let calls: Vec<_> = (0..12).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    assert_eq!(known(&mut net, endpoint, 1), None, "nothing has ended");
    finish(&mut net);
    let load = known(&mut net, endpoint, 1).unwrap();
    assert_eq!((load.running, load.queued, load.capacity, load.gauge("kv")), (8, 4, 8, Some(7)));
    assert_eq!((load.at, load.used()), (net.now, Some(1500)));
    finish(&mut net);
    assert_eq!(known(&mut net, endpoint, 1), Some(load), "too early for another");
    net.advance(millis(100));
    net.worker(1).gauge("kv", 9);
    finish(&mut net);
    let load = known(&mut net, endpoint, 1).unwrap();
    assert_eq!((load.running, load.queued, load.gauge("kv"), load.at), (8, 2, Some(9), net.now));
    assert_eq!((net.worker(1).stats().reports, net.caller().stats().reports), (2, 2));
    calls.into_iter().for_each(|call| net.release(call));
}

#[test]
fn a_quiet_worker_reports_with_the_answer_to_a_ping_and_one_that_is_told_not_to_never() {
    for (every, reports) in [(Some(millis(100)), true), (None, false)] {
        let (mut net, endpoint) = net(every);
        net.call(endpoint, request("x"));
        net.pump();
        net.advance(secs(6));
        assert_eq!(known(&mut net, endpoint, 1).map(|load| load.running), reports.then_some(1));
    }
}

#[test]
fn a_refusal_tells_the_load_and_every_instance_behind_the_connection_has_it() {
    let (mut net, endpoint) = net(Some(millis(100)));
    let now = net.now;
    let other = net.caller().endpoint(crate::route::policy::any::AnyPolicy::default());
    let target = crate::caller::target::Target::mux(crate::tests::net::addr(1), "1/a/b/other");
    net.caller().set_instances(other, [(InstanceId(5), target)], now);
    net.worker(1).serve("1/a/b/other", 2);
    net.call(other, request("x"));
    for _ in 0..80 {
        net.call(endpoint, request("x"));
    }
    net.pump();
    let load = known(&mut net, endpoint, 1).unwrap();
    assert_eq!((load.running, load.queued), (8, 64));
    assert_eq!(known(&mut net, other, 5), Some(load));
    assert_eq!(known(&mut net, endpoint, 2), None);
}
