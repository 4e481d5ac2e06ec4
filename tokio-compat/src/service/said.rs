//! What services say of themselves. Field names are those on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// That a replica is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ping {
    /// The service.
    pub name: String,
    /// The replica.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whatever else it says of itself.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What a replica serves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Info {
    /// The service.
    pub name: String,
    /// The replica.
    pub id: String,
    /// What the service is, for people.
    #[serde(default)]
    pub description: String,
    /// Its version.
    pub version: String,
    /// Whatever else it says of itself.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// What it serves.
    #[serde(default)]
    pub endpoints: Vec<EndpointInfo>,
}

/// One thing that a replica serves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointInfo {
    /// Its name.
    pub name: String,
    /// Where requests go.
    pub subject: String,
    /// Of several that listen there one in this group gets a request.
    #[serde(default)]
    pub queue_group: String,
    /// Whatever else it says of itself.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// How much a replica has done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// The service.
    pub name: String,
    /// The replica.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whatever else it says of itself.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// When it began, as RFC 3339 has it.
    #[serde(default)]
    pub started: String,
    /// What each of its endpoints has done.
    #[serde(default)]
    pub endpoints: Vec<EndpointStats>,
}

/// How much an endpoint of a replica has done.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EndpointStats {
    /// Its name.
    pub name: String,
    /// Where requests go.
    pub subject: String,
    /// Requests that came.
    #[serde(default)]
    pub num_requests: u64,
    /// Requests that were refused or failed.
    #[serde(default)]
    pub num_errors: u64,
    /// Nanoseconds from requests to their replies, of all together. Of a worker a reply is the ack: the answer comes by another way.
    #[serde(default)]
    pub processing_time: u64,
    /// The same of one request, on average.
    #[serde(default)]
    pub average_processing_time: u64,
    /// What was wrong last; empty if nothing was.
    #[serde(default)]
    pub last_error: String,
    /// Of several that listen there one in this group gets a request.
    #[serde(default)]
    pub queue_group: String,
    /// Whatever the endpoint counts besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// Something said, with the name of its form in front.
#[derive(Serialize)]
pub(super) struct Named<'a, T> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) said: &'a T,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker of Dynamo 1.6.1 answers.
    #[test]
    fn what_dynamos_workers_say_is_read() {
        let stats = r#"{"type":"io.nats.micro.v1.stats_response","name":"wns_wcomp","id":"q7ahspHpseEZkFZbqCgZDY","version":"1.6.1",
            "started":"2026-11-23T15:56:59.161278026Z","endpoints":[{"name":"wns_wcomp-wep-390da20902badcb3",
            "subject":"wns_wcomp.wep-390da20902badcb3","num_requests":3,"num_errors":0,"processing_time":30,
            "average_processing_time":10,"last_error":"","queue_group":"q"}]}"#;
        let stats: Stats = serde_json::from_str(stats).unwrap();
        let [endpoint] = &stats.endpoints[..] else { panic!("{stats:?}") };
        assert_eq!((&*stats.name, endpoint.num_requests, endpoint.average_processing_time), ("wns_wcomp", 3, 10));
        let info = r#"{"type":"io.nats.micro.v1.info_response","name":"wns_wcomp","id":"q","description":"Dynamo","version":"1.6.1",
            "metadata":{},"endpoints":[{"name":"e","subject":"s","queue_group":"q","metadata":{}}]}"#;
        let info: Info = serde_json::from_str(info).unwrap();
        assert_eq!((&*info.description, &*info.endpoints[0].subject), ("Dynamo", "s"));
        let text = serde_json::to_string(&Named { kind: "k", said: &info }).unwrap();
        assert!(text.starts_with(r#"{"type":"k","name":"wns_wcomp","#), "{text}");
        assert_eq!(serde_json::from_str::<Info>(&text).unwrap(), info);
    }
}
