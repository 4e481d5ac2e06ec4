//! What a record holds as metrics, under our names.

use std::collections::BTreeMap;

use crate::observe::metrics::family::{Family, Value};
use crate::observe::metrics::record::Sums;
use crate::observe::metrics::stages::{CALL_OUTCOMES, CALL_STAGES, REQUEST_OUTCOMES, RequestTimes};

/// Calls and requests by endpoint.
pub fn families(sums: &Sums) -> Vec<Family> {
    let mut calls = Family::times("ringplane_call_duration", "Calls from beginning to end, by outcome");
    let mut stages = Family::times(
        "ringplane_call_stage",
        "Stages of calls: queue until an instance is picked for the last time, connect until the request is queued on a \
         connection, send until the worker gives its first sign of life, first_item from the beginning of the call, \
         between_items whenever the reader has taken all there was",
    );
    let mut refused = Family::counter("ringplane_calls_refused", "Calls that could not begin, by outcome");
    for (endpoint, times) in &sums.calls {
        for (outcome, whole) in CALL_OUTCOMES.into_iter().zip(&times.whole).filter(|(_, whole)| whole.count() > 0) {
            calls.put(&[("endpoint", endpoint), ("outcome", outcome)], whole.value());
        }
        for (stage, lasted) in CALL_STAGES.into_iter().zip(&times.stages) {
            stages.put(&[("endpoint", endpoint), ("stage", stage)], lasted.value());
        }
        for (outcome, count) in CALL_OUTCOMES.into_iter().zip(times.refused).filter(|(_, count)| *count > 0) {
            refused.put(&[("endpoint", endpoint), ("outcome", outcome)], Value::Whole(count));
        }
    }
    let mut requests =
        Family::times("ringplane_request_duration", "Requests from their admission to their end, by outcome");
    let mut waits = Family::times("ringplane_request_wait", "Requests from their admission until their handler runs");
    let mut running = Family::gauge("ringplane_requests_running", "Requests whose handlers run");
    // Of all workers of this process.
    let mut by_endpoint = BTreeMap::<&str, RequestTimes>::new();
    for ((_, endpoint), times) in &sums.requests {
        by_endpoint.entry(endpoint).or_default().merge(times);
    }
    for (endpoint, times) in &by_endpoint {
        for (outcome, whole) in REQUEST_OUTCOMES.into_iter().zip(&times.whole).filter(|(_, whole)| whole.count() > 0) {
            requests.put(&[("endpoint", endpoint), ("outcome", outcome)], whole.value());
        }
        waits.put(&[("endpoint", endpoint)], times.wait.value());
        running.put(&[("endpoint", endpoint)], Value::Whole(times.running));
    }
    vec![calls, stages, refused, requests, waits, running]
}
