//! What calls make of their instances, as it is seen from outside.

use std::vec;
use std::vec::Vec;

use crate::caller::error::CallError;
use crate::caller::view::InstanceView;
use crate::mux::event::Ending;
use crate::route::health::State;
use crate::tests::net::{Mood, Net, millis, request, secs};
use crate::wire::class::Class;

#[test]
fn a_view_tells_calls_in_flight_and_what_is_held_against_whom_for_how_long() {
    let mut net = Net::plain(2);
    net.sites[1].echoes = false;
    net.sites[2].mood = Mood::Refusing;
    let endpoint = net.endpoint(&[1, 2]);
    let calls = [net.call(endpoint, request("x")), net.call(endpoint, request("y"))];
    net.advance(millis(300));
    let now = net.now;
    let seen: Vec<InstanceView> = net.caller().view(endpoint, now).collect();
    let of = |index: usize| (seen[index].id.0, seen[index].protocol, seen[index].state, seen[index].avoided_by);
    assert_eq!([of(0), of(1)], [(1, "mux", State::Routable, 0), (2, "mux", State::Suspect, 1)]);
    assert_eq!((seen[0].in_flight, seen[1].in_flight, seen[0].remaining), (2, 0, None));
    assert!(seen[1].remaining.is_some_and(|left| left > millis(300) && left < secs(2)), "{seen:?}");
    let mut both = seen[0];
    both.merge(&InstanceView { id: both.id, ..seen[1] });
    assert_eq!((both.state, both.remaining, both.in_flight), (State::Suspect, seen[1].remaining, 2));
    assert_eq!((both.seen_by, both.avoided_by), (2, 1));
    net.caller().forget_endpoint(endpoint);
    assert_eq!(net.caller().view(endpoint, now).count(), 0);
    assert_eq!(calls.len(), 2);
}

#[test]
fn a_worker_whose_idle_connection_breaks_is_known_to_be_gone_before_a_call_finds_out() {
    let mut net = Net::plain(2);
    let endpoint = net.endpoint(&[1, 2]);
    for body in ["x", "y"] {
        let call = net.call(endpoint, request(body));
        net.pump();
        assert_eq!(net.outcome(call), Ok(()));
        net.release(call);
    }
    let states = |net: &mut Net| -> Vec<State> {
        let now = net.now;
        net.caller().view(endpoint, now).map(|one| one.state).collect()
    };
    net.reset(1);
    net.pump();
    assert_eq!(states(&mut net), [State::Suspect, State::Routable]);
    let dials = net.sites[0].dials;
    let call = net.call(endpoint, request("z"));
    net.pump();
    assert_eq!((net.outcome(call), net.sites[0].dials), (Ok(()), dials), "it went to the one that is connected");
    // One that says goodbye is not gone for bad.
    net.advance(secs(2000));
    assert!(!states(&mut net).contains(&State::Suspect));
    net.release(call);
}

#[test]
fn a_handler_that_fails_before_its_stream_costs_its_instance_nothing() {
    let mut net = Net::plain(1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    for _ in 0..5 {
        let call = net.call(endpoint, request("poison"));
        net.pump();
        let (job, now) = (net.sites[1].jobs.pop_front().unwrap(), net.now);
        let class = Some(Class::Internal);
        net.worker(1).finish(job, Ending { class, reason: "".into(), message: "a bug".into() }, now);
        net.pump();
        assert!(matches!(net.outcome(call), Err(CallError::Failed { .. })));
        net.release(call);
    }
    let now = net.now;
    let states: Vec<State> = net.caller().view(endpoint, now).map(|one| one.state).collect();
    assert_eq!((states, net.caller().stats().retries), (vec![State::Routable], 0));
}
