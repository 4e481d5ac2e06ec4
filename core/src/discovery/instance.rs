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
    /// Where its listener is.
    pub addr: SocketAddr,
    /// The routing key of a Dynamo request frame, compared byte by byte by the worker: normally [`dynamo_path`].
    pub path: String,
    /// The version of the mux protocol it offers; `None` speaks Dynamo's protocol only.
    pub mux: Option<u8>,
    /// How payloads are encoded.
    pub codec: Codec,
    /// What it computes on, if it says so.
    pub device: Option<Device>,
}

impl Instance {
    /// An instance with Dynamo's usual path and codec, without mux.
    pub fn new(id: InstanceId, endpoint: EndpointId, addr: SocketAddr) -> Self {
        let path = dynamo_path(id, &endpoint);
        Self { id, endpoint, addr, path, mux: None, codec: Codec::Msgpack, device: None }
    }

    /// What names this instance among all instances of all endpoints.
    pub fn key(&self) -> Key {
        Key { endpoint: self.endpoint.clone(), id: self.id }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_escapes_percent_before_slash_and_drops_leading_zeros_of_the_id() {
        let endpoint = EndpointId::new("a/b", "50%", "e-p");
        assert_eq!(dynamo_path(InstanceId(0x00ff), &endpoint), "ff/a%2Fb/50%25/e-p");
    }
}
