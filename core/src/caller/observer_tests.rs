//! What observers are told, in which order, and that their spans travel.

use std::cell::RefCell;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use crate::caller::config::Config;
use crate::caller::error::CallError;
use crate::caller::request::{CallId, Request};
use crate::mux::event::Opening;
use crate::observer::{
    CallBegun, CallEnded, CallTimes, CallTried, Observer, RequestAdmitted, RequestEnded, RequestRunning, Several,
};
use crate::retry::backoff;
use crate::tests::net::{Mood, Net, PATH, millis, request};
use crate::time::Instant;
use crate::wire::mux::message::CancelMode;
use crate::wire::trace_context::TraceParent;
use crate::worker;
use crate::worker::job::JobId;

/// Writes down what it is told, a word each, and makes the span of every step by its number.
#[derive(Default)]
struct Notes {
    told: RefCell<Vec<String>>,
    spans: bool,
}

impl Notes {
    fn add(&self, word: &str) {
        self.told.borrow_mut().push(word.to_string());
    }

    fn take(&self) -> Vec<String> {
        self.told.take()
    }

    fn span(&self, number: u8) -> Option<TraceParent> {
        self.spans.then(|| TraceParent::new([7; 16], [number; 8], TraceParent::SAMPLED).unwrap())
    }
}

impl Observer for Rc<Notes> {
    fn call_begun(&self, _: CallId, begun: &CallBegun<'_>) -> Option<TraceParent> {
        self.add(&format!("begun {} of {:?}", begun.endpoint, begun.traceparent));
        self.span(1)
    }

    fn call_refused(&self, endpoint: &str, error: &CallError) {
        self.add(&format!("refused {endpoint}: {error:?}"));
    }

    fn call_tried(&self, _: CallId, tried: &CallTried<'_>) -> Option<TraceParent> {
        assert!(tried.addr.is_some() && tried.begun <= tried.now);
        self.add(&format!("try {} at {}", tried.attempt, tried.instance.0));
        self.span(10 + u8::try_from(tried.attempt).unwrap())
    }

    fn call_sent(&self, _: CallId, _: Instant) {
        self.add("sent");
    }

    fn try_failed(&self, _: CallId, error: &CallError, _: Instant) {
        self.add(&format!("failed: {:?}", error.kind()));
    }

    fn call_answered(&self, _: CallId, times: &CallTimes, _: Instant) {
        assert!(times.sent.is_some() && times.answered.is_some());
        self.add("answered");
    }

    fn call_ended(&self, _: CallId, ended: &CallEnded<'_>) {
        let CallTimes { begun, tried, sent, accepted, answered } = ended.times;
        let steps = [Some(begun), tried, sent, accepted, answered].into_iter().flatten();
        assert!(steps.is_sorted(), "{:?}", ended.times);
        assert_eq!((ended.at.is_some(), ended.at.map_or(0, |at| at.attempts)), (tried.is_some(), ended.attempts));
        let outcome = ended.outcome.map_err(CallError::kind);
        let (stopped, left) = (ended.stopped, ended.left);
        self.add(&format!("ended after {}: {outcome:?}, stopped {stopped}, left {left}", ended.attempts));
    }

    fn request_admitted(&self, _: JobId, admitted: &RequestAdmitted<'_>) {
        self.add(&format!("admitted {} of {:?}", admitted.endpoint, admitted.open.traceparent));
    }

    fn request_running(&self, _: JobId, running: &RequestRunning<'_>) -> Option<TraceParent> {
        self.add(&format!("runs after {:?}", running.now.since(running.admitted)));
        self.span(20)
    }

    fn request_ended(&self, _: JobId, ended: &RequestEnded<'_>) {
        let class = ended.ending.map(|ending| ending.class);
        self.add(&format!("over: {class:?}, {:?}, {:?}", ended.cause, ended.refused));
    }
}

fn watched(mut net: Net, spans: bool) -> (Net, Rc<Notes>, Rc<Notes>) {
    let notes = |spans| Rc::new(Notes { spans, ..Notes::default() });
    let (caller, worker) = (notes(spans), notes(spans));
    net.caller().observe(Rc::new(caller.clone()));
    for site in 1..net.sites.len() {
        net.worker(site).observe(Rc::new(worker.clone()));
    }
    (net, caller, worker)
}

