//! A caller against workers over an in-memory network: every rule that takes a whole caller.

use std::boxed::Box;
use std::net::SocketAddr;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::caller::config::Config;
use crate::caller::error::{At, CallError};
use crate::caller::request::{CallId, Recv, Request};
use crate::caller::target::Target;
use crate::id::InstanceId;
use crate::mux;
use crate::mux::event::Ending;
use crate::protocol::{CloseReason, Fault};
use crate::retry::{backoff, budget};
use crate::tests::net::{Mood, Net, PATH, addr, millis, request, secs};
use crate::wire::class::Class;
use crate::wire::mux::message::{CancelMode, RejectCode, goaway};
use crate::worker;

fn mux_limits(change: impl FnOnce(&mut mux::Config)) -> worker::Config {
    let mut config = worker::Config::default();
    change(&mut config.mux);
    config
}

fn no_retry() -> Config {
    Config { backoff: backoff::Config { attempts: 1, ..backoff::Config::default() }, ..Config::default() }
}

/// Instance 1 cannot be reached.
fn unreachable(reason: CloseReason, addr: Option<SocketAddr>, attempts: u32) -> CallError {
    CallError::Unreachable { reason, at: Some(Box::new(At { instance: InstanceId(1), addr, attempts })) }
}

#[test]
fn a_waiting_call_goes_out_with_the_first_instance_that_will_do() {
    let mut net = Net::plain(2);
    let endpoint = net.endpoint(&[]);
    let only = Request { allow: vec![InstanceId(2)], ..request("x") };
    let call = net.call(endpoint, only);
    let now = net.now;
    let target = |site| Target::mux(addr(site), PATH);
    net.caller().add_instance(endpoint, InstanceId(1), target(1), now);
    net.pump();
    assert_eq!(net.read(call).1, None, "not to that one");
    net.caller().add_instance(endpoint, InstanceId(2), target(2), now);
    net.pump();
    assert_eq!((net.outcome(call), net.sites[2].started), (Ok(()), 1));
    net.release(call);
    net.caller().remove_instance(endpoint, InstanceId(2), now);
    assert_eq!(net.caller().instances(endpoint), 1);
    let call = net.call(endpoint, request("x"));
    net.pump();
    assert_eq!((net.outcome(call), net.sites[1].started), (Ok(()), 1));
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
    assert!(net.caller().wheel.is_empty() && net.caller().pool.is_empty());
}

#[test]
fn an_idle_bound_shorter_than_the_pings_interval_holds_to_the_second() {
    let config = Config { idle_timeout: secs(1), ..no_retry() };
    let mut net = Net::new(config, worker::Config::default(), 1);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("hello"));
    net.pump();
    net.release(call);
    net.advance(secs(2));
    net.assert_empty();
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
        assert_eq!(net.outcome(call), Err(unreachable(CloseReason::Local, None, 1)));
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
    let key = net.caller().pool.links.keys()[0];
    net.caller().pool.links.mux(key).unwrap().skip_to_last_ids(2);
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
    let key = net.caller().pool.links.keys()[0];
    net.caller().pool.links.mux(key).unwrap().skip_to_last_ids(0);
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
    assert_eq!(net.caller().send(begun, Bytes::from_static(b"1")), Ok(()));
    assert!(net.caller().finish(ended));
    let job = net.sites[1].jobs.pop_front().unwrap();
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

#[test]
fn without_instances_a_call_waits_its_time_and_goes_out_if_one_appears() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[]);
    let (lost, lucky) = (net.call(endpoint, request("x")), net.call(endpoint, request("x")));
    net.advance(secs(4));
    net.release(lucky);
    let lucky = net.call(endpoint, request("x"));
    net.advance(secs(2));
    assert_eq!(net.outcome(lost), Err(CallError::NoInstances));
    net.instances(endpoint, &[1]);
    net.pump();
    assert_eq!(net.outcome(lucky), Ok(()));
    net.instances(endpoint, &[]);
    let hurried = net.call(endpoint, Request { timeout: Some(secs(1)), ..request("x") });
    net.advance(secs(1));
    assert_eq!(net.outcome(hurried), Err(CallError::NoInstances), "it had no time to wait longer");
    net.instances(endpoint, &[1]);
    let direct = net.call(endpoint, Request { direct: Some(InstanceId(9)), ..request("x") });
    assert_eq!(net.outcome(direct), Err(CallError::UnknownInstance(InstanceId(9))));
    for call in [lost, lucky, hurried, direct] {
        net.release(call);
    }
    net.assert_idle();
}

