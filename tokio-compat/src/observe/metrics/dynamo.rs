//! The same under the names by which Dynamo's dashboards know it (1.6.1; routing and tracing specification, section 18).

use ringplane_core::id::EndpointId;

use crate::observe::metrics::family::{Family, Unit, Value};
use crate::observe::metrics::histogram::Times;
use crate::observe::metrics::record::Sums;

/// Calls and requests, as far as Dynamo has them.
pub fn families(sums: &Sums) -> Vec<Family> {
    let mut requests = Family::counter("dynamo_component_requests", "Requests handed to their handlers");
    let mut duration =
        Family::times("dynamo_component_request_duration", "Requests from their handler's beginning to its end");
    let mut inflight = Family::gauge("dynamo_component_inflight_requests", "Requests whose handlers run");
    let mut errors = Family::counter("dynamo_component_errors", "Requests that their handlers ended badly");
    let mut cancelled = Family::counter("dynamo_component_cancellation", "Requests cancelled by their callers");
    for ((worker, endpoint), times) in &sums.requests {
        // Others are not Dynamo's to know.
        let (Some(worker), Ok(id)) = (worker, EndpointId::parse(endpoint)) else { continue };
        let worker = worker.to_string();
        let labels = [
            ("dynamo_namespace", id.namespace.as_str()),
            ("dynamo_component", &id.component),
            ("dynamo_endpoint", &id.name),
            ("worker_id", &worker),
        ];
        // Each has waited, be it for no time: this only rises, whatever ends while it is read.
        requests.put(&labels, Value::Whole(times.wait.count()));
        duration.put(&labels, times.run.value());
        inflight.put(&labels, Value::Whole(times.running));
        cancelled.put(&labels, Value::Whole(times.ended("cancelled")));
        let labels = [labels.as_slice(), &[("error_type", "generate")]].concat();
        errors.put(&labels, Value::Whole(times.ended("handler")));
    }
    let mut uptime = Family::gauge("dynamo_component_uptime", "How long a worker has been there").of(Unit::Seconds);
    for (worker, since) in &sums.workers {
        uptime.put(&[("worker_id", &worker.to_string())], Value::Real(since.as_secs_f64()));
    }
    let whole = |name, help, times: Times| Family::times(name, help).with(Vec::new(), times.value());
    let stage = |at: usize| Times::sum(sums.calls.values().filter_map(|times| times.stages.get(at)));
    vec![
        requests,
        duration,
        inflight,
        errors,
        cancelled,
        uptime,
        whole(
            "dynamo_work_handler_permit_wait",
            "Requests from their admission until their handler runs",
            Times::sum(sums.requests.values().map(|times| &times.wait)),
        ),
        whole("dynamo_request_plane_queue", "Calls until an instance is picked", stage(0)),
        whole("dynamo_request_plane_send", "Calls from their connection to the worker's first sign of life", stage(2)),
        whole("dynamo_request_plane_roundtrip_ttft", "Calls until their first item", stage(3)),
    ]
}