const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced(body: &'static str) -> Request {
    let opening = Opening { traceparent: Some(THEIRS.into()), ..Opening::default() };
    Request { opening, ..request(body) }
}

#[test]
fn each_step_of_a_call_is_told_once_and_in_order_and_the_span_of_the_try_travels() {
    let (mut net, caller, worker) = watched(Net::plain(2), true);
    net.sites[1].mood = Mood::Refusing;
    let endpoint = net.endpoint(&[1, 2]);
    net.caller().name(endpoint, "a.b.c");
    net.worker(2).name(1, "a.b.c");
    let mut met_both = false;
    for _ in 0..2 {
        let call = net.call(endpoint, traced("x"));
        net.advance(millis(500));
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
        let (told, heard) = (caller.take(), worker.take());
        let failed = told.iter().filter(|word| word.starts_with("failed")).count();
        let (tries, span) = if failed == 1 {
            (["try 1 at 1", "failed: Unavailable", "try 2 at 2"].as_slice(), "0c")
        } else {
            (["try 1 at 2"].as_slice(), "0b")
        };
        met_both |= failed == 1;
        let ended = format!("ended after {}: Ok(()), stopped false, left false", failed + 1);
        let first = format!("begun a.b.c of {:?}", Some(THEIRS));
        let expected = [&[first.as_str()][..], tries, &["sent", "answered", &ended]].concat();
        assert_eq!(told, expected);
        let parent = format!("00-{}-{}-01", "07".repeat(16), span.repeat(8));
        let expected =
            [&*format!("admitted a.b.c of {:?}", Some(parent)), "runs after 0ns", "over: Some(None), None, None"];
        assert_eq!(heard, expected);
    }
    assert!(met_both, "round robin has met the one that cannot be reached");
}

#[test]
fn without_spans_the_callers_own_parent_travels() {
    let (mut net, _, worker) = watched(Net::plain(1), false);
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, traced("x"));
    net.pump();
    assert_eq!(net.outcome(call), Ok(()));
    assert_eq!(
        worker.take()[0],
        format!("admitted {PATH} of {:?}", Some(THEIRS)),
        "an endpoint is its path until it is named"
    );
}

#[test]
fn calls_that_cannot_begin_and_those_that_are_left_or_stopped_are_told_apart() {
    let config = Config { max_calls: 1, ..Config::default() };
    let (mut net, caller, worker) = watched(Net::new(config, worker::Config::default(), 1), false);
    net.sites[1].echoes = false;
    let (endpoint, now) = (net.endpoint(&[1]), net.now);
    let call = net.call(endpoint, request("x"));
    assert_eq!(net.caller().call(endpoint, request("y"), now), Err(CallError::Overloaded));
    net.pump();
    net.release(call);
    net.pump();
    let expected = [
        "begun  of None",
        "try 1 at 1",
        "refused : Overloaded",
        "sent",
        "ended after 1: Err(Cancelled), stopped false, left true",
    ];
    assert_eq!(caller.take(), expected);
    let call = net.call(endpoint, request("x"));
    net.pump();
    net.caller().cancel(call, CancelMode::Stop, now);
    net.pump();
    net.caller().cancel(call, CancelMode::Kill, now);
    net.pump();
    assert_eq!(caller.take().last().unwrap(), "ended after 1: Err(Cancelled), stopped true, left false");
    // Each is over once its handler is.
    assert_eq!(worker.take().len(), 4);
    for _ in 0..2 {
        let job = net.sites[1].jobs.pop_front().unwrap();
        net.worker(1).finish(job, crate::mux::event::Ending::ok(), now);
    }
    assert_eq!(worker.take(), ["over: Some(None), Some(Kill), None"; 2]);
}