#[test]
fn a_refused_dial_is_tried_on_another_instance_first() {
    let mut net = Net::plain(2);
    net.sites[1].mood = Mood::Refusing;
    let endpoint = net.endpoint(&[1, 2]);
    let calls: Vec<_> = (0..10).map(|_| net.call(endpoint, request("x"))).collect();
    net.advance(millis(60));
    for call in calls {
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
    }
    assert_eq!(net.sites[2].started, 10);
    net.assert_idle();
}

#[test]
fn a_dial_that_is_refused_or_never_answered_ends_as_unreachable_within_its_bound() {
    // Three tries at once, then one every half to whole second of a first mark, until `instance_timeout` is over.
    for (mood, reason, bound, dials) in
        [(Mood::Refusing, CloseReason::Refused, secs(5), 8..=13), (Mood::Lost, CloseReason::TimedOut, secs(16), 3..=3)]
    {
        let mut net = Net::plain(1);
        net.sites[1].mood = mood;
        let endpoint = net.endpoint(&[1]);
        let call = net.call(endpoint, request("x"));
        net.advance(bound);
        let tries = u32::try_from(net.sites[0].dials).unwrap();
        assert_eq!(net.outcome(call), Err(unreachable(reason, Some(addr(1)), tries)), "it says how many");
        assert!(dials.contains(&net.sites[0].dials), "{} dials", net.sites[0].dials);
        net.release(call);
        net.assert_empty();
        assert!(net.caller().wheel.is_empty());
    }
}

#[test]
fn retries_end_when_the_budget_is_spent() {
    let budget = budget::Config { max_tokens: 10, milli_tokens_per_success: 100 };
    let mut net = Net::new(Config { budget, ..Config::default() }, worker::Config::default(), 1);
    net.sites[1].mood = Mood::Refusing;
    let endpoint = net.endpoint(&[1]);
    let calls: Vec<_> = (0..100).map(|_| net.call(endpoint, request("x"))).collect();
    net.advance(secs(20));
    for call in calls {
        let outcome = net.outcome(call);
        let attempts = net.caller().attempts(call);
        assert_eq!(outcome, Err(unreachable(CloseReason::Refused, Some(addr(1)), attempts)));
    }
    let stats = net.caller().stats();
    assert_eq!((stats.retries, stats.unaffordable), (4, 100));
}

#[test]
fn a_peer_that_accepts_and_never_says_hello_is_given_up_undelivered() {
    let mut net = Net::plain(1);
    net.sites[1].mood = Mood::Stopped;
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.advance(secs(17));
    assert_eq!(net.outcome(call), Err(CallError::Protocol { fault: Fault::Silent, delivered: false }));
    net.release(call);
    net.assert_idle_at(0);
}

#[test]
fn a_worker_that_falls_silent_is_pinged_and_given_up_and_the_call_is_not_tried_again() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    net.sites[1].mood = Mood::Stopped;
    net.advance(secs(9));
    assert_eq!(net.read(call), (vec![], None));
    net.advance(secs(2));
    assert_eq!(net.outcome(call), Err(CallError::Protocol { fault: Fault::Silent, delivered: true }));
    assert_eq!(net.caller().stats().retries, 0);
    net.release(call);
    net.sites[1].mood = Mood::Well;
    net.advance(secs(2));
    net.sites[1].jobs.clear();
    assert_eq!(net.sites[1].cancelled.len(), 1);
    assert_eq!(net.caller().footprint().connections, 0);
}

#[test]
fn a_call_that_is_not_accepted_in_time_fails_while_the_connection_goes_on() {
    let config = Config { accept_timeout: secs(3), ..Config::default() };
    let mut net = Net::new(config, worker::Config::default(), 1);
    let endpoint = net.endpoint(&[1]);
    let first = net.call(endpoint, request("x"));
    net.pump();
    net.sites[1].mood = Mood::Stopped;
    let late = net.call(endpoint, request("y"));
    net.advance(secs(4));
    assert_eq!((net.outcome(first), net.outcome(late)), (Ok(()), Err(CallError::NotAccepted)));
    net.sites[1].mood = Mood::Well;
    net.advance(secs(1));
    for call in [first, late] {
        net.release(call);
    }
    net.assert_idle();
    assert_eq!(net.caller().footprint().connections, 1);
}

