//! What calls do while every instance they know is down, or their endpoint is forgotten.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::request::{CallId, EndpointKey, Request};
use crate::mux::event::Ending;
use crate::protocol::{CloseReason, Protocol};
use crate::retry::backoff;
use crate::tests::net::{Mood, Net, PATH, millis, request, secs};
use crate::time::Reason;
use crate::wire::mux::message::{CancelMode, RejectCode};
use crate::worker;

/// A call that has used its tries on a worker that refuses dials.
fn stranded(net: &mut Net, endpoint: EndpointKey) -> CallId {
    net.sites[1].mood = Mood::Refusing;
    let call = net.call(endpoint, request("x"));
    net.advance(millis(400));
    assert_eq!(net.read(call), (vec![], None));
    assert!(net.sites[0].dials >= 3);
    call
}

#[test]
fn while_the_only_worker_restarts_a_call_waits_for_it_as_for_one_that_is_not_there_yet() {
    for seconds in 0..4 {
        let mut net = Net::plain(1);
        let endpoint = net.endpoint(&[1]);
        let call = stranded(&mut net, endpoint);
        let due = Protocol::poll_timeout(net.caller()).unwrap();
        assert_eq!(due.why, Reason::DownMark);
        net.advance(secs(seconds));
        net.sites[1].mood = Mood::Well;
        // At the latest with the next try, which is at most the length of a first mark away.
        net.advance(secs(1));
        assert_eq!(net.outcome(call), Ok(()), "after {seconds} s");
        net.release(call);
        net.assert_idle();
    }
}

#[test]
fn news_of_instances_end_a_stranded_calls_wait_at_once() {
    let mut net = Net::plain(2);
    let endpoint = net.endpoint(&[1]);
    let call = stranded(&mut net, endpoint);
    net.instances(endpoint, &[1, 2]);
    net.pump();
    assert_eq!((net.outcome(call), net.sites[2].started), (Ok(()), 1));
    net.release(call);
    net.assert_idle();
}

#[test]
fn a_record_whose_address_another_worker_has_taken_over_is_waited_out_like_a_dead_one() {
    let mut net = Net::plain(2);
    let endpoint = net.endpoint(&[1]);
    net.worker(1).unserve(PATH);
    let call = net.call(endpoint, request("x"));
    net.advance(millis(400));
    assert_eq!(net.read(call), (vec![], None));
    net.instances(endpoint, &[1, 2]);
    net.pump();
    assert_eq!((net.outcome(call), net.sites[2].started), (Ok(()), 1));
    net.release(call);
    net.instances(endpoint, &[1]);
    let call = net.call(endpoint, request("x"));
    net.advance(secs(30));
    assert!(matches!(net.outcome(call), Err(CallError::Rejected { code: RejectCode::UnknownEndpoint, .. })));
    net.release(call);
    net.assert_idle();
}

#[test]
fn a_call_whose_last_try_is_at_an_old_record_while_the_new_one_comes_is_tried_there() {
    let twice = Config { backoff: backoff::Config { attempts: 2, ..backoff::Config::default() }, ..Config::default() };
    let mut net = Net::new(twice, worker::Config::default(), 2);
    let endpoint = net.endpoint(&[1]);
    net.worker(1).unserve(PATH);
    let call = net.call(endpoint, request("x"));
    net.pump();
    // The last try is on its way to the worker that does not serve it when the one that does is known.
    net.now = net.caller().poll_timeout().unwrap().at;
    let now = net.now;
    net.caller().handle_timeout(now);
    net.instances(endpoint, &[1, 2]);
    net.pump();
    net.advance(secs(1));
    assert_eq!((net.outcome(call), net.sites[2].started), (Ok(()), 1));
    net.release(call);
    net.assert_idle();
}

#[test]
fn an_instance_that_answers_another_call_ends_the_wait_of_all_that_were_stranded() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    net.sites[1].mood = Mood::Refusing;
    let mut calls: Vec<_> = (0..50).map(|_| net.call(endpoint, request("x"))).collect();
    net.advance(millis(400));
    assert!(calls.iter().all(|call| net.read(*call) == (vec![], None)));
    net.sites[1].mood = Mood::Well;
    calls.push(net.call(endpoint, request("x")));
    net.advance(millis(20));
    for call in calls {
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
    }
    net.assert_idle();
}

#[test]
fn a_stranded_call_keeps_its_deadline_its_number_of_tries_and_its_cancel() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    net.sites[1].mood = Mood::Refusing;
    let bounded = net.call(endpoint, Request { timeout: Some(secs(2)), ..request("x") });
    let cancelled = net.call(endpoint, request("x"));
    net.advance(secs(1));
    let now = net.now;
    net.caller().cancel(cancelled, CancelMode::Stop, now);
    assert_eq!(net.outcome(cancelled), Err(CallError::Cancelled));
    net.advance(secs(1));
    assert_eq!(net.outcome(bounded), Err(CallError::DeadlineExceeded));
    [cancelled, bounded].into_iter().for_each(|call| net.release(call));
    net.assert_empty();

    let once = Config { backoff: backoff::Config { attempts: 1, ..backoff::Config::default() }, ..Config::default() };
    let mut net = Net::new(once, worker::Config::default(), 1);
    let endpoint = net.endpoint(&[1]);
    net.sites[1].mood = Mood::Refusing;
    let call = net.call(endpoint, request("x"));
    net.pump();
    let refused = |error: &CallError| matches!(error, CallError::Unreachable { reason: CloseReason::Refused, .. });
    assert!(net.outcome(call).as_ref().is_err_and(refused));
    assert_eq!(net.sites[0].dials, 1);
}

#[test]
fn an_endpoint_that_is_forgotten_leaves_its_calls_to_end_within_their_bounds() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let (endpoint, empty) = (net.endpoint(&[1]), net.endpoint(&[]));
    let (running, waiting) = (net.call(endpoint, request("x")), net.call(empty, request("x")));
    net.pump();
    assert!(net.caller().is_called(endpoint) && net.caller().is_called(empty));
    net.caller().forget_endpoint(endpoint);
    net.caller().forget_endpoint(empty);
    let other = net.endpoint(&[]);
    assert_eq!((net.caller().endpoints(), net.caller().is_called(other)), (1, false), "its place is another's now");
    let job = net.sites[1].jobs.pop_front().unwrap();
    net.worker(1).respond(job, Bytes::from_static(b"one")).unwrap();
    let now = net.now;
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!(net.read(running), (vec![Bytes::from_static(b"one")], Some(Ok(()))));
    net.advance(secs(6));
    assert_eq!(net.outcome(waiting), Err(CallError::NoInstances));
    let now = net.now;
    assert_eq!(net.caller().call(endpoint, request("x"), now), Err(CallError::Closed));
    for call in [running, waiting] {
        net.release(call);
    }
    net.assert_idle();
}
