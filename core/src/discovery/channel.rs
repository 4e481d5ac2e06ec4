//! Where the events of a publisher are to be had: Dynamo's `EventChannel` record.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::discovery::error::Error;
use crate::discovery::event::{EventKey, EventQuery, PublisherId, Scope};
use crate::discovery::kind::Kind;

const KIND: &str = "EventChannel";

/// A publisher and how to subscribe to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventChannel {
    /// What its events are about.
    pub scope: Scope,
    /// Which events.
    pub topic: String,
    /// Who publishes.
    pub publisher: PublisherId,
    /// Where.
    pub transport: EventTransport,
}

/// How events travel.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "config")]
pub enum EventTransport {
    /// As messages of a NATS server.
    Nats {
        /// The subject without the topic behind it.
        subject_prefix: String,
    },
    /// From a ZeroMQ publisher.
    Zmq {
        /// `tcp://ip:port` to connect to.
        endpoint: String,
    },
    /// Through ZeroMQ brokers.
    ZmqBroker {
        /// Where publishers connect to.
        xsub_endpoints: Vec<String>,
        /// Where subscribers connect to.
        xpub_endpoints: Vec<String>,
    },
}

impl Kind for EventChannel {
    type Key = EventKey;
    type Query = EventQuery;

    const BUCKET: &'static str = "v1/event_channels";

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
            instance_id: self.publisher.0,
            transport: &self.transport,
        };
        serde_json::to_string(&record).map_err(|error| Error::Json(error.to_string()))
    }

    fn read(key: &EventKey, value: &[u8]) -> Result<Self, Error> {
        let record: Read<'_> = serde_json::from_slice(value).map_err(|error| Error::Json(error.to_string()))?;
        if record.kind != KIND {
            return Err(Error::Kind(record.kind.into_owned()));
        }
        let Read { scope, topic, instance_id, transport, .. } = record;
        let channel = Self { scope, topic, publisher: PublisherId(instance_id), transport };
        if channel.key() == *key { Ok(channel) } else { Err(Error::Identity { claims: channel.key().path() }) }
    }

    /// A publisher that has moved is the same publisher.
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
    instance_id: u64,
    transport: &'a EventTransport,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    scope: Scope,
    topic: String,
    instance_id: u64,
    transport: EventTransport,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::captured;
    use crate::discovery::event::scopes;
    use crate::discovery::kind::parse_full;

    #[test]
    fn channels_of_dynamo_are_read_and_written_byte_by_byte() {
        let mut seen = 0;
        for (key, value) in captured::events().into_iter().filter(|(key, _)| key.starts_with(EventChannel::BUCKET)) {
            let parsed = parse_full::<EventChannel>(&key).unwrap();
            let channel = <EventChannel as Kind>::read(&parsed, value.as_bytes()).unwrap();
            assert_eq!((EventChannel::full(&channel.key()), channel.write().unwrap()), (key, value));
            seen += 1;
        }
        assert_eq!(seen, 8, "four over NATS and four over ZeroMQ");
    }

    #[test]
    fn a_topic_that_only_newer_dynamos_publish_is_listed_like_any_other() {
        let recorded = include_str!("../../tests/vectors/dynamo-1.7/frontend-load.json");
        let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
        let publisher = PublisherId(recorded["record"]["instance_id"].as_u64().unwrap());
        let key = EventKey { scope: Scope::Namespace("ens".into()), topic: "frontend_load".into(), publisher };
        let channel = <EventChannel as Kind>::read(&key, recorded["record"].to_string().as_bytes()).unwrap();
        let endpoint = "tcp://127.0.0.1:37561".into();
        assert_eq!((channel.key(), channel.transport.clone()), (key, EventTransport::Zmq { endpoint }));
        let written: serde_json::Value = serde_json::from_str(&channel.write().unwrap()).unwrap();
        assert_eq!(written, recorded["record"]);
    }

    #[test]
    fn brokers_of_every_scope_read_back_and_a_foreign_field_is_ignored() {
        let transport = EventTransport::ZmqBroker {
            xsub_endpoints: ["tcp://a:1".into()].into(),
            xpub_endpoints: ["tcp://a:2".into(), "tcp://b:2".into()].into(),
        };
        for scope in scopes() {
            let (topic, transport) = ("broker".into(), transport.clone());
            let channel = EventChannel { scope, topic, publisher: PublisherId::MAX, transport };
            let text = channel.write().unwrap().replacen('{', r#"{"later":[1],"#, 1);
            assert_eq!(<EventChannel as Kind>::read(&channel.key(), text.as_bytes()), Ok(channel.clone()));
            let moved =
                EventChannel { transport: EventTransport::Zmq { endpoint: "tcp://c:1".into() }, ..channel.clone() };
            assert!(moved.is_update_of(&channel) && !channel.is_served_by(&moved));
        }
    }

    #[test]
    fn a_channel_under_another_key_or_by_an_unknown_transport_is_refused() {
        let (key, value) = captured::events().into_iter().find(|(_, value)| value.contains("Zmq")).unwrap();
        let key = parse_full::<EventChannel>(&key).unwrap();
        let read = |text: &str| <EventChannel as Kind>::read(&key, text.as_bytes());
        assert!(matches!(read(&value.replace("\"ens\"", "\"other\"")), Err(Error::Identity { .. })));
        assert!(matches!(read(&value.replace("\"Zmq\"", "\"Quic\"")), Err(Error::Json(_))));
        assert!(matches!(read(&value.replace("EventChannel", "EventSource")), Err(Error::Kind(_))));
    }
}
