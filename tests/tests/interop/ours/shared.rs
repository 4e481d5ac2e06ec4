//! What both of our peers share: their arguments, lines of JSON on stdout, and payloads in either codec.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ringplane::core::caller::config::Dialect;
use ringplane::core::discovery::config::Config as Knobs;
use ringplane::core::wire::annotated::Annotated;
use ringplane::core::wire::codec::Codec;
use ringplane::core::wire::typed_failure::Failure;
use ringplane::discovery::Backend;
use ringplane::{Config, DriverChoice};
use serde_json::Value;

use crate::ours::{caller, worker};

/// Plays the role that the arguments behind [`AS_PEER`](crate::place::AS_PEER) name.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [role, endpoint, rest @ ..] = arguments else { return ExitCode::from(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match role.as_str() {
        "worker" => runtime.block_on(worker::run(endpoint, !rest.is_empty())),
        _ => runtime.block_on(caller::run(endpoint, rest.first().map_or(1, |count| count.parse().unwrap()))),
    }
    // A thread that reads stdin must not keep the process.
    std::process::exit(0);
}

/// Prints one line.
pub(crate) fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    // A test that ends does not read on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The discovery that Dynamo's variables name.
pub(crate) fn discovery() -> Arc<dyn Backend> {
    let knobs = Knobs::from_vars(|name| std::env::var(name).ok(), "").unwrap();
    ringplane::discovery::open_with(knobs.url.as_ref().unwrap(), &knobs).unwrap()
}

pub(crate) fn config() -> Config {
    let driver: DriverChoice = variable("PEER_DRIVER").parse().unwrap();
    let mut config = Config { driver, ..Config::default() };
    if variable("PEER_DIALECT") == "call-home" {
        config.caller.dialect = Dialect::CallHome;
    }
    // The same names bound a Dynamo caller, and a Dynamo worker.
    if let Ok(seconds) = std::env::var("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS") {
        config.caller.item_timeout = Duration::from_secs(seconds.parse().unwrap());
    }
    if let Ok(limit) = std::env::var("DYN_ENGINE_REQUEST_LIMIT") {
        config.worker.max_running = limit.parse().unwrap();
        config.worker.max_queued = variable("DYN_DYNAMO_REQUEST_QUEUE_LIMIT").parse().unwrap();
    }
    config
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

/// The codec that workers advertise and our caller writes.
pub(crate) fn codec() -> Codec {
    Codec::from_name(&variable("DYN_REQUEST_PLANE_CODEC")).unwrap()
}

pub(crate) fn encode(codec: Codec, value: &Value) -> Vec<u8> {
    match codec {
        Codec::Json => serde_json::to_vec(value).unwrap(),
        Codec::Msgpack => rmp_serde::to_vec_named(value).unwrap(),
    }
}

pub(crate) fn decode(codec: Codec, bytes: &[u8]) -> Result<Value, String> {
    match codec {
        Codec::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        Codec::Msgpack => rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
    }
}

/// An item as every Python endpoint sends it.
pub(crate) fn wrap(codec: Codec, value: &Value) -> Vec<u8> {
    Annotated::of(&encode(codec, value)).write(codec).unwrap()
}

/// What an item of that kind holds: data, nothing, or a failure.
pub(crate) fn unwrap(codec: Codec, item: &[u8]) -> Result<Option<Value>, Failure> {
    let item = Annotated::read(codec, item).unwrap_or_else(|error| panic!("{error}: {item:02x?}"));
    match item.failure() {
        Some(failure) => Err(failure),
        None => Ok(item.data.map(|data| decode(codec, data).unwrap())),
    }
}
