//! Spans made of what a core tells its observers: of calls with their tries, and of requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use ringplane_core::caller::error::CallError;
use ringplane_core::caller::request::{Again, CallId};
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::observer::{
    CallBegun, CallEnded, CallTimes, CallTried, Observer, RequestAdmitted, RequestEnded, RequestRunning,
};
use ringplane_core::time::Instant;
use ringplane_core::wire::trace_context::TraceParent;
use ringplane_core::worker::job::{Cause, JobId};

use crate::observe::context::{parent, traceparent};
use crate::observe::origins::{Broke, Own};
use crate::observe::outcome;

/// A call, tries and pauses included.
const CALL: &str = "client_request";
/// One try of a call, from the pick of its instance to its last item. The name is Dynamo's.
const TRY: &str = "router.route_request";
/// A request, from its admission to its end. The name is Dynamo's.
const REQUEST: &str = "handle_payload";

thread_local! {
    /// The requests that run on this core, by the ids of their spans.
    static RUNNING: RefCell<HashMap<[u8; 8], Context>> = RefCell::default();
}

/// The span of a request, to be current while its handler runs.
#[derive(Clone, Debug)]
pub struct Scope(Context);

impl Scope {
    /// What was made on this core for a request that runs, by the parent that it names.
    pub fn of(span: &TraceParent) -> Option<Self> {
        RUNNING.with_borrow(|running| running.get(&span.parent_id()).cloned()).map(Self)
    }

    /// Makes it current on this thread until what is returned is dropped: what `tracing` and calls find is this span.
    pub fn attach(&self) -> impl Drop + use<> {
        self.0.clone().attach()
    }
}

/// Makes spans on one core, from [`Telemetry::spans`](crate::observe::telemetry::Telemetry::spans).
pub struct Spans {
    tracer: SdkTracer,
    origins: Own,
    calls: RefCell<HashMap<CallId, Call>>,
    /// Those that run, or wait for it.
    requests: RefCell<HashMap<JobId, Context>>,
}

/// A call that is recorded.
struct Call {
    context: Context,
    id: String,
    again: Option<Again>,
    /// The try that is under way.
    attempt: Option<Context>,
    /// The try before it.
    before: Option<SpanContext>,
    /// What it goes on from.
    broke: Option<Broke>,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("tracer", &self.tracer).finish_non_exhaustive()
    }
}

impl Spans {
    pub(super) fn new(tracer: SdkTracer, origins: Own) -> Self {
        Self { tracer, origins, calls: RefCell::default(), requests: RefCell::default() }
    }

    fn start(&self, name: &'static str, kind: SpanKind, parent: &Context, links: Vec<Link>) -> Context {
        let builder = self.tracer.span_builder(name).with_kind(kind).with_links(links);
        parent.with_span(self.tracer.build_with_context(builder, parent))
    }

    /// What travels in place of a parent's `traceparent` if nothing is recorded: what came, or that nothing is.
    fn unrecorded(context: &Context, has_parent: bool) -> Option<TraceParent> {
        if has_parent { None } else { traceparent(context.span().span_context()) }
    }
}

/// Namespace, component and endpoint of an endpoint's name.
fn place(endpoint: &str) -> Vec<KeyValue> {
    let mut place = vec![KeyValue::new("operation", endpoint.to_owned())];
    if let Ok(id) = EndpointId::parse(endpoint) {
        place.push(KeyValue::new("namespace", id.namespace));
        place.push(KeyValue::new("component", id.component));
        place.push(KeyValue::new("endpoint", id.name));
    }
    place
}

