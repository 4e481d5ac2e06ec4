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
