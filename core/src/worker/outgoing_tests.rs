//! Memory beside every credit: answers that wait to be written and headers of calls, on one connection and on all, and who
//! gets on meanwhile.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;

use crate::buf::outbox::SendError;
use crate::caller;
use crate::caller::error::CallError;
use crate::caller::request::{CallId, EndpointKey, Request};
use crate::mux;
use crate::mux::event::{Ending, Opening};
use crate::retry::backoff;
use crate::tests::net::{Net, request};
use crate::wire::mux::message::{CancelMode, RejectCode};
use crate::worker::config::Config;
use crate::worker::job::JobId;

const MIB: usize = 1 << 20;
/// No second try.
const ONCE: backoff::Config = backoff::Config {
    base: core::time::Duration::from_millis(50),
    cap: core::time::Duration::from_secs(5),
    attempts: 1,
};

/// A worker that keeps 8 MiB in all and 4 for each connection, and callers that give credit for 2.
fn net() -> (Net, EndpointKey) {
    let mux = mux::Config { connection_window: 2 << 20, ..mux::Config::default() };
    let caller = caller::config::Config { mux, connections_per_address: 8, ..caller::config::Config::default() };
    let mux = mux::Config { connection_buffer: 4 * MIB, send_buffer: 4 * MIB, ..mux::Config::default() };
    let mut net = Net::new(caller, Config { mux, max_outgoing: 8 * MIB, ..Config::default() }, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    (net, endpoint)
}

/// As many calls, each on a connection of its own while there are fewer than eight.
fn calls(net: &mut Net, endpoint: EndpointKey, count: usize) -> (Vec<CallId>, Vec<JobId>) {
    let calls = (0..count).map(|_| net.call(endpoint, request("x"))).collect();
    net.pump();
    (calls, net.sites[1].jobs.drain(..).collect())
}

/// Jobs whose writers may try again.
fn writable(net: &mut Net) -> Vec<JobId> {
    net.pump();
    core::mem::take(&mut net.sites[1].writable)
}

#[test]
fn answers_nobody_reads_are_bounded_for_all_connections_together_and_small_ones_get_on() {
    let (mut net, endpoint) = net();
    let (ids, jobs) = calls(&mut net, endpoint, 40);
    assert_eq!((jobs.len(), net.worker(1).footprint().connections), (40, 8));
    let mut went = 0;
    for round in 0..4 {
        for job in &jobs {
            went += usize::from(net.worker(1).respond(*job, Bytes::from(vec![round; 900_000])).is_ok());
            net.pump();
        }
    }
    let held = net.worker(1).footprint().outgoing as usize;
    assert!((6 * MIB..=8 * MIB).contains(&held) && went > 12, "{held} bytes, {went} items");
    // The peers read: everybody gets on, and in the end nothing is kept.
    for _ in 0..200 {
        for call in &ids {
            net.read(*call);
        }
        net.pump();
    }
    for job in jobs {
        let now = net.now;
        net.worker(1).finish(job, Ending::ok(), now);
    }
    net.pump();
    for call in ids {
        net.read(call);
        net.pump();
        net.read(call);
        net.release(call);
    }
    net.pump();
    assert_eq!(net.worker(1).footprint().outgoing, 0);
    net.assert_idle();
}

#[test]
fn whoever_waits_at_the_sum_of_all_is_called_in_turn_and_a_small_answer_waits_for_nobody() {
    let (mut net, endpoint) = net();
    let (ids, jobs) = calls(&mut net, endpoint, 5);
    net.sites[1].jammed = true;
    // Nothing is written: three connections queue one item each, which is all there is room for.
    for job in &jobs[..3] {
        assert!(net.worker(1).respond(*job, Bytes::from(vec![0; 2_700_000])).is_ok());
    }
    let waits = |net: &mut Net, job, len| {
        matches!(net.worker(1).respond(job, Bytes::from(vec![0; len])), Err(SendError::Blocked(_)))
    };
    writable(&mut net);
    assert!(waits(&mut net, jobs[3], 500_000) && waits(&mut net, jobs[4], 100_000));
    assert!(!waits(&mut net, jobs[4], 10_000), "a connection that holds nothing always gets on");
    assert!(waits(&mut net, jobs[4], 100_000));
    // One of the three is over.
    let now = net.now;
    net.caller().cancel(ids[0], CancelMode::Kill, now);
    assert_eq!(writable(&mut net), [jobs[3], jobs[4]]);
    assert!(!waits(&mut net, jobs[3], 500_000) && !waits(&mut net, jobs[4], 100_000));
    assert_eq!(net.worker(1).reserve(jobs[3], 2_000_000), Ok(true));
    assert!(waits(&mut net, jobs[4], 900_000), "that room is kept");
    net.worker(1).forgo(jobs[3], now);
    assert_eq!(writable(&mut net), [jobs[3], jobs[4]]);
    assert!(!waits(&mut net, jobs[4], 900_000));
}

#[test]
fn headers_of_calls_under_way_are_bounded_and_one_connection_has_a_share_of_them() {
    let caller = caller::config::Config { connections_per_address: 8, backoff: ONCE, ..Default::default() };
    let mut net = Net::new(caller, Config { max_request_bytes: MIB, ..Config::default() }, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    let metadata = vec![("name".into(), "x".repeat(60_000))];
    let heavy = |net: &mut Net| {
        let opening = Opening { metadata: metadata.clone(), ..Opening::default() };
        net.call(endpoint, Request { opening, ..request("x") })
    };
    // Two calls on each of eight connections, then a third.
    let calls: Vec<CallId> = (0..24).map(|_| heavy(&mut net)).collect();
    net.pump();
    let kept = net.worker(1).footprint().kept;
    assert!((900_000..=MIB as u64).contains(&kept), "{kept}");
    let refused: Vec<bool> = calls.iter().map(|call| net.read(*call).1.is_some()).collect();
    assert_eq!(refused.iter().filter(|refused| **refused).count(), 24 - 17);
    let last = *calls.last().unwrap();
    let Err(CallError::Rejected { code: RejectCode::Overloaded, message, .. }) = net.outcome(last) else { panic!() };
    assert_eq!(&*message, "the headers of running and queued calls are at their limit");
    // Those that are over give back what they took.
    let jobs: Vec<JobId> = net.sites[1].jobs.drain(..).collect();
    assert_eq!(jobs.len(), 17);
    for job in jobs {
        let now = net.now;
        net.worker(1).finish(job, Ending::ok(), now);
    }
    net.pump();
    assert_eq!(net.worker(1).footprint().kept, 0);
    calls.into_iter().for_each(|call| net.release(call));
    // One connection alone gets a quarter.
    net.reset(1);
    let caller = caller::config::Config { backoff: ONCE, ..Default::default() };
    let mut net = Net::new(caller, Config { max_request_bytes: MIB, ..Config::default() }, 1);
    net.sites[1].echoes = false;
    let endpoint = net.endpoint(&[1]);
    for _ in 0..10 {
        let opening = Opening { metadata: metadata.clone(), ..Opening::default() };
        net.call(endpoint, Request { opening, ..request("x") });
    }
    net.pump();
    assert_eq!((net.worker(1).load(), net.worker(1).stats().overloaded), ((4, 0), 6));
}