#[test]
fn a_call_that_no_instance_took_is_told_with_the_one_that_it_was_tried_at_last() {
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let config = worker::Config { max_running: 1, max_queued: 0, ..worker::Config::default() };
    let (mut net, caller, _) = watched(Net::new(Config { backoff, ..Config::default() }, config, 1), false);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let [running, refused] = ["x", "y"].map(|body| net.call(endpoint, request(body)));
    net.advance(millis(1));
    assert!(matches!(net.outcome(refused), Err(CallError::Rejected { .. })));
    let ended: Vec<_> = caller.take().into_iter().filter(|word| word.starts_with("ended")).collect();
    assert_eq!(ended, ["ended after 1: Err(NoRoom), stopped false, left false"]);
    let at = [refused, running].map(|call| net.caller().instance(call).map(|at| (at.instance.0, at.attempts)));
    assert_eq!(at, [Some((1, 1)); 2]);
}

#[test]
fn a_request_that_waits_is_told_of_twice_and_one_that_is_given_up_never_runs() {
    let config = worker::Config { max_running: 1, ..worker::Config::default() };
    let backoff = backoff::Config { attempts: 1, ..backoff::Config::default() };
    let (mut net, _, worker) = watched(Net::new(Config { backoff, ..Config::default() }, config, 1), false);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let calls = [net.call(endpoint, request("x")), net.call(endpoint, request("y")), net.call(endpoint, request("z"))];
    net.advance(millis(3));
    net.release(calls[1]);
    net.pump();
    let (job, now) = (net.sites[1].jobs.pop_front().unwrap(), net.now);
    net.worker(1).finish(job, crate::mux::event::Ending::ok(), now);
    net.pump();
    let told = worker.take();
    let expected =
        ["runs after 0ns", "over: None, None, Some(Cancelled)", "over: Some(None), None, None", "runs after 3ms"];
    let told: Vec<_> = told.iter().filter(|word| !word.starts_with("admitted")).collect();
    assert_eq!(told, expected);
}

#[test]
fn of_several_observers_each_is_told_and_the_last_span_counts() {
    let (one, other) = (Rc::new(Notes::default()), Rc::new(Notes { spans: true, ..Notes::default() }));
    let none = Rc::new(Notes::default());
    let all: [Rc<dyn Observer>; 3] = [Rc::new(one.clone()), Rc::new(other.clone()), Rc::new(none.clone())];
    let mut net = Net::plain(1);
    let notes = Rc::new(Notes::default());
    net.caller().observe(Rc::new(Several(all.into())));
    net.worker(1).observe(Rc::new(notes.clone()));
    let endpoint = net.endpoint(&[1]);
    let call = net.call(endpoint, request("x"));
    net.pump();
    assert_eq!(net.outcome(call), Ok(()));
    assert!(notes.take()[0].contains("0b0b0b0b"), "the span of the second one");
    let told = one.take();
    assert_eq!((told.len(), other.take(), none.take()), (5, told.clone(), told));
}

/// How long readers waited.
#[derive(Clone, Default)]
struct Waits(Rc<RefCell<Vec<Duration>>>);

impl Observer for Waits {
    fn call_waited(&self, _: CallId, endpoint: &str, time: Duration) {
        assert_eq!(endpoint, "a.b.c");
        self.0.borrow_mut().push(time);
    }
}

#[test]
fn a_reader_that_has_taken_everything_is_told_of_its_wait_and_one_that_lags_is_not() {
    let (mut net, waits) = (Net::plain(1), Waits::default());
    net.caller().observe(Rc::new(waits.clone()));
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    net.caller().name(endpoint, "a.b.c");
    let call = net.call(endpoint, request("x"));
    net.pump();
    let job = net.sites[1].jobs.pop_front().unwrap();
    let send = |net: &mut Net, after| {
        net.advance(millis(after));
        net.worker(1).respond(job, Bytes::from_static(b"y")).unwrap();
        net.pump();
    };
    send(&mut net, 7);
    assert_eq!(net.read(call).0.len(), 1);
    send(&mut net, 3);
    // Nobody waited for this one: the one before has not been read.
    send(&mut net, 5);
    assert_eq!(net.read(call).0.len(), 2);
    send(&mut net, 4);
    assert_eq!(waits.0.take(), [millis(3), millis(4)]);
}