/// A routing policy in Dynamo's words, where it has it.
fn mode(policy: &'static str) -> &'static str {
    match policy {
        "round-robin" => "RoundRobin",
        "random" => "Random",
        "power-of-two" => "PowerOfTwoChoices",
        "least-loaded" => "LeastLoaded",
        "device-aware-weighted" => "DeviceAwareWeighted",
        "direct" => "Direct",
        other => other,
    }
}

/// The instance that a request was sent to, of which its path begins with the id.
fn instance(path: &str) -> Option<InstanceId> {
    InstanceId::from_hex(path.split_once('/')?.0)
}

/// Ends the span of a call or a try.
fn end(context: &Context, outcome: Result<(), &CallError>, signal: Option<&'static str>) {
    let span = context.span();
    span.set_attribute(KeyValue::new("request.outcome", outcome::of(outcome, signal)));
    if let Some(signal) = signal {
        span.set_attribute(KeyValue::new("cancellation.signal", signal));
    }
    if let Err(error) = outcome
        && signal.is_none()
    {
        span.set_attribute(KeyValue::new("error.type", outcome::kind(error.class(), error.reason())));
        span.set_status(Status::error(error.to_string()));
    }
    span.end();
}

impl Observer for Spans {
    fn call_begun(&self, call: CallId, begun: &CallBegun<'_>) -> Option<TraceParent> {
        let given = parent(begun.traceparent, begun.tracestate);
        let again = begun.again.map(|(why, _)| why);
        let origin = again.and_then(|_| self.origins.find(begun.id));
        let has_parent = given.is_some();
        let context = match (given, &origin) {
            (Some(given), _) => given,
            (None, Some(origin)) => Context::new().with_remote_span_context(origin.span.clone()),
            // Of a call that was not recorded.
            (None, None) if again.is_some() => return None,
            (None, None) => Context::new(),
        };
        let (first, broke) = origin.map_or((None, None), |origin| (Some(origin.span), origin.broke));
        let links = first.into_iter().map(Link::with_context).collect();
        let context = self.start(CALL, SpanKind::Internal, &context, links);
        let span = context.span();
        if !span.is_recording() {
            return Self::unrecorded(&context, has_parent);
        }
        span.set_attributes(place(begun.endpoint));
        span.set_attribute(KeyValue::new("request_id", begun.id.to_owned()));
        if let Some(id) = begun.x_request_id {
            span.set_attribute(KeyValue::new("x_request_id", id.to_owned()));
        }
        let (id, own) = (begun.id.to_owned(), span.span_context().clone());
        let answer = traceparent(&own);
        if again.is_none() {
            self.origins.begin(&id, own);
        }
        let call_span = Call { context: context.clone(), id, again, attempt: None, before: None, broke };
        self.calls.borrow_mut().insert(call, call_span);
        answer
    }

    fn call_tried(&self, call: CallId, tried: &CallTried<'_>) -> Option<TraceParent> {
        let mut calls = self.calls.borrow_mut();
        let entry = calls.get_mut(&call)?;
        let links = entry.before.take().into_iter().map(Link::with_context).collect();
        let context = self.start(TRY, SpanKind::Client, &entry.context, links);
        let span = context.span();
        span.set_attributes(place(tried.endpoint));
        span.set_attributes([
            KeyValue::new("request_id", entry.id.clone()),
            KeyValue::new("worker_id", tried.instance.0.to_string()),
            KeyValue::new("router_mode", mode(tried.policy)),
            // From 0, as Dynamo counts.
            KeyValue::new("request.attempt", i64::from(tried.attempt.saturating_sub(1))),
            KeyValue::new("migration.is_retry", matches!(entry.again, Some(Again::Broke(_)))),
        ]);
        if let Some(broke) = &entry.broke {
            span.set_attribute(KeyValue::new("migration.reason", broke.reason.clone()));
            if let Some(at) = broke.at {
                span.set_attribute(KeyValue::new("migration.from_worker_id", at.0.to_string()));
            }
        }
        if let Some(addr) = tried.addr {
            span.set_attribute(KeyValue::new("server.address", addr.ip().to_string()));
            span.set_attribute(KeyValue::new("server.port", i64::from(addr.port())));
        }
        let own = span.span_context().clone();
        entry.attempt = Some(context.clone());
        traceparent(&own)
    }

    fn call_sent(&self, call: CallId, _: Instant) {
        if let Some(attempt) = self.calls.borrow().get(&call).and_then(|entry| entry.attempt.as_ref()) {
            attempt.span().add_event("sent", Vec::new());
        }
    }

    fn try_failed(&self, call: CallId, error: &CallError, _: Instant) {
        if let Some(entry) = self.calls.borrow_mut().get_mut(&call)
            && let Some(attempt) = entry.attempt.take()
        {
            end(&attempt, Err(error), None);
            entry.before = Some(attempt.span().span_context().clone());
        }
    }

    fn call_answered(&self, call: CallId, _: &CallTimes, _: Instant) {
        if let Some(attempt) = self.calls.borrow().get(&call).and_then(|entry| entry.attempt.as_ref()) {
            attempt.span().add_event("answered", Vec::new());
        }
    }

    fn call_ended(&self, call: CallId, ended: &CallEnded<'_>) {
        let Some(entry) = self.calls.borrow_mut().remove(&call) else { return };
        let signal = match (ended.outcome, ended.left, ended.stopped) {
            (_, true, _) => Some("stream_drop"),
            (Err(CallError::Cancelled), ..) => Some("kill"),
            (_, _, true) => Some("stop"),
            _ => None,
        };
        if let Some(attempt) = &entry.attempt {
            end(attempt, ended.outcome, signal);
        }
        entry.context.span().set_attribute(KeyValue::new("request.attempts", i64::from(ended.attempts)));
        end(&entry.context, ended.outcome, signal);
        let error = ended.outcome.err().filter(|error| error.is_migratable());
        let broke = error.map(|error| {
            let reason = outcome::kind(error.class(), error.reason());
            Broke { at: ended.at.map(|at| at.instance), reason }
        });
        match (entry.again, broke) {
            (None, broke) => self.origins.end(entry.id, broke),
            (Some(_), Some(broke)) => self.origins.broke_again(&entry.id, &broke),
            (Some(_), None) => {}
        }
    }

    fn request_admitted(&self, request: JobId, admitted: &RequestAdmitted<'_>) {
        let open = &admitted.open;
        let given = parent(open.traceparent, open.tracestate);
        let has_parent = given.is_some();
        let context = self.start(REQUEST, SpanKind::Server, &given.unwrap_or_default(), Vec::new());
        let span = context.span();
        if span.is_recording() {
            span.set_attributes(place(admitted.endpoint));
            span.set_attribute(KeyValue::new("request_id", open.request_id.to_owned()));
            span.set_attribute(KeyValue::new("request.attempt", i64::from(open.attempts)));
            if let Some(instance) = instance(open.path) {
                span.set_attribute(KeyValue::new("instance_id", instance.0.to_string()));
            }
            if let Some(id) = open.x_request_id {
                span.set_attribute(KeyValue::new("x_request_id", id.to_owned()));
            }
        } else if has_parent {
            return;
        }
        self.requests.borrow_mut().insert(request, context.clone());
    }

    fn request_running(&self, request: JobId, running: &RequestRunning<'_>) -> Option<TraceParent> {
        let requests = self.requests.borrow();
        let context = requests.get(&request)?;
        let span = context.span();
        let waited = running.now.since(running.admitted).as_secs_f64();
        span.add_event("running", vec![KeyValue::new("queue.seconds", waited)]);
        let own = traceparent(span.span_context())?;
        RUNNING.with_borrow_mut(|all| all.insert(own.parent_id(), context.clone()));
        Some(own)
    }

    fn request_ended(&self, request: JobId, ended: &RequestEnded<'_>) {
        let Some(context) = self.requests.borrow_mut().remove(&request) else { return };
        let span = context.span();
        let kept = RUNNING.with_borrow_mut(|all| all.remove(&span.span_context().span_id().to_bytes()));
        let signal = ended.cause.map(|cause| match cause {
            Cause::Stop => "stop",
            Cause::Kill => "kill",
            Cause::Deadline => "deadline",
            Cause::Disconnected => "disconnected",
            Cause::Drain => "drain",
        });
        if let Some(signal) = signal {
            span.set_attribute(KeyValue::new("cancellation.signal", signal));
        }
        let class = ended.ending.and_then(|ending| Some((ending.class?, ending)));
        let outcome = match (class, signal, ended.refused) {
            (_, Some(_), _) => "cancelled",
            (Some((class, ending)), None, _) => {
                span.set_attribute(KeyValue::new("error.type", outcome::kind(class, &ending.reason)));
                span.set_status(Status::error(ending.message.to_string()));
                outcome::of_class(class)
            }
            (None, None, Some(_)) => "rejected",
            (None, None, None) => "success",
        };
        span.set_attribute(KeyValue::new("request.outcome", outcome));
        span.end();
        drop(kept);
    }
}