#[test]
fn a_gap_without_items_ends_the_call_unless_it_is_the_reader_who_is_slow() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let (starved, unread) = (net.call(endpoint, request("x")), net.call(endpoint, request("x")));
    net.pump();
    for job in net.sites[1].jobs.clone() {
        net.worker(1).respond(job, Bytes::from_static(b"1")).unwrap();
    }
    net.pump();
    assert_eq!(net.read(starved).0.len(), 1);
    net.advance(secs(110));
    assert_eq!(net.read(starved), (vec![], None));
    net.advance(secs(20));
    assert_eq!(net.outcome(starved), Err(CallError::Idle));
    net.advance(secs(300));
    assert_eq!(net.read(unread), (vec![Bytes::from_static(b"1")], None));
    assert_eq!(net.sites[1].cancelled.len(), 1);
}

#[test]
fn a_deadline_ends_a_call_wherever_it_stands() {
    for mood in [Mood::Lost, Mood::Stopped, Mood::Well] {
        let mut net = Net::plain(1);
        net.sites[1].mood = mood;
        net.sites[1].echoes = false;
        let endpoint = net.endpoint(&[1]);
        let call = net.call(endpoint, Request { timeout: Some(secs(2)), ..request("x") });
        net.advance(millis(1990));
        assert_eq!(net.read(call), (vec![], None));
        net.advance(millis(20));
        assert_eq!(net.outcome(call), Err(CallError::DeadlineExceeded));
        net.release(call);
        assert_eq!(net.caller().footprint().calls, 0);
    }
}

#[test]
fn whole_items_that_arrived_before_a_reset_are_read_before_it_is_told() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    let job = net.sites[1].jobs.pop_front().unwrap();
    for item in [&b"one"[..], b"two"] {
        net.worker(1).respond(job, Bytes::from_static(item)).unwrap();
    }
    net.pump();
    net.reset(1);
    let at = Some(Box::new(At { instance: InstanceId(1), addr: Some(addr(1)), attempts: 1 }));
    let lost = CallError::Disconnected { reason: CloseReason::Reset, delivered: true, at };
    let items = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    assert_eq!(net.read(call), (items, Some(Err(lost))));
    net.release(call);
    assert_eq!(net.caller().footprint(), crate::caller::stats::Footprint::default());
}

#[test]
fn an_idempotent_call_is_tried_again_when_nothing_has_come_back_and_no_other_is() {
    for (idempotent, answered, runs) in [(false, false, 1), (true, false, 2), (true, true, 1)] {
        let mut net = Net::plain(1);
        net.sites[1].echoes = false;
        let endpoint = net.endpoint(&[1]);
        let call = net.call(endpoint, Request { idempotent, ..request("x") });
        net.pump();
        let job = net.sites[1].jobs.pop_front().unwrap();
        if answered {
            net.worker(1).respond(job, Bytes::from_static(b"1")).unwrap();
            net.pump();
        }
        net.sites[1].echoes = true;
        net.reset(1);
        net.advance(secs(2));
        let outcome = net.read(call).1.unwrap();
        assert_eq!((outcome.is_ok(), net.sites[1].started), (runs == 2, runs));
        assert!(outcome.is_ok() || outcome.is_err_and(|error| !error.is_retryable()));
    }
}

#[test]
fn a_call_not_delivered_runs_exactly_once_after_its_connection_is_lost() {
    let mut net = Net::plain(1);
    let endpoint = net.endpoint(&[1]);
    let warm = net.call(endpoint, request("x"));
    net.pump();
    net.sites[0].jammed = true;
    let call = net.call(endpoint, request("y"));
    net.pump();
    net.reset(1);
    net.sites[0].jammed = false;
    net.advance(secs(1));
    assert_eq!(net.read(call), (vec![Bytes::from_static(b"y")], Some(Ok(()))));
    assert_eq!(net.sites[1].started, 2);
    for call in [warm, call] {
        net.release(call);
    }
    net.assert_idle();
}

