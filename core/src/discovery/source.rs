//! What there is to know of a publisher besides its channel: Dynamo's `EventSource` record.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use crate::discovery::error::Error;
use crate::discovery::event::{EventKey, EventQuery, PublisherId, Scope};
use crate::discovery::json::Json;
use crate::discovery::kind::Kind;

const KIND: &str = "EventSource";

/// A publisher, described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventSource {
    /// What its events are about.
    pub scope: Scope,
    /// Which events.
    pub topic: String,
    /// Who publishes.
    pub publisher: PublisherId,
    /// Whatever its readers understand.
    pub metadata: Json,
}

impl Kind for EventSource {
    type Key = EventKey;
    type Query = EventQuery;

    const BUCKET: &'static str = "v1/event_sources";

    fn key(&self) -> EventKey {
        EventKey { scope: self.scope.clone(), topic: self.topic.clone(), publisher: self.publisher }
    }

    fn path(key: &EventKey) -> String {
        key.path()
    }

    fn parse(path: &str) -> Option<EventKey> {
        EventKey::parse(path)
    }

    fn is_asked(query: &EventQuery, key: &EventKey) -> bool {
        query.matches(key)
    }

    fn prefix(query: &EventQuery) -> String {
        query.path()
    }

    fn write(&self) -> Result<String, Error> {
        self.key().check()?;
        let record = Written {
            kind: KIND,
            scope: &self.scope,
            topic: &self.topic,
            publisher_id: self.publisher.0,
            metadata: &self.metadata,
        };
        serde_json::to_string(&record).map_err(|error| Error::Json(error.to_string()))
    }

    fn read(key: &EventKey, value: &[u8]) -> Result<Self, Error> {
        let record: Read<'_> = serde_json::from_slice(value).map_err(|error| Error::Json(error.to_string()))?;
        if record.kind != KIND {
            return Err(Error::Kind(record.kind.into_owned()));
        }
        let Read { scope, topic, publisher_id, metadata, .. } = record;
        let source = Self { scope, topic, publisher: PublisherId(publisher_id), metadata };
        if source.key() == *key { Ok(source) } else { Err(Error::Identity { claims: source.key().path() }) }
    }

    fn is_update_of(&self, before: &Self) -> bool {
        self.key() == before.key()
    }
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    scope: &'a Scope,
    topic: &'a str,
    publisher_id: u64,
    metadata: &'a Json,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    scope: Scope,
    topic: String,
    publisher_id: u64,
    #[serde(default)]
    metadata: Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::captured;
    use crate::discovery::kind::{parse_full, serves};

    fn seen_live() -> (String, String) {
        captured::events().into_iter().find(|(key, _)| key.starts_with(EventSource::BUCKET)).unwrap()
    }

    #[test]
    fn sources_of_dynamo_are_read_and_written_byte_by_byte() {
        let mut seen = 0;
        for (key, value) in captured::events().into_iter().filter(|(key, _)| key.starts_with(EventSource::BUCKET)) {
            let parsed = parse_full::<EventSource>(&key).unwrap();
            let source = <EventSource as Kind>::read(&parsed, value.as_bytes()).unwrap();
            assert_eq!((EventSource::full(&source.key()), source.write().unwrap()), (key, value));
            seen += 1;
        }
        assert_eq!(seen, 3, "one over NATS, one over ZeroMQ and one over its brokers");
    }

    #[test]
    fn the_same_description_in_another_order_is_the_same_and_another_one_is_not() {
        let (key, value) = seen_live();
        let other = value.replace(
            r#"{"worker_id":4111120194443336746,"dp_rank":0}"#,
            r#"{"dp_rank":0,"worker_id":4111120194443336746}"#,
        );
        assert_ne!(value, other);
        assert!(serves::<EventSource>(&key, value.as_bytes(), other.as_bytes()));
        assert!(!serves::<EventSource>(
            &key,
            value.as_bytes(),
            value.replace("\"dp_rank\":0", "\"dp_rank\":1").as_bytes()
        ));
    }

    #[test]
    fn a_source_needs_no_description() {
        let (key, value) = seen_live();
        let key = parse_full::<EventSource>(&key).unwrap();
        let text = value.split_once(",\"metadata\"").unwrap().0.to_string() + "}";
        let source = <EventSource as Kind>::read(&key, text.as_bytes()).unwrap();
        assert_eq!(source.metadata, Json::default());
    }
}
