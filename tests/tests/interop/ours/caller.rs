//! Our caller: the commands of `tests/peers/caller.py`, `kill`, and `items` of a request that is a stream.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringplane::discovery::Backend;
use ringplane::{Call, CallError, CallRequest, Client, Leftovers, request};
use ringplane_core::discovery::{Query, Set};
use ringplane_core::id::{EndpointId, InstanceId};
use ringplane_core::wire::codec::Codec;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ours::shared::{config, discovery, encode, say, telemetry, unwrap};
use crate::pair::shown;

/// What requests are written in: what the workers' records ask for.
static CODEC: OnceLock<Codec> = OnceLock::new();

fn codec() -> Codec {
    *CODEC.get().expect("a worker has been seen")
}

/// A trace context that tests know.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Obeys stdin until its end.
pub(crate) async fn run(endpoint: &str, instances: usize) {
    let backend = discovery();
    let preferred = see(&backend, endpoint, instances).await;
    CODEC.set(preferred).expect("it is set once");
    let nats = request::nats::Config::from_vars(|name| std::env::var(name).ok()).unwrap();
    let client = Client::builder().discovery_backend(Arc::clone(&backend)).carrier(nats).config(config());
    let telemetry = telemetry();
    let client = telemetry.iter().fold(client, |client, telemetry| client.telemetry(telemetry));
    let client = client.connect().unwrap();
    say(&json!({"event": "ready"}));
    let mut lines = stdin();
    let (mut running, mut tasks) = (HashMap::<String, mpsc::UnboundedSender<String>>::new(), JoinSet::new());
    while let Some(command) = lines.recv().await {
        let command: Value = serde_json::from_str(&command).unwrap();
        if command.get("repeat").is_some() {
            tasks.spawn(many(client.clone(), endpoint.to_owned(), command));
        } else if let Some(name) = command["call"].as_str() {
            let (control, controls) = mpsc::unbounded_channel();
            running.insert(name.to_owned(), control);
            tasks.spawn(one(client.clone(), endpoint.to_owned(), command, controls));
        } else {
            for how in ["stop", "kill", "drop"] {
                if let Some(control) = command[how].as_str().and_then(|name| running.get(name)) {
                    let _ = control.send(how.to_owned());
                }
            }
        }
    }
    while tasks.join_next().await.is_some() {}
    let left = client.shutdown().await;
    say(&json!({"event": "out", "clean": left == Leftovers::default()}));
}

/// Waits until so many instances are there. The codec their records ask for.
async fn see(backend: &Arc<dyn Backend>, endpoint: &str, instances: usize) -> Codec {
    let query = Query::Endpoint(EndpointId::parse(endpoint).unwrap());
    let (mut watch, mut set, mut seen) = (backend.endpoints().watch(query).await.unwrap(), Set::default(), 0);
    let mut preferred = Codec::Json;
    while seen < instances {
        let diff = set.apply(watch.next().await.expect("discovery goes on"));
        seen = seen + diff.added.len() - diff.removed.len();
        preferred = diff.added.last().and_then(|one| Codec::from_name(one.codec.name())).unwrap_or(preferred);
    }
    preferred
}