#[test]
fn an_overloaded_worker_is_left_alone_for_as_long_as_it_asks() {
    let mut net = Net::new(Config::default(), worker::Config { retry_after: secs(2), ..full() }, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let busy = net.call(endpoint, request("x"));
    let turned_away = net.call(endpoint, request("y"));
    net.advance(millis(1990));
    assert_eq!(net.worker(1).stats().overloaded, 1);
    net.advance(millis(100));
    assert_eq!(net.worker(1).stats().overloaded, 2);
    net.advance(secs(3));
    let error = net.outcome(turned_away).unwrap_err();
    let advice = Some(secs(2));
    assert!(
        matches!(&error, CallError::Rejected { code: RejectCode::Overloaded, retry_after, .. } if *retry_after == advice),
        "{error:?}"
    );
    assert_eq!((net.read(busy).1, net.worker(1).stats().overloaded), (None, 3));
}

#[test]
fn an_unknown_endpoint_is_refused_with_its_code_and_the_worker_stays_connected() {
    let mut net = Net::new(no_retry(), worker::Config::default(), 1);
    let endpoint = net.endpoint(&[1]);
    net.worker(1).unserve(PATH);
    let call = net.call(endpoint, request("x"));
    net.pump();
    assert!(matches!(net.outcome(call), Err(CallError::Rejected { code: RejectCode::UnknownEndpoint, .. })));
    net.release(call);
    net.assert_idle();
    assert_eq!(net.caller().footprint().connections, 1);
}

#[test]
fn calls_a_leaving_worker_has_not_seen_run_elsewhere_and_those_it_has_finish() {
    let mut net = Net::plain(2);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let running = net.call(endpoint, request("x"));
    net.pump();
    net.instances(endpoint, &[1, 2]);
    let now = net.now;
    net.worker(1).drain(now);
    net.sites[0].mood = Mood::Stopped;
    net.pump();
    let unseen: Vec<_> = (0..4).map(|_| net.call(endpoint, request("y"))).collect();
    net.sites[0].mood = Mood::Well;
    net.advance(secs(1));
    for call in unseen {
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
    }
    assert_eq!((net.sites[1].started, net.sites[2].started), (1, 4));
    assert_eq!(net.read(running), (vec![], None));
    let job = net.sites[1].jobs.pop_front().unwrap();
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!((net.outcome(running), net.sites[1].drained), (Ok(()), 1));
}

#[test]
fn a_flipped_bit_leaves_undelivered_calls_to_be_tried_again_and_others_not() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let seen = net.call(endpoint, request("x"));
    net.pump();
    net.sites[0].jammed = true;
    let unseen = net.call(endpoint, request("y"));
    net.pump();
    net.sites[1].echoes = true;
    let job = net.sites[1].jobs.pop_front().unwrap();
    net.sites[1].flip = true;
    net.worker(1).respond(job, Bytes::from_static(b"answer")).unwrap();
    net.pump();
    net.sites[0].jammed = false;
    net.advance(secs(1));
    assert!(matches!(net.outcome(seen), Err(CallError::Protocol { fault: Fault::Wire(_), delivered: true })));
    assert_eq!(net.read(unseen), (vec![Bytes::from_static(b"y")], Some(Ok(()))));
    assert_eq!(net.sites[1].faults, [Fault::Told(goaway::CHECKSUM)]);
    for call in [seen, unseen] {
        net.release(call);
    }
    net.assert_idle();
}

#[test]
fn a_cancel_before_the_call_has_been_written_ends_it_here_and_the_worker_never_hears_of_it() {
    for mode in [CancelMode::Stop, CancelMode::Kill] {
        let mut net = Net::plain(1);
        let endpoint = net.endpoint(&[1]);
        let now = net.now;
        let dialing = net.call(endpoint, request("a"));
        net.caller().cancel(dialing, mode, now);
        net.pump();
        net.sites[0].jammed = true;
        let unwritten = net.call(endpoint, request("b"));
        net.caller().cancel(unwritten, mode, now);
        net.sites[0].jammed = false;
        let empty = net.endpoint(&[]);
        let waiting = net.call(empty, request("c"));
        net.caller().cancel(waiting, mode, now);
        net.pump();
        for call in [dialing, unwritten, waiting] {
            assert_eq!(net.outcome(call), Err(CallError::Cancelled));
            net.caller().cancel(call, CancelMode::Kill, now);
            net.release(call);
        }
        assert_eq!(net.sites[1].started, 0);
        net.assert_idle();
        let candidate_load = net.caller().endpoints.sums().0;
        assert_eq!(candidate_load, 0);
    }
}

#[test]
fn a_request_item_the_worker_does_not_take_fails_the_call_and_not_the_connection() {
    let mut net = Net::new(Config::default(), mux_limits(|mux| mux.max_item = 10), 1);
    let endpoint = net.endpoint(&[1]);
    let calls = ["x", "eleven byte", "y"].map(|body| net.call(endpoint, request(body)));
    net.pump();
    let outcomes = calls.map(|call| net.outcome(call));
    assert_eq!(outcomes, [Ok(()), Err(CallError::TooLarge { limit: 10 }), Ok(())]);
    calls.into_iter().for_each(|call| net.release(call));
    net.assert_idle();
}

