//! One running instance of an endpoint, as discovery knows it.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::net::SocketAddr;

use crate::discovery::key::Key;
use crate::id::{EndpointId, InstanceId};

/// Where an instance of an endpoint is and what it speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Which of the endpoint's instances. One process may use one id for all its endpoints.
    pub id: InstanceId,
    /// What it serves.
    pub endpoint: EndpointId,
    /// Where its listener is; `0.0.0.0:0` if requests do not come by TCP and the record does not say.
    pub addr: SocketAddr,
    /// The routing key of a Dynamo request frame, compared byte by byte by the worker: normally [`dynamo_path`].
    pub path: String,
    /// How Dynamo's requests reach it.
    pub transport: Transport,
    /// The version of the mux protocol it offers; `None` speaks Dynamo's protocol only.
    pub mux: Option<u8>,
    /// How payloads are encoded.
    pub codec: Codec,
    /// What it computes on, if it says so.
    pub device: Option<Device>,
    /// How many calls it takes at once, of all callers together, if it says so.
    pub capacity: Option<u32>,
}

impl Instance {
    /// An instance with Dynamo's usual path and codec, without mux.
    pub fn new(id: InstanceId, endpoint: EndpointId, addr: SocketAddr) -> Self {
        let path = dynamo_path(id, &endpoint);
        let transport = Transport::Tcp;
        Self { id, endpoint, addr, path, transport, mux: None, codec: Codec::Msgpack, device: None, capacity: None }
    }

    /// What names this instance among all instances of all endpoints.
    pub fn key(&self) -> Key {
        Key { endpoint: self.endpoint.clone(), id: self.id }
    }
}

/// How Dynamo's requests reach an instance. Answers come over TCP, by a call-home, in each case.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Transport {
    /// In frames to [`Instance::addr`], under [`Instance::path`].
    #[default]
    Tcp,
    /// In messages of a NATS server to this subject: normally [`nats_subject`].
    Nats(String),
    /// In HTTP requests to this URL, as Dynamo 1.0 has it.
    Http(String),
}

impl Transport {
    /// `tcp`, `nats` or `http`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Nats(_) => "nats",
            Self::Http(_) => "http",
        }
    }
}

/// How the payloads of Dynamo's request plane are encoded.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub enum Codec {
    /// JSON: what a record without the field means.
    Json,
    /// MessagePack.
    #[default]
    Msgpack,
}

impl Codec {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
        }
    }

    /// The codec of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Json, Self::Msgpack].into_iter().find(|codec| codec.name() == name)
    }
}

/// What an instance computes on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Device {
    /// No accelerator.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// Something this version has no name for.
    Other(String),
}

impl Device {
    /// Its name in records.
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Other(name) => name,
        }
    }

    /// The device of this name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "cpu" => Self::Cpu,
            "cuda" => Self::Cuda,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// The routing key Dynamo gives an instance: `id/namespace/component/endpoint`, with `%` and `/` escaped in the names
/// (request plane specification, 1.3).
pub fn dynamo_path(id: InstanceId, endpoint: &EndpointId) -> String {
    let escape = |name: &str| name.replace('%', "%25").replace('/', "%2F");
    format!("{id}/{}/{}/{}", escape(&endpoint.namespace), escape(&endpoint.component), escape(&endpoint.name))
}

/// The NATS subject that the record of an instance names: `namespace_component.endpoint-id` (request plane
/// specification, section 7).
pub fn nats_subject(id: InstanceId, endpoint: &EndpointId) -> String {
    format!("{}_{}.{}-{id}", endpoint.namespace, endpoint.component, endpoint.name)
}

/// The subject a Dynamo worker listens on for the same instance. It differs from [`nats_subject`] where the names have
/// other characters than `a-z 0-9 - _` or begin with `_`: Dynamo's own callers then reach nobody. A worker that
/// listens on both is found by every caller.
pub fn nats_slug_subject(id: InstanceId, endpoint: &EndpointId) -> String {
    let slug = slug(&format!("{}_{}", endpoint.namespace, endpoint.component));
    format!("{slug}.{}-{id}", endpoint.name)
}

/// What Dynamo makes of a name before it names anything at NATS: lower case, `_` for every character but `a-z 0-9 - _`, and
/// none in front (discovery specification, 1.2). It is empty where nothing is left.
pub fn slug(name: &str) -> String {
    let fold = |c: char| match c {
        'a'..='z' | '0'..='9' | '-' | '_' => c,
        _ => '_',
    };
    let slug: String = name.to_lowercase().chars().map(fold).collect();
    slug.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_escapes_percent_before_slash_and_drops_leading_zeros_of_the_id() {
        let endpoint = EndpointId::new("a/b", "50%", "e-p");
        assert_eq!(dynamo_path(InstanceId(0x00ff), &endpoint), "ff/a%2Fb/50%25/e-p");
    }

    #[test]
    fn a_slug_has_small_letters_digits_and_dashes_only() {
        for (name, expected) in [
            ("my_ns_prefill_queue", "my_ns_prefill_queue"),
            ("My-Ns.Prefill Queue", "my-ns_prefill_queue"),
            ("__a__", "a__"),
            ("Ä\u{212a}1", "k1"),
            ("...", ""),
        ] {
            assert_eq!(slug(name), expected, "{name}");
        }
    }

    #[test]
    fn the_two_spellings_of_a_subject_differ_only_where_a_slug_loses_something() {
        let both = |namespace: &str| {
            let endpoint = EndpointId::new(namespace, "backend", "generate");
            let id = InstanceId(0x5ed7_9d0e_4ff8_2193);
            (nats_subject(id, &endpoint), nats_slug_subject(id, &endpoint))
        };
        let (raw, slug) = both("ringtest");
        assert_eq!((raw.as_str(), slug.as_str()), ("ringtest_backend.generate-5ed79d0e4ff82193", raw.as_str()));
        assert_eq!(both("MyNs").0, "MyNs_backend.generate-5ed79d0e4ff82193");
        assert_eq!(both("MyNs").1, "myns_backend.generate-5ed79d0e4ff82193");
        assert_eq!(both("_a.b").1, "a_b_backend.generate-5ed79d0e4ff82193");
    }
}