fn stdin() -> mpsc::UnboundedReceiver<String> {
    let (queue, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if queue.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn begin(client: &Client, endpoint: &str, command: &Value) -> Result<Call, CallError> {
    let mut body = command["request"].clone();
    if let Some(pad) = command["pad"].as_u64() {
        body["text"] = json!("x".repeat(usize::try_from(pad).unwrap()));
    }
    let timeout = Duration::from_secs(command["timeout"].as_u64().unwrap_or(20));
    let request = match command.get("items") {
        Some(_) => CallRequest::streaming(endpoint),
        None => CallRequest::new(endpoint, encode(codec(), &body)),
    };
    let request = request.with_codec(codec()).with_trace(TRACE, command["tracestate"].as_str().map(str::to_owned));
    let mut request = request.with_timeout(timeout);
    if let Some(id) = command["context"].as_str().filter(|_| command.get("repeat").is_none()) {
        request = request.with_id(id);
    }
    if let Some(id) = command["instance"].as_str() {
        request = request.with_instance(InstanceId(u64::from_str_radix(id, 16).unwrap()));
    }
    for (key, value) in command["metadata"].as_object().into_iter().flatten() {
        request = request.with_metadata(key, value.as_str().unwrap_or_default());
    }
    client.call(request).map_err(|_| CallError::Closed)
}

async fn one(client: Client, endpoint: String, command: Value, mut controls: mpsc::UnboundedReceiver<String>) {
    let name = command["call"].clone();
    let mut items = 0_u64;
    let mut call = match begin(&client, &endpoint, &command) {
        Ok(call) => call,
        Err(error) => return say(&failed(&name, &error, 0)),
    };
    if let (Some(sender), Some(items)) = (call.take_sender(), command["items"].as_array().cloned()) {
        tokio::spawn(async move {
            for item in items {
                // A call that is over says why where it is read.
                let _ = sender.send(encode(codec(), &item)).await;
            }
        });
    }
    let mut dropped = false;
    let ended = loop {
        if command["drop_after"].as_u64() == Some(items) {
            drop(call);
            return say(&json!({"call": name, "dropped": items}));
        }
        let item = tokio::select! {
            item = call.next() => item,
            Some(how) = controls.recv() => {
                match how.as_str() {
                    "stop" => call.stop(),
                    "kill" => call.kill(),
                    _ => return say(&json!({"call": name, "dropped": items})),
                }
                dropped = how == "kill";
                continue;
            }
        };
        match item.map(|item| item.map(|item| unwrap(codec(), &item))) {
            Some(Ok(Ok(Some(value)))) => say(&json!({"call": name, "item": shown(&value)})),
            Some(Ok(Ok(None))) => continue,
            Some(Ok(Err(failure))) => {
                let (class, reason) = (failure.class().name(), failure.key().name());
                let text = failure.to_string();
                break json!({"call": name, "error": text, "class": class, "reason": reason, "after": items});
            }
            Some(Err(CallError::Cancelled)) if dropped => break json!({"call": name, "dropped": items}),
            Some(Err(error)) => break failed(&name, &error, items),
            None => break json!({"call": name, "end": items}),
        }
        items += 1;
        if command["stop_after"].as_u64() == Some(items) {
            call.stop();
        }
    };
    say(&ended);
}

fn failed(name: &Value, error: &CallError, after: u64) -> Value {
    let reason = if let CallError::Failed { reason, .. } = error { &**reason } else { "" };
    json!({"call": name, "error": error.to_string(), "class": error.class().name(), "reason": reason, "after": after})
}

async fn many(client: Client, endpoint: String, command: Value) {
    let left = Arc::new(AtomicU64::new(command["repeat"].as_u64().unwrap_or(1)));
    let (mut lanes, command) = (JoinSet::new(), Arc::new(command));
    for _ in 0..command["parallel"].as_u64().unwrap_or(1) {
        let (client, endpoint) = (client.clone(), endpoint.clone());
        lanes.spawn(lane(client, endpoint, Arc::clone(&command), Arc::clone(&left)));
    }
    let (mut items, mut errors) = (0, Vec::new());
    while let Some(lane) = lanes.join_next().await {
        let (more, failed) = lane.unwrap();
        items += more;
        errors.extend(failed);
    }
    let failed = errors.len();
    errors.truncate(5);
    say(
        &json!({"call": command["call"], "done": command["repeat"], "failed": failed, "items": items, "errors": errors}),
    );
}

async fn lane(client: Client, endpoint: String, command: Arc<Value>, left: Arc<AtomicU64>) -> (u64, Vec<String>) {
    let (mut items, mut errors) = (0, Vec::new());
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    while take() {
        match begin(&client, &endpoint, &command) {
            Ok(mut call) => {
                let mut rest = command["rest_ms"].as_u64();
                while let Some(item) = call.next().await {
                    match item {
                        Ok(item) => {
                            items += u64::from(unwrap(codec(), &item).is_ok_and(|value| value.is_some()));
                            if let Some(rest) = rest.take() {
                                tokio::time::sleep(Duration::from_millis(rest)).await;
                            }
                        }
                        Err(error) => errors.push(error.to_string()),
                    }
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
        if let Some(pause) = command["pause_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
    (items, errors)
}
