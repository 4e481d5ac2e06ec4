//! What a call does that workers refuse and advise when to come back, over an in-memory network in virtual time.

use core::time::Duration;
use std::vec::Vec;

use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::request::{CallId, EndpointKey, Request};
use crate::id::InstanceId;
use crate::mux::event::Ending;
use crate::tests::net::{Net, addr, millis, request, secs};
use crate::time::Instant;
use crate::wire::mux::message::RejectCode;
use crate::worker;

/// Two workers with one place each, which is taken, and their advice.
fn full(advice: Duration) -> (Net, EndpointKey, [CallId; 2]) {
    let worker = worker::Config {
        max_running: 1,
        max_queued: 0,
        retry_after: advice,
        max_retry_after: advice,
        ..worker::Config::default()
    };
    let mut net = Net::new(Config::default(), worker, 2);
    (net.sites[1].echoes, net.sites[2].echoes) = (false, false);
    let endpoint = net.endpoint(&[1, 2]);
    let at = |id| Request { direct: Some(InstanceId(id)), ..request("x") };
    let busy = [net.call(endpoint, at(1)), net.call(endpoint, at(2))];
    net.pump();
    assert_eq!((net.sites[1].started, net.sites[2].started), (1, 1));
    (net, endpoint, busy)
}

/// Refusals of both workers.
fn refused(net: &mut Net) -> u64 {
    [1, 2].map(|site| net.worker(site).stats().overloaded).iter().sum()
}

/// Frees the place at a worker.
fn free(net: &mut Net, site: usize) {
    let (now, job) = (net.now, net.sites[site].jobs.pop_front().unwrap());
    net.worker(site).finish(job, Ending::ok(), now);
    net.pump();
}

/// The times of further refusals within `lasting`.
fn refusals(net: &mut Net, lasting: Duration) -> Vec<Instant> {
    let (end, mut times, mut before) = (net.now + lasting, Vec::new(), refused(net));
    while net.now < end {
        net.advance(millis(1));
        let after = refused(net);
        times.extend((before..after).map(|_| net.now));
        before = after;
    }
    times
}

#[test]
fn a_call_that_every_instance_refuses_comes_back_when_the_first_of_their_times_is_over_and_not_before() {
    for advice in [secs(2), secs(5)] {
        let (mut net, endpoint, _busy) = full(advice);
        let (began, call) = (net.now, net.call(endpoint, request("y")));
        net.pump();
        let times = refusals(&mut net, millis(100));
        assert_eq!((times.len(), refused(&mut net)), (1, 2), "the second instance is asked within a pause");
        let times = refusals(&mut net, advice + millis(100));
        assert_eq!(times.len(), 1, "{times:?}");
        assert!(times[0] >= began + advice && times[0] <= began + advice + millis(200), "{began:?} {times:?}");
        let Err(CallError::Rejected { code: RejectCode::Overloaded, at: Some(at), .. }) = net.outcome(call) else {
            panic!("{:?}", net.outcome(call))
        };
        assert_eq!((at.attempts, at.addr, net.caller().attempts(call)), (3, Some(addr(at.instance.0 as usize)), 3));
    }
}

#[test]
fn a_call_that_is_refused_goes_at_once_to_an_instance_that_has_room_and_in_time_to_one_that_has_room_again() {
    let (mut net, endpoint, _busy) = full(secs(5));
    free(&mut net, 2);
    let calls: Vec<_> = (0..2).map(|_| net.call(endpoint, request("y"))).collect();
    net.advance(millis(100));
    assert_eq!(net.sites[2].started, 2, "nobody waits for the first while the second has room");
    free(&mut net, 1);
    free(&mut net, 2);
    net.advance(secs(5));
    net.advance(millis(200));
    assert_eq!(net.sites[1].started + net.sites[2].started, 4);
    calls.into_iter().for_each(|call| net.release(call));
}

#[test]
fn a_call_does_not_wait_beyond_its_own_time_for_an_instance_that_asks_for_more() {
    let (mut net, endpoint, _busy) = full(secs(5));
    let call = net.call(endpoint, Request { timeout: Some(secs(3)), ..request("y") });
    let until = net.now + secs(3);
    net.advance(secs(3) - millis(1));
    assert_eq!((net.read(call).1, refused(&mut net)), (None, 2));
    net.advance(millis(1));
    assert_eq!((net.outcome(call), net.now), (Err(CallError::DeadlineExceeded), until));
    net.advance(secs(6));
    assert_eq!(refused(&mut net), 2, "and is not made again");
}
