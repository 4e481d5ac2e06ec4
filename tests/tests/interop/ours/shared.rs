//! What both of our peers share: their arguments, lines of JSON on stdout, and payloads in either codec.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use ringplane::discovery::Backend;
use ringplane::observe::telemetry::Telemetry;
use ringplane::observe::{export, otlp};
use ringplane::{Config, DriverChoice, Payload as _};
use ringplane_core::caller::config::Dialect;
use ringplane_core::config::Config as Environment;
use ringplane_core::wire::codec::Codec;
use ringplane_core::wire::dynamo::annotated::Annotated;
use ringplane_core::wire::dynamo::typed_failure::Failure;
use serde_json::Value;

use crate::ours::{caller, model, worker};

/// Plays the role that the arguments behind [`AS_PEER`](crate::place::AS_PEER) name.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [role, endpoint, rest @ ..] = arguments else { return ExitCode::from(2) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match role.as_str() {
        "model" => runtime.block_on(model::run(endpoint, rest)),
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
    let knobs = environment().discovery;
    ringplane::discovery::open_with(knobs.url.as_ref().unwrap(), &knobs).unwrap()
}

/// What the same variables say to a Dynamo peer.
fn environment() -> Environment {
    Environment::default().with_vars(|name| std::env::var(name).ok(), "", 1).unwrap()
}

pub(crate) fn config() -> Config {
    let environment = environment();
    let mut config = Config::new(environment.worker, environment.caller);
    config.driver = variable("PEER_DRIVER").parse::<DriverChoice>().unwrap();
    if variable("PEER_DIALECT") == "call-home" {
        config.caller.dialect = Dialect::CallHome;
    }
    config
}

/// What sends spans, if the variables ask for it.
pub(crate) fn telemetry() -> Option<Telemetry> {
    let config = otlp::Config::from_vars(|name| std::env::var(name).ok()).unwrap();
    config.map(|config| export(&config).unwrap())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

/// The codec that workers advertise and our caller writes.
pub(crate) fn codec() -> Codec {
    Codec::from_name(&variable("DYN_REQUEST_PLANE_CODEC")).unwrap()
}

pub(crate) fn encode(codec: Codec, value: &Value) -> Bytes {
    codec.write(value).unwrap()
}

/// What an item of that kind holds: data, nothing, or a failure.
pub(crate) fn unwrap(codec: Codec, item: &[u8]) -> Result<Option<Value>, Failure> {
    let item = Annotated::read(codec, item).unwrap_or_else(|error| panic!("{error}: {item:02x?}"));
    match item.failure() {
        Some(failure) => Err(failure),
        None => Ok(item.data.map(|data| codec.read(data).unwrap())),
    }
}
