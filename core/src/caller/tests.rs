//! A caller against workers over an in-memory network: every rule that takes a whole caller.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::machine::{CallId, Recv, Request};
use crate::harness::{Mood, Net, millis, request, secs};
use crate::id::InstanceId;
use crate::mux;
use crate::mux::stream::Ending;
use crate::protocol::{CloseReason, Fault};
use crate::retry::{backoff, budget};
use crate::wire::failure::Class;
use crate::wire::mux::{CancelMode, RejectCode, goaway};
use crate::worker;

fn mux_limits(change: impl FnOnce(&mut mux::Config)) -> worker::Config {
    let mut config = worker::Config::default();
    change(&mut config.mux);
    config
}

fn no_retry() -> Config {
    Config { backoff: backoff::Config { attempts: 1, ..backoff::Config::default() }, ..Config::default() }
}

#[test]
fn a_call_is_answered_and_leaves_nothing_behind() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("hello"));
    net.pump();
    assert_eq!(net.read(call), (vec![Bytes::from_static(b"hello")], Some(Ok(()))));
    net.release(call);
    net.assert_idle();
    assert_eq!(net.caller().wheel.len(), 1, "the connection's own timer");
}

#[test]
fn an_idle_connection_closes_after_its_bound_and_not_before() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("hello"));
    net.pump();
    assert_eq!(net.outcome(call), Ok(()));
    net.release(call);
    net.advance(secs(299));
    assert_eq!(net.caller().footprint().connections, 1);
    net.advance(secs(2));
    net.assert_empty();
    assert!(net.caller().wheel.is_empty() && net.caller().by_addr.is_empty());
}

#[test]
fn an_idle_connection_wakes_its_machine_for_pings_only() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("hello"));
    net.pump();
    net.release(call);
    net.sites[0].timeouts = 0;
    net.advance(secs(100));
    // A ping every five seconds from either side; far timers look once in eight seconds.
    assert!(net.sites[0].timeouts <= 60, "{} wake-ups in 100 s", net.sites[0].timeouts);
}

#[test]
fn a_connection_to_a_worker_that_drains_is_turned_away_in_the_protocols_own_words() {
    let mut net = Net::new(no_retry(), worker::Config::default(), 1);
    let endpoint = net.endpoint(&[1]);
    let now = net.now;
    net.worker(1).drain(now);
    let call = net.call(endpoint, request("x"));
    net.pump();
    net.advance(secs(1));
    assert!(matches!(net.outcome(call), Err(CallError::Rejected { code: RejectCode::Draining, .. })));
    assert!(net.sites.iter().all(|site| site.faults.is_empty()));
}

#[test]
fn the_only_instance_is_dialed_a_bounded_number_of_times_while_it_drains() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let now = net.now;
    net.worker(1).drain(now);
    let calls: Vec<_> = (0..5).map(|_| net.call(endpoint, request("x"))).collect();
    net.advance(secs(20));
    for call in calls {
        assert!(matches!(net.outcome(call), Err(CallError::Rejected { code: RejectCode::Draining, .. })));
        net.release(call);
    }
    assert!(net.sites[0].dials <= 5 * 4, "{} dials", net.sites[0].dials);
    net.assert_empty();
}

