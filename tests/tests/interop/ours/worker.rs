//! Our worker: the modes of `tests/peers/worker.py`.

use std::time::Duration;

use ringplane::{Cause, Failure, Leftovers, Remote, Request, RequestPlane, Responder, Worker};
use ringplane_core::wire::class::Class;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::ours::shared::{codec, config, discovery, say, telemetry};

/// Serves until SIGTERM, then drains.
pub(crate) async fn run(endpoint: &str, bidirectional: bool) {
    let mut term = signal(SignalKind::terminate()).unwrap();
    let plane = RequestPlane::from_vars(None, |name| std::env::var(name).ok()).unwrap();
    let builder = Worker::builder().request_plane(plane).config(config()).discovery_backend(discovery());
    let builder = builder.codec(codec()).annotated();
    let telemetry = telemetry();
    let builder = telemetry.iter().fold(builder, |builder, telemetry| builder.telemetry(telemetry));
    let here = tokio::runtime::Handle::current();
    let builder = match bidirectional {
        true => builder.endpoint_on(here, endpoint, echo_items),
        false => builder.endpoint_on(here, endpoint, generate),
    };
    let serving = builder.serve().await.unwrap();
    say(&json!({"event": "serving", "instance": serving.instance_id().to_string()}));
    term.recv().await;
    let left = serving.shutdown().await;
    say(&json!({"event": "out", "clean": left == Leftovers::default()}));
}

/// Says how a handler ended, also if its task is aborted.
pub(super) struct Told {
    pub(super) id: String,
    pub(super) out: Responder<Remote>,
    /// Whether it came to its end itself.
    pub(super) done: bool,
}

impl Drop for Told {
    fn drop(&mut self) {
        let cause = self.out.cause();
        let killed = !self.done || cause.is_some_and(|cause| cause != Cause::Stop);
        let stopped = killed || cause.is_some();
        say(&json!({"event": "ended", "id": self.id, "stopped": stopped, "killed": killed}));
    }
}

async fn generate(mut request: Request<Remote>, out: Responder<Remote>) -> Result<(), Failure> {
    let asked = request.read().await?;
    let mut told = Told { id: request.id().to_owned(), out, done: false };
    let answered = answer(&request, &asked, &told).await;
    told.done = true;
    answered
}

async fn answer(request: &Request<Remote>, asked: &Value, told: &Told) -> Result<(), Failure> {
    let mode = asked.get("mode").and_then(Value::as_str).unwrap_or(if asked.is_object() { "count" } else { "echo" });
    if asked["at"] != "call" {
        say(&json!({"event": "request", "id": told.id, "mode": mode}));
    }
    let number = |name: &str, default: u64| asked.get(name).and_then(Value::as_u64).unwrap_or(default);
    let send = async |value: Value| told.out.send_as(&value).await;
    match mode {
        "echo" if asked.is_null() => send(json!("null")).await?,
        "echo" => send(asked.clone()).await?,
        "length" => send(json!({"length": asked["text"].as_str().map_or(0, str::len)})).await?,
        "context" => send(as_seen(request)).await?,
        "big" => {
            for i in 0..number("n", 1) {
                let text = "x".repeat(usize::try_from(number("size", 0)).map_err(Failure::invalid)?);
                send(json!({"i": i, "text": text})).await?;
            }
        }
        "fail" => {
            for i in 0..number("after", 0) {
                send(json!({ "i": i })).await?;
            }
            return Err(failure(asked));
        }
        _ => count(asked, told).await?,
    }
    Ok(())
}

/// Every item back, then how many there were.
async fn echo_items(mut request: Request<Remote>, out: Responder<Remote>) -> Result<(), Failure> {
    let mut k = 0;
    while let Some(item) = request.next_as::<Value>().await? {
        out.send_as(&json!({"k": k, "item": item})).await?;
        k += 1;
    }
    out.send_as(&json!({ "items": k })).await
}

fn as_seen(request: &Request<Remote>) -> Value {
    let metadata: serde_json::Map<_, _> =
        request.metadata().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    json!({"id": request.id(), "metadata": metadata, "trace": trace(request)})
}

/// What a request has brought of its trace.
pub(super) fn trace(request: &Request<Remote>) -> Value {
    let open = request.open();
    json!({"traceparent": open.traceparent, "tracestate": open.tracestate, "x-request-id": open.x_request_id})
}

async fn count(asked: &Value, told: &Told) -> Result<(), Failure> {
    let delay = Duration::from_millis(asked["delay_ms"].as_u64().unwrap_or(0));
    let n = asked.get("n").and_then(Value::as_u64).unwrap_or(5);
    for i in 0..=n {
        if asked["hang_at"].as_u64() == Some(i) {
            say(&json!({"event": "hanging", "id": told.id}));
            told.out.cancelled().await;
        }
        if i == n {
            break;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if told.out.cause().is_some() {
            return Ok(());
        }
        told.out.send_as(&json!({ "i": i })).await?;
    }
    Ok(())
}

/// The failure that the Python worker's exception of this name becomes on the wire.
fn failure(asked: &Value) -> Failure {
    let (kind, text) = (asked["kind"].as_str().unwrap_or("ValueError"), asked["text"].as_str().unwrap_or("boom"));
    let named = format!("{kind}: {text}");
    let (class, reason, message) = match kind {
        _ if asked["at"] == "call" => (Class::Internal, "runtime.unclassified", named),
        "ValueError" => (Class::InvalidRequest, "backend.invalid_argument", named),
        "InvalidArgument" => (Class::InvalidRequest, "backend.invalid_argument", text.to_owned()),
        "CannotConnect" => (Class::Unavailable, "backend.cannot_connect", text.to_owned()),
        "Disconnected" => (Class::Unavailable, "backend.disconnected", text.to_owned()),
        "ConnectionTimeout" => (Class::DeadlineExceeded, "backend.connection_timeout", text.to_owned()),
        "Cancelled" => (Class::Cancelled, "backend.cancelled", text.to_owned()),
        "EngineShutdown" => (Class::Unavailable, "backend.engine_shutdown", text.to_owned()),
        "StreamIncomplete" => (Class::Unavailable, "backend.stream_incomplete", text.to_owned()),
        "WorkerUnavailable" => (Class::Unavailable, "backend.worker_unavailable", text.to_owned()),
        _ => (Class::Internal, "backend.unknown", named),
    };
    Failure { class, reason: reason.to_owned(), message }
}
