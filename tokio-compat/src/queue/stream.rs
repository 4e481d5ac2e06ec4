//! The stream of a queue: made as Dynamo makes it, and looked at.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::nats::jetstream::{Error, JetStream, NAME_IN_USE, NO_STREAM};
use crate::queue::names;

/// The longest duration that the server reads.
const MOST: u64 = i64::MAX as u64;

/// Sees to it that a stream is there, as Dynamo makes it.
pub(crate) async fn make(server: &JetStream, stream: &str, max_age: Duration) -> Result<(), Error> {
    match look(server, stream).await {
        Err(error) if error.is(NO_STREAM) => {}
        seen => return seen.map(|seen| told_of_age(stream, &seen, max_age)),
    }
    let question = json!({
        "name": stream,
        "subjects": [names::subjects(stream)],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "max_age": nanos(max_age),
    });
    match server.ask::<Seen>(&format!("STREAM.CREATE.{stream}"), &question).await {
        // Another has made it meanwhile, for another age.
        Err(error) if error.is(NAME_IN_USE) => {
            look(server, stream).await.map(|seen| told_of_age(stream, &seen, max_age))
        }
        made => made.map(drop),
    }
}

/// What a stream is like.
pub(crate) async fn look(server: &JetStream, stream: &str) -> Result<Seen, Error> {
    server.ask(&format!("STREAM.INFO.{stream}"), &json!({})).await
}

fn told_of_age(stream: &str, seen: &Seen, wanted: Duration) {
    let holds = Duration::from_nanos(seen.config.max_age);
    if holds != wanted {
        tracing::debug!(stream, ?holds, ?wanted, "the queue was made with another age and keeps it");
    }
}

/// Nanoseconds, as JetStream writes durations; the longest is what it can read.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(MOST)
}

#[derive(Deserialize)]
pub(crate) struct Seen {
    pub(crate) config: Config,
    pub(crate) state: State,
}

#[derive(Deserialize)]
pub(crate) struct Config {
    /// Nanoseconds.
    #[serde(default)]
    pub(crate) max_age: u64,
}

#[derive(Deserialize)]
pub(crate) struct State {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) consumer_count: usize,
}
