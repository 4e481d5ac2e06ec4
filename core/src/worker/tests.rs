//! A worker with callers over an in-memory network: admission, cancellation, deadlines, drain.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::buf::slab::Key;
use crate::caller;
use crate::caller::error::CallError;
use crate::caller::request::{CallId, EndpointKey, Event as CallerEvent, Request};
use crate::caller::target::Target;
use crate::id::InstanceId;
use crate::mux::event::{Ending, Recv};
use crate::protocol::{Fault, Protocol};
use crate::retry::backoff;
use crate::route::policy::any::AnyPolicy;
use crate::tests::net::{Mood, Net, PATH, addr, millis, request, secs};
use crate::wire::class::Class;
use crate::wire::mux::message::{CancelMode, RejectCode, Status};
use crate::worker::config::Config;
use crate::worker::job::{Cause, JobId};

/// A caller that never tries twice and a worker whose jobs the test ends.
fn net(config: Config) -> (Net, EndpointKey) {
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let mut net = Net::new(caller::config::Config { backoff, ..caller::config::Config::default() }, config, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    (net, endpoint)
}

fn room(max_running: usize, max_queued: usize) -> Config {
    Config { max_running, max_queued, ..Config::default() }
}

fn finish(net: &mut Net, job: JobId) {
    let now = net.now;
    net.worker(1).finish(job, Ending::ok(), now);
    net.pump();
}

fn calls(net: &mut Net, endpoint: EndpointKey, count: usize) -> Vec<CallId> {
    let calls = (0..count).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    calls
}

fn rejected(net: &mut Net, call: CallId) -> RejectCode {
    match net.outcome(call) {
        Err(CallError::Rejected { code, .. }) => code,
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn as_many_calls_run_and_wait_as_allowed_and_the_rest_is_refused_with_advice() {
    let (mut net, endpoint) = net(room(2, 3));
    let calls = calls(&mut net, endpoint, 7);
    assert_eq!((net.worker(1).load(), net.sites[1].started), ((2, 3), 2));
    let advice = Some(millis(100));
    for call in &calls[5..] {
        let outcome = net.outcome(*call);
        let Err(CallError::Rejected { code: RejectCode::Overloaded, retry_after, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(retry_after, advice);
    }
    let told: Vec<_> = net.sites[0].calls.iter().filter(|event| matches!(event, CallerEvent::Status(..))).collect();
    let expected = [Status::Running, Status::Running, Status::Queued(0), Status::Queued(1), Status::Queued(2)];
    let expected: Vec<_> =
        calls.iter().zip(expected).map(|(call, status)| CallerEvent::Status(*call, status)).collect();
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
    // First come, first served.
    for (n, call) in calls[..5].iter().enumerate() {
        let job = net.sites[1].jobs.pop_front().unwrap();
        finish(&mut net, job);
        assert_eq!(net.outcome(*call), Ok(()));
        assert_eq!(net.sites[1].started, (n + 3).min(5));
    }
    calls.into_iter().for_each(|call| net.release(call));
    net.assert_idle();
    assert_eq!((net.worker(1).stats().admitted, net.worker(1).stats().overloaded), (5, 2));
}

#[test]
fn a_queued_call_that_is_cancelled_expires_or_loses_its_connection_never_starts() {
    let (mut net, endpoint) = net(room(1, 9));
    let busy = calls(&mut net, endpoint, 1)[0];
    let stopped = net.call(endpoint, request("x"));
    let killed = net.call(endpoint, request("x"));
    let expiring = net.call(endpoint, Request { timeout: Some(secs(1)), ..request("x") });
    let kept = net.call(endpoint, request("x"));
    net.pump();
    let now = net.now;
    net.caller().cancel(stopped, CancelMode::Stop, now);
    net.caller().cancel(killed, CancelMode::Kill, now);
    net.advance(secs(2));
    assert_eq!(net.worker(1).load(), (1, 1));
    assert_eq!(net.outcome(stopped), Err(CallError::Cancelled));
    assert_eq!(net.outcome(killed), Err(CallError::Cancelled));
    assert!(net.outcome(expiring).is_err());
    net.reset(1);
    assert_eq!(net.worker(1).load(), (1, 0));
    let job = net.sites[1].jobs.pop_front().unwrap();
    assert_eq!(net.sites[1].cancelled, [(job, Cause::Disconnected)]);
    finish(&mut net, job);
    assert_eq!(net.sites[1].started, 1);
    for call in [busy, stopped, killed, expiring, kept] {
        net.release(call);
    }
    net.assert_empty();
    assert_eq!(net.worker(1).timers(), 0);
}

#[test]
fn a_deadline_that_passed_in_the_queue_is_refused_even_if_the_clock_was_not_looked_at() {
    let (mut net, endpoint) = net(room(1, 9));
    calls(&mut net, endpoint, 1);
    // The caller stops, so that only the worker can end the call.
    let queued = net.call(endpoint, Request { timeout: Some(secs(1)), ..request("x") });
    net.pump();
    net.sites[0].mood = Mood::Stopped;
    net.now = net.now + secs(2);
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    assert_eq!((net.sites[1].started, net.worker(1).load()), (1, (0, 0)));
    net.sites[0].mood = Mood::Well;
    net.pump();
    assert_eq!(net.outcome(queued), Err(CallError::DeadlineExceeded), "whoever notices");
    assert_eq!(net.worker(1).stats().expired, 1);
}

#[test]
fn a_call_that_arrives_without_time_left_is_refused() {
    let (mut net, endpoint) = net(room(1, 9));
    calls(&mut net, endpoint, 1);
    net.sites[0].jammed = true;
    let late = net.call(endpoint, Request { timeout: Some(secs(1)), ..request("x") });
    net.now = net.now + secs(2);
    net.sites[0].jammed = false;
    net.pump();
    assert_eq!((net.outcome(late), net.worker(1).stats().expired), (Err(CallError::DeadlineExceeded), 1));
}

#[test]
fn a_running_call_out_of_time_is_told_and_keeps_its_place_until_it_lets_go() {
    let (mut net, endpoint) = net(room(1, 0));
    let call = net.call(endpoint, Request { timeout: Some(secs(1)), ..request("x") });
    net.pump();
    net.sites[0].mood = Mood::Stopped;
    net.advance(secs(2));
    let job = net.sites[1].jobs.pop_front().unwrap();
    assert_eq!(net.sites[1].cancelled, [(job, Cause::Deadline)]);
    assert_eq!(net.worker(1).respond(job, Bytes::new()), Err(SendError::Closed));
    assert!(matches!(net.worker(1).recv(job), Recv::End(Ending { class: Some(Class::Cancelled), .. })));
    assert_eq!(net.worker(1).load(), (1, 0));
    net.sites[0].mood = Mood::Well;
    net.pump();
    assert_eq!(net.outcome(call), Err(CallError::DeadlineExceeded));
    for _ in 0..2 {
        finish(&mut net, job);
        assert_eq!(net.worker(1).load(), (0, 0), "a place is given back once");
    }
    net.release(call);
    net.assert_idle();
}

#[test]
fn stale_and_invented_job_ids_are_harmless() {
    let (mut net, endpoint) = net(room(1, 4));
    let calls = calls(&mut net, endpoint, 2);
    let old = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, old);
    let now = net.now;
    for job in [old, JobId(Key { index: 77, generation: 1 }), JobId(Key { index: 0, generation: 0 })] {
        let worker = net.worker(1);
        worker.finish(job, Ending::ok(), now);
        assert_eq!(worker.respond(job, Bytes::new()), Err(SendError::Closed));
        assert!(matches!(worker.recv(job), Recv::End(_)));
        assert!(worker.opening(job).is_none() && worker.take_header(job).is_none() && worker.deadline(job).is_none());
    }
    assert_eq!(net.worker(1).load(), (1, 0));
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    calls.into_iter().for_each(|call| assert_eq!(net.outcome(call), Ok(())));
}

#[test]
fn cancels_reach_a_running_call_once_each_and_a_kill_frees_its_stream() {
    let (mut net, endpoint) = net(room(9, 0));
    let sequences: [(&[CancelMode], &[Cause]); 4] = [
        (&[CancelMode::Stop], &[Cause::Stop]),
        (&[CancelMode::Kill, CancelMode::Kill], &[Cause::Kill]),
        (&[CancelMode::Stop, CancelMode::Kill], &[Cause::Stop, Cause::Kill]),
        (&[CancelMode::Kill, CancelMode::Stop], &[Cause::Kill]),
    ];
    for (modes, causes) in sequences {
        let call = calls(&mut net, endpoint, 1)[0];
        let job = net.sites[1].jobs.pop_front().unwrap();
        let now = net.now;
        net.worker(1).respond(job, Bytes::from_static(b"1")).unwrap();
        net.pump();
        for mode in modes {
            net.caller().cancel(call, *mode, now);
            net.pump();
        }
        let told: Vec<_> = core::mem::take(&mut net.sites[1].cancelled);
        assert_eq!(told, causes.iter().map(|cause| (job, *cause)).collect::<Vec<_>>(), "{modes:?}");
        let killed = modes.contains(&CancelMode::Kill);
        assert_eq!(net.worker(1).footprint().streams, u64::from(!killed));
        assert_eq!(net.worker(1).load(), (1, 0), "the place is the handler's until it lets go");
        finish(&mut net, job);
        assert_eq!(net.outcome(call), if killed { Err(CallError::Cancelled) } else { Ok(()) });
        net.caller().cancel(call, CancelMode::Kill, now);
        net.release(call);
        net.caller().cancel(call, CancelMode::Stop, now);
        net.assert_idle();
    }
}

/// A second caller, site 2, of the worker at site 1.
fn second_caller(net: &mut Net) -> EndpointKey {
    let now = net.now;
    let caller = &mut net.sites[2].node.caller;
    let endpoint = caller.endpoint(AnyPolicy::default());
    caller.set_instances(endpoint, [(InstanceId(1), Target::mux(addr(1), PATH))], now);
    endpoint
}

/// As many calls of the second caller; how many of them the worker took.
fn taken_from_second(net: &mut Net, endpoint: EndpointKey, count: u64) -> u64 {
    let before = net.worker(1).stats().overloaded;
    for _ in 0..count {
        let now = net.now;
        net.sites[2].node.caller.call(endpoint, request("x"), now).unwrap();
    }
    net.pump();
    count - (net.worker(1).stats().overloaded - before)
}

fn two_callers(config: Config) -> (Net, EndpointKey, EndpointKey) {
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let mut net = Net::new(caller::config::Config { backoff, ..caller::config::Config::default() }, config, 2);
    net.sites[1].echoes = false;
    let first = net.endpoint(&[1]);
    let second = second_caller(&mut net);
    (net, first, second)
}

#[test]
fn one_connection_holds_no_more_than_its_share_and_others_still_get_in() {
    let (mut net, first, second) = two_callers(room(1200, 0));
    let calls = calls(&mut net, first, 700);
    assert_eq!((net.worker(1).load(), net.worker(1).stats().overloaded), ((300, 0), 400), "a quarter");
    let Err(CallError::Rejected { code: RejectCode::Overloaded, retry_after, .. }) = net.outcome(calls[300]) else {
        panic!("not rejected");
    };
    assert_eq!(retry_after, Some(millis(100)));
    assert_eq!(taken_from_second(&mut net, second, 10), 10);
    // A place given back is a place to take.
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    self::calls(&mut net, first, 5);
    assert_eq!(net.worker(1).load(), (310, 0));
    // So is every place of a connection that is gone, once its handlers have let go.
    net.reset(2);
    while let Some((job, _)) = net.sites[1].cancelled.pop() {
        finish(&mut net, job);
    }
    assert_eq!(net.worker(1).load(), (300, 0));
    assert_eq!(taken_from_second(&mut net, second, 400), 300);
}

#[test]
fn one_connection_fills_no_more_than_its_share_of_the_queue_and_none_of_it_runs_beyond_the_other() {
    // 256 of either: the least that everybody gets.
    let (mut net, first, second) = two_callers(room(300, 600));
    calls(&mut net, first, 700);
    assert_eq!(net.worker(1).load(), (256, 0), "there is room, but not for its calls");
    assert_eq!(taken_from_second(&mut net, second, 700), 44 + 256);
    assert_eq!(net.worker(1).load(), (300, 256));
    assert_eq!(calls(&mut net, first, 1).len(), 1);
    assert_eq!(net.worker(1).load(), (300, 257), "it waits for one of its own to end");
    // Those of the second run until it has its share; then the rest of them is refused, and the first one's call runs.
    let before = net.worker(1).stats().overloaded;
    for _ in 0..256 {
        let job = net.sites[1].jobs.pop_front().unwrap();
        finish(&mut net, job);
    }
    assert_eq!((net.worker(1).load(), net.worker(1).stats().overloaded - before), ((257, 0), 44));
    while let Some(job) = net.sites[1].jobs.pop_front() {
        finish(&mut net, job);
    }
    assert_eq!(net.worker(1).load(), (0, 0));
    assert_eq!(taken_from_second(&mut net, second, 300), 256);
}

#[test]
fn a_lone_caller_has_all_of_a_small_worker_and_of_one_that_shares_nothing() {
    for (config, places) in [(room(1, 8), 9), (room(256, 1), 257), (Config { share: 100, ..room(300, 300) }, 600)] {
        let (mut net, endpoint) = net(config);
        calls(&mut net, endpoint, 700);
        let (running, queued) = net.worker(1).load();
        assert_eq!(running + queued, places);
    }
}

#[test]
fn a_call_whose_body_never_comes_loses_its_place_though_its_caller_answers_pings() {
    let patient = caller::config::Config { item_timeout: secs(100_000), ..caller::config::Config::default() };
    let mut net = Net::new(patient, Config { max_wait: secs(100_000), ..room(1, 9) }, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let holding = net.call(endpoint, Request::default());
    net.pump();
    let waiting = calls(&mut net, endpoint, 1)[0];
    let job = net.sites[1].jobs.pop_front().unwrap();
    let now = net.now;
    assert_eq!(net.worker(1).recv(job), Recv::Pending);
    net.advance(secs(599));
    assert_eq!((net.worker(1).load(), net.sites[1].cancelled.len()), ((1, 1), 0));
    net.advance(secs(600 / 16 + 2));
    assert_eq!(net.sites[1].cancelled, [(job, Cause::Deadline)]);
    finish(&mut net, job);
    assert_eq!((net.worker(1).load(), net.worker(1).stats().stalled), ((1, 0), 1), "the next one runs");
    assert_eq!(net.outcome(holding), Err(CallError::DeadlineExceeded));
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    assert_eq!(net.outcome(waiting), Ok(()));
    assert!(net.now.since(now) < secs(700));
    [holding, waiting].into_iter().for_each(|call| net.release(call));
    net.assert_idle();
}

#[test]
fn a_queued_call_whose_body_never_comes_does_not_wait_for_ever() {
    let patient = caller::config::Config { item_timeout: secs(100_000), ..caller::config::Config::default() };
    let mut net = Net::new(patient, Config { max_wait: secs(100_000), ..room(1, 9) }, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    calls(&mut net, endpoint, 1);
    let queued = net.call(endpoint, Request::default());
    net.advance(secs(650));
    assert_eq!((net.worker(1).load(), net.sites[1].cancelled.len()), ((1, 0), 0));
    assert_eq!(net.outcome(queued), Err(CallError::DeadlineExceeded));
}

#[test]
fn a_drain_lets_running_calls_finish_refuses_the_queue_and_ends_when_the_last_word_is_written() {
    let (mut net, endpoint) = net(room(1, 4));
    let calls = calls(&mut net, endpoint, 2);
    let now = net.now;
    net.worker(1).drain(now);
    net.pump();
    assert_eq!(rejected(&mut net, calls[1]), RejectCode::Draining);
    let late = net.call(endpoint, request("x"));
    net.advance(secs(1));
    assert_eq!(rejected(&mut net, late), RejectCode::Draining);
    assert_eq!((net.sites[1].started, net.sites[1].drained), (1, 0));
    // The answer cannot be written yet.
    net.sites[1].jammed = true;
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    assert_eq!(net.sites[1].drained, 0, "the outcome has not left");
    net.sites[1].jammed = false;
    net.pump();
    assert_eq!((net.outcome(calls[0]), net.sites[1].drained), (Ok(()), 1));
    let now = net.now;
    net.worker(1).drain(now);
    net.advance(secs(60));
    assert_eq!(net.sites[1].drained, 1);
    calls.into_iter().chain([late]).for_each(|call| net.release(call));
    net.assert_empty();
    assert_eq!(net.worker(1).timers(), 0);
}

#[test]
fn a_drain_ends_in_time_whatever_handlers_and_peers_do() {
    let (mut net, endpoint) = net(room(4, 0));
    let call = calls(&mut net, endpoint, 1)[0];
    let now = net.now;
    net.worker(1).drain(now);
    net.advance(secs(29));
    assert_eq!((net.sites[1].drained, net.sites[1].cancelled.len()), (0, 0));
    net.advance(secs(2));
    let job = net.sites[1].jobs.pop_front().unwrap();
    assert_eq!((net.sites[1].drained, &net.sites[1].cancelled), (1, &vec![(job, Cause::Drain)]));
    assert!(matches!(net.outcome(call), Err(CallError::Failed { class: Class::Unavailable, .. })));
    assert_eq!(net.worker(1).stats().cut_off, 1, "it is counted");
    finish(&mut net, job);
    net.advance(secs(60));
    assert_eq!((net.sites[1].drained, net.worker(1).stats().cut_off), (1, 1));
    net.release(call);
    net.assert_empty();
}

#[test]
fn a_worker_without_connections_is_drained_at_once() {
    let (mut net, _) = net(room(1, 1));
    let now = net.now;
    net.worker(1).drain(now);
    net.pump();
    assert_eq!((net.sites[1].drained, net.worker(1).poll_timeout()), (1, None));
}

/// An endpoint of the worker's beside the one that is there already, and calls of both that run.
fn two_endpoints(config: Config) -> (Net, EndpointKey, EndpointKey) {
    const OTHER: &str = "1/a/b/other";
    let (mut net, one) = net(config);
    net.worker(1).serve(OTHER, 2);
    let two = net.sites[0].node.caller.endpoint(AnyPolicy::default());
    let now = net.now;
    net.caller().set_instances(two, [(InstanceId(1), Target::mux(addr(1), OTHER))], now);
    (net, one, two)
}

#[test]
fn an_endpoint_is_drained_and_serves_again_while_another_serves() {
    let (mut net, one, two) = two_endpoints(room(2, 9));
    let (first, second) = (calls(&mut net, one, 1)[0], calls(&mut net, two, 1)[0]);
    let (waiting, other) = (calls(&mut net, one, 1)[0], calls(&mut net, two, 1)[0]);
    let now = net.now;
    assert_eq!(net.worker(1).drain_endpoint("1/nobody", now), None);
    assert_eq!(net.worker(1).drain_endpoint(PATH, now), Some(1));
    net.pump();
    let new = calls(&mut net, one, 1)[0];
    assert_eq!((rejected(&mut net, waiting), rejected(&mut net, new)), (RejectCode::Draining, RejectCode::Draining));
    assert_eq!((net.worker(1).load(), net.sites[1].endpoints_drained.len()), ((2, 1), 0), "the other's waits on");
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    assert_eq!((net.outcome(first), net.sites[1].endpoints_drained.as_slice()), (Ok(()), &[0][..]));
    for call in [second, other] {
        let job = net.sites[1].jobs.pop_front().unwrap();
        finish(&mut net, job);
        assert_eq!(net.outcome(call), Ok(()));
    }
    assert_eq!(net.worker(1).drain_endpoint(PATH, now), Some(1));
    net.pump();
    assert_eq!(net.sites[1].endpoints_drained, [0, 0], "there is nothing to wait for");
    assert_eq!(net.worker(1).resume_endpoint(PATH), Some(1));
    let again = calls(&mut net, one, 1)[0];
    let job = net.sites[1].jobs.pop_front().unwrap();
    finish(&mut net, job);
    assert_eq!((net.outcome(again), net.sites[1].drained), (Ok(()), 0));
    assert_eq!(net.caller().footprint().connections, 1, "and the connection has stayed");
}

#[test]
fn calls_of_a_drained_endpoint_end_with_its_bound_and_those_of_others_do_not() {
    let (mut net, one, two) = two_endpoints(Config { drain_timeout: secs(5), ..Config::default() });
    let (slow, other) = (calls(&mut net, one, 1)[0], calls(&mut net, two, 1)[0]);
    let now = net.now;
    net.worker(1).drain_endpoint(PATH, now);
    net.advance(millis(4900));
    assert_eq!(net.read(slow).1, None);
    net.advance(millis(200));
    let Err(CallError::Failed { class, reason, .. }) = net.outcome(slow) else { panic!() };
    assert_eq!((class, &*reason), (Class::Unavailable, "backend.engine_shutdown"));
    assert_eq!((net.worker(1).stats().cut_off, net.sites[1].endpoints_drained.as_slice()), (1, &[1][..]));
    let job = net.sites[1].jobs[0];
    assert_eq!(net.sites[1].cancelled, [(job, Cause::Drain)]);
    assert_eq!(net.read(other).1, None);
    for job in std::mem::take(&mut net.sites[1].jobs) {
        finish(&mut net, job);
    }
    assert_eq!((net.outcome(other), net.sites[1].endpoints_drained.len()), (Ok(()), 1));
}

#[test]
fn a_flipped_bit_ends_the_connection_for_both_sides_and_tells_the_handler() {
    for from in [0, 1] {
        let (mut net, endpoint) = net(room(4, 0));
        let call = calls(&mut net, endpoint, 1)[0];
        let job = net.sites[1].jobs.pop_front().unwrap();
        net.sites[from].flip = true;
        net.advance(secs(6));
        let faults = [0, 1].map(|site| net.sites[site].faults.clone());
        assert!(matches!(faults[1 - from][..], [Fault::Wire(_)]), "{faults:?}");
        assert!(matches!(faults[from][..], [Fault::Told(_)]), "{faults:?}");
        assert!(matches!(net.outcome(call), Err(CallError::Protocol { delivered: true, .. })));
        assert_eq!(net.sites[1].cancelled, [(job, Cause::Disconnected)]);
        finish(&mut net, job);
        net.release(call);
        net.assert_empty();
    }
}