#[test]
fn calls_beyond_the_peers_stream_limit_go_out_as_streams_end_however_they_end() {
    let mut net = Net::new(Config::default(), mux_limits(|mux| mux.max_streams = 1), 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let calls: Vec<_> = (0..4).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    for (n, call) in calls.iter().enumerate() {
        assert_eq!(net.sites[1].started, n + 1);
        let (now, job) = (net.now, net.sites[1].jobs.pop_front().unwrap());
        if n % 2 == 0 {
            // The stream goes on until the worker has answered the kill; nobody is told of that moment.
            net.caller().cancel(*call, CancelMode::Kill, now);
            net.pump();
        }
        net.worker(1).finish(job, Ending::ok(), now);
        net.pump();
        assert_eq!(net.outcome(*call), if n % 2 == 0 { Err(CallError::Cancelled) } else { Ok(()) });
        net.release(*call);
    }
    net.assert_idle();
}

#[test]
fn a_call_does_not_wait_without_bound_for_a_stream() {
    let mut net = Net::new(Config::default(), mux_limits(|mux| mux.max_streams = 1), 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let first = net.call(endpoint, request("x"));
    let second = net.call(endpoint, request("y"));
    net.advance(secs(4));
    assert_eq!(net.read(second), (vec![], None));
    net.advance(secs(26));
    assert!(matches!(net.outcome(second), Err(CallError::Rejected { code: RejectCode::Overloaded, .. })));
    assert_eq!(net.read(first), (vec![], None));
}

#[test]
fn twenty_thousand_calls_whose_instance_leaves_before_the_connection_is_up_fail_over_without_recursion() {
    let mut net = Net::new(no_retry(), worker::Config::default(), 2);
    let endpoint = net.endpoint(&[1]);
    let calls: Vec<_> = (0..20_000).map(|_| net.call(endpoint, request("x"))).collect();
    net.instances(endpoint, &[2]);
    net.pump();
    for call in calls {
        assert_eq!(net.outcome(call), Err(CallError::Unreachable(CloseReason::Local)));
        net.caller().release(call, crate::time::Instant::ZERO);
    }
    net.assert_idle();
}

#[test]
fn a_connection_out_of_stream_ids_is_replaced() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    net.release(call);
    let key = net.caller().links.keys()[0];
    net.caller().links.mux(key).unwrap().skip_to_last_ids(2);
    let calls: Vec<_> = (0..5).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    for call in calls {
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
    }
    assert_eq!(net.sites[0].dials, 2);
    net.advance(secs(301));
    net.assert_empty();
}

#[test]
fn calls_that_wait_when_the_last_stream_id_is_used_move_to_a_new_connection() {
    let mut net = Net::new(Config::default(), mux_limits(|mux| mux.max_streams = 1), 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let calls: Vec<_> = (0..2).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    let key = net.caller().links.keys()[0];
    net.caller().links.mux(key).unwrap().skip_to_last_ids(0);
    let (now, job) = (net.now, net.sites[1].jobs.pop_front().unwrap());
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!(net.outcome(calls[0]), Ok(()));
    net.pump();
    assert_eq!((net.sites[0].dials, net.sites[1].started), (2, 2));
}

fn full() -> worker::Config {
    worker::Config { max_running: 1, max_queued: 0, retry_after: millis(70), ..worker::Config::default() }
}

#[test]
fn a_streaming_request_is_tried_again_only_while_none_of_it_has_been_taken() {
    let mut net = Net::new(Config::default(), full(), 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let _busy = net.call(endpoint, request("x"));
    let untouched = net.call(endpoint, Request::default());
    let begun = net.call(endpoint, Request::default());
    let ended = net.call(endpoint, Request::default());
    let bare = net.call(endpoint, Request::default());
    // All but the first are refused and wait for their next try, whose frames then stay here.
    net.pump();
    let now = net.now;
    net.sites[0].jammed = true;
    net.advance(millis(500));
    assert_eq!(net.caller().send(begun, Bytes::from_static(b"1"), now), Ok(()));
    assert!(net.caller().finish(ended, now));
    let (now, job) = (net.now, net.sites[1].jobs.pop_front().unwrap());
    net.sites[0].jammed = false;
    net.pump();
    for call in [begun, ended] {
        assert!(matches!(net.outcome(call), Err(CallError::Rejected { code: RejectCode::Overloaded, .. })));
    }
    net.worker(1).finish(job, Ending::ok(), now);
    net.advance(secs(5));
    assert_eq!(net.sites[1].started, 2, "one of the untouched calls runs");
    let outcomes = [untouched, bare].map(|call| net.read(call).1);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), 1, "{outcomes:?}");
}

#[test]
fn a_call_that_was_asked_to_stop_is_not_tried_again() {
    let mut net = Net::new(Config::default(), full(), 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let busy = net.call(endpoint, request("x"));
    net.pump();
    let call = net.call(endpoint, request("y"));
    net.sites[1].mood = Mood::Stopped;
    net.pump();
    let now = net.now;
    net.caller().cancel(call, CancelMode::Stop, now);
    net.sites[1].mood = Mood::Well;
    net.pump();
    assert_eq!(net.outcome(call), Err(CallError::Cancelled));
    net.release(busy);
    net.release(call);
    net.advance(secs(10));
    assert_eq!(net.sites[1].started, 1);
}

#[test]
fn a_call_stopped_while_it_is_queued_ends_as_cancelled_and_never_starts() {
    let config = worker::Config { max_running: 1, ..worker::Config::default() };
    let mut net = Net::new(Config::default(), config, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let busy = net.call(endpoint, request("x"));
    let queued = net.call(endpoint, request("y"));
    net.pump();
    let now = net.now;
    net.caller().cancel(queued, CancelMode::Stop, now);
    net.caller().cancel(queued, CancelMode::Stop, now);
    net.pump();
    assert_eq!(net.outcome(queued), Err(CallError::Cancelled));
    let job = net.sites[1].jobs.pop_front().unwrap();
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!((net.outcome(busy), net.sites[1].started), (Ok(()), 1));
}

#[test]
fn an_answer_that_was_not_read_before_its_connection_closed_is_still_there() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("hello"));
    net.pump();
    let now = net.now;
    net.worker(1).drain(now);
    net.pump();
    assert_eq!(net.caller().footprint().connections, 0);
    assert_eq!(net.read(call), (vec![Bytes::from_static(b"hello")], Some(Ok(()))));
    net.release(call);
    net.assert_empty();
    assert_eq!(net.sites[1].drained, 1);
}