#[test]
fn a_failure_of_the_handler_is_the_outcome() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    let (now, job) = (net.now, net.sites[1].jobs.pop_front().unwrap());
    net.worker(1).finish(job, Ending::failed(Class::InvalidRequest, "backend.invalid_argument", "no"), now);
    net.pump();
    let (reason, message) = ("backend.invalid_argument".into(), "no".into());
    assert_eq!(net.outcome(call), Err(CallError::Failed { class: Class::InvalidRequest, reason, message }));
}

#[test]
fn several_connections_to_one_address_share_the_calls() {
    let config = Config { connections_per_address: 4, ..Config::default() };
    let mut net = Net::new(config, worker::Config::default(), 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    for _ in 0..40 {
        net.call(endpoint, request("x"));
    }
    net.pump();
    let (loads, _) = net.caller().pool.loads();
    assert_eq!(loads, [10; 4]);
}

#[test]
fn ten_thousand_calls_of_every_fate_leave_everything_as_it_was() {
    let config = worker::Config { max_running: 20, max_queued: 10, ..worker::Config::default() };
    let mut net = Net::new(Config::default(), config, 2);
    let endpoint = net.endpoint(&[1, 2]);
    let empty = net.endpoint(&[]);
    let mut ok = 0;
    for round in 0..100 {
        let calls: Vec<CallId> = (0..100)
            .map(|n| {
                let timeout = (n % 10 == 3).then_some(millis(n));
                let target = if n % 10 == 7 { empty } else { endpoint };
                net.call(target, Request { timeout, idempotent: n % 2 == 0, ..request("x") })
            })
            .collect();
        net.sites[1].echoes = round % 3 != 0;
        net.pump();
        for (n, call) in calls.iter().enumerate().filter(|(n, _)| n % 5 == 4) {
            let (now, mode) = (net.now, if n % 2 == 0 { CancelMode::Stop } else { CancelMode::Kill });
            net.caller().cancel(*call, mode, now);
        }
        if round % 10 == 5 {
            net.reset(2);
        }
        net.advance(millis(300));
        for job in core::mem::take(&mut net.sites[1].jobs) {
            let now = net.now;
            net.worker(1).finish(job, Ending::ok(), now);
        }
        for call in &calls {
            ok += u32::from(net.read(*call).1 == Some(Ok(())));
            net.release(*call);
            assert!(matches!(net.caller().recv(*call, crate::time::Instant::ZERO), Recv::End(Err(CallError::Closed))));
            net.release(*call);
        }
    }
    while let Some(job) = net.sites[1].jobs.pop_front() {
        let now = net.now;
        net.worker(1).finish(job, Ending::ok(), now);
        net.pump();
    }
    net.advance(secs(1));
    net.assert_idle();
    assert!(ok > 2000, "{ok} calls ended well");
    let caller = net.caller();
    assert!(caller.wheel.len() <= 2 && caller.events.is_empty(), "{} timers", caller.wheel.len());
    let (in_flight, waiting, _) = caller.endpoints.sums();
    let (_, attached) = caller.pool.loads();
    assert!(waiting + attached <= 300, "{waiting} + {attached} entries of calls that are gone");
    assert_eq!(in_flight, 0);
    assert!(net.worker(1).timers() <= 1 && net.worker(2).timers() <= 1);
    net.advance(secs(400));
    net.assert_empty();
    assert!(net.caller().wheel.is_empty() && net.caller().pool.is_empty());
}

#[test]
fn a_shutdown_lets_calls_finish_and_says_so_once() {
    use crate::caller::request::Event;
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    let now = net.now;
    net.caller().shutdown(now);
    assert_eq!(net.caller().call(endpoint, request("y"), now), Err(CallError::Closed));
    net.pump();
    let job = net.sites[1].jobs.pop_front().unwrap();
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
    assert_eq!(net.outcome(call), Ok(()));
    assert!(!net.sites[0].calls.contains(&Event::Closed));
    net.release(call);
    net.assert_empty();
    net.caller().shutdown(now);
    net.pump();
    assert_eq!(net.sites[0].calls.iter().filter(|event| **event == Event::Closed).count(), 1);
}
