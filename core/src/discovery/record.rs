//! The JSON record of an instance: Dynamo's `Endpoint`, plus a field of our own that it ignores.

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::{String, ToString};
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::discovery::error::Error;
use crate::discovery::instance::{Codec, Device, Instance, Transport, dynamo_path};
use crate::discovery::key::{BUCKET, Key, Query};
use crate::discovery::kind::Kind;
use crate::id::{EndpointId, InstanceId, NameError};

/// The path at which a worker of ringplane's says what it serves: an item with the record of each of its instances, as
/// [`write()`] has it. No instance has a path like that, for want of a `/`.
pub const QUESTION: &str = "ringplane.instances";

/// The record of `instance`: one line of JSON in Dynamo's field order, ours last.
///
/// # Errors
/// [`Error::Name`] for a name that Dynamo's own keys or subjects would trip over.
pub fn write(instance: &Instance) -> Result<String, Error> {
    let endpoint = &instance.endpoint;
    check_names([&endpoint.namespace, &endpoint.component, &endpoint.name])?;
    let record = Written {
        kind: KIND,
        component: &endpoint.component,
        endpoint: &endpoint.name,
        namespace: &endpoint.namespace,
        instance_id: instance.id.0,
        transport: match &instance.transport {
            Transport::Tcp => WrittenTransport::Tcp(format!("{}/{}", instance.addr, instance.path)),
            Transport::Nats(subject) => WrittenTransport::Nats(subject),
            Transport::Http(url) => WrittenTransport::Http(url),
        },
        device_type: instance.device.as_ref().map(Device::name),
        request_plane_codec: instance.codec.name(),
        ringplane: ours(instance),
    };
    serde_json::to_string(&record).map_err(|error| Error::Json(error.to_string()))
}

/// Reads the record stored under `key`. Unknown fields are ignored.
///
/// # Errors
/// [`Error`] for what cannot be used. A record that names another instance than its key is refused: its removal could
/// never be recognised.
pub fn read(key: &Key, bytes: &[u8]) -> Result<Instance, Error> {
    let instance = parse(bytes)?;
    if instance.endpoint == key.endpoint && instance.id == key.id {
        Ok(instance)
    } else {
        Err(Error::Identity { claims: instance.key().relative() })
    }
}

impl Kind for Instance {
    type Key = Key;
    type Query = Query;

    const BUCKET: &'static str = BUCKET;

    fn key(&self) -> Key {
        self.key()
    }

    fn path(key: &Key) -> String {
        key.relative()
    }

    fn parse(path: &str) -> Option<Key> {
        Key::parse(path).ok()
    }

    fn is_asked(query: &Query, key: &Key) -> bool {
        query.matches(&key.endpoint)
    }

    fn prefix(query: &Query) -> String {
        query.path()
    }

    fn write(&self) -> Result<String, Error> {
        write(self)
    }

    fn read(key: &Key, value: &[u8]) -> Result<Self, Error> {
        read(key, value)
    }

    /// An instance that is reached by another transport is another instance: its callers connect anew.
    fn is_update_of(&self, _before: &Self) -> bool {
        false
    }
}

/// Reads a record without knowing its key: what a worker answers to [`QUESTION`].
///
/// # Errors
/// [`Error`] for what cannot be used.
pub fn read_any(bytes: &[u8]) -> Result<Instance, Error> {
    parse(bytes)
}

/// Whether each part of a key is a name that neither keys nor subjects trip over.
pub(crate) fn check_names<'a>(parts: impl IntoIterator<Item = &'a String>) -> Result<(), Error> {
    let is_name =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    match parts.into_iter().find(|part| !is_name(part)) {
        Some(part) => Err(Error::Name(NameError::Character { part: part.clone() })),
        None => Ok(()),
    }
}

const KIND: &str = "Endpoint";

fn parse(bytes: &[u8]) -> Result<Instance, Error> {
    let record: Read<'_> = serde_json::from_slice(bytes).map_err(|error| Error::Json(error.to_string()))?;
    if record.kind != KIND {
        return Err(Error::Kind(record.kind.into_owned()));
    }
    let id = InstanceId(record.instance_id);
    let endpoint = EndpointId { namespace: record.namespace, component: record.component, name: record.endpoint };
    let (addr, path, transport) = reach(record.transport, id, &endpoint)?;
    let codec = match record.request_plane_codec {
        None => Codec::Json,
        Some(name) => Codec::from_name(&name).ok_or_else(|| Error::Codec(name.into_owned()))?,
    };
    Ok(Instance {
        id,
        endpoint,
        addr,
        path,
        transport,
        mux: record.ringplane.as_ref().and_then(mux_offer),
        codec,
        device: record.device_type.as_deref().map(Device::from_name),
        capacity: record.ringplane.as_ref().and_then(capacity),
    })
}

/// Address, path and transport; TCP wins if several are named.
fn reach(
    named: ReadTransport,
    id: InstanceId,
    endpoint: &EndpointId,
) -> Result<(SocketAddr, String, Transport), Error> {
    if let Some(tcp) = named.tcp {
        let (addr, path) = split_address(&tcp)?;
        return Ok((addr, path, Transport::Tcp));
    }
    let transport = match (named.nats_tcp, named.http) {
        (Some(subject), _) if is_subject(&subject) => Transport::Nats(subject),
        (Some(subject), _) => return Err(Error::Subject(subject)),
        (None, Some(url)) => {
            let after = url.strip_prefix("http://").ok_or_else(|| Error::Address(url.clone()))?;
            let host = after.split_once('/').map_or(after, |(host, _)| host);
            let addr = host.parse().map_err(|_| Error::Address(url.clone()))?;
            return Ok((addr, dynamo_path(id, endpoint), Transport::Http(url)));
        }
        (None, None) => return Err(Error::Transport),
    };
    Ok((SocketAddr::from(([0, 0, 0, 0], 0)), dynamo_path(id, endpoint), transport))
}

/// Whether one may publish to it: no blanks, no wildcards, no empty token.
fn is_subject(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '*' && c != '>';
    text.split('.').all(|token| !token.is_empty() && token.chars().all(plain))
}

/// `[tcp://]ip:port/path`. Dynamo takes no host names either.
fn split_address(text: &str) -> Result<(SocketAddr, String), Error> {
    let plain = text.strip_prefix("tcp://").unwrap_or(text);
    let malformed = || Error::Address(text.to_owned());
    let (addr, path) = plain.split_once('/').ok_or_else(malformed)?;
    Ok((addr.parse().map_err(|_| malformed())?, path.to_owned()))
}

/// The mux version in our own field. What a later version of us writes there and this one does not understand means
/// "no mux": Dynamo's protocol still works.
fn mux_offer(ours: &serde_json::Value) -> Option<u8> {
    ours.get("mux")?.as_u64()?.try_into().ok()
}

/// How many calls it takes at once, in our own field; what is no such number says nothing.
fn capacity(ours: &serde_json::Value) -> Option<u32> {
    ours.get("capacity")?.as_u64()?.try_into().ok().filter(|capacity| *capacity > 0)
}

/// What our own field says; it is left out if that is nothing.
fn ours(instance: &Instance) -> Option<Ours> {
    let Instance { mux, capacity, .. } = *instance;
    (mux.is_some() || capacity.is_some()).then_some(Ours { mux, capacity })
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    component: &'a str,
    endpoint: &'a str,
    namespace: &'a str,
    instance_id: u64,
    transport: WrittenTransport<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_type: Option<&'a str>,
    request_plane_codec: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ringplane: Option<Ours>,
}

#[derive(Serialize)]
enum WrittenTransport<'a> {
    #[serde(rename = "tcp")]
    Tcp(String),
    #[serde(rename = "nats_tcp")]
    Nats(&'a str),
    #[serde(rename = "http")]
    Http(&'a str),
}

#[derive(Serialize)]
struct Ours {
    #[serde(skip_serializing_if = "Option::is_none")]
    mux: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    component: String,
    endpoint: String,
    namespace: String,
    instance_id: u64,
    transport: ReadTransport,
    #[serde(default, borrow)]
    device_type: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    request_plane_codec: Option<Cow<'a, str>>,
    #[serde(default)]
    ringplane: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ReadTransport {
    #[serde(default)]
    tcp: Option<String>,
    #[serde(default)]
    nats_tcp: Option<String>,
    #[serde(default)]
    http: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::discovery::instance::nats_subject;

    const ACCEPTANCE: &str = include_str!("../../tests/vectors/discovery/etcd-endpoint-acceptance.json");
    const FILE_TREE: &str = include_str!("../../tests/vectors/discovery/file-tree-endpoint-registered.txt");

    fn seen_live() -> &'static str {
        FILE_TREE.lines().map(str::trim).find(|line| line.starts_with('{')).unwrap()
    }

    fn example() -> Instance {
        let endpoint = EndpointId::new("w-ns", "wcomp", "wep");
        let addr = "127.0.0.1:34017".parse().unwrap();
        Instance { device: Some(Device::Cuda), ..Instance::new(InstanceId(0xaaff_5a6e_69b3_9505), endpoint, addr) }
    }

    #[test]
    fn a_record_of_dynamo_is_read_and_written_byte_by_byte() {
        let instance = read(&example().key(), seen_live().as_bytes()).unwrap();
        assert_eq!(instance, example());
        assert_eq!(write(&instance).unwrap(), seen_live());
    }

    #[test]
    fn our_own_field_comes_last_and_reads_back() {
        let instance = Instance { mux: Some(1), device: None, codec: Codec::Json, ..example() };
        let text = write(&instance).unwrap();
        assert!(text.ends_with(r#""request_plane_codec":"json","ringplane":{"mux":1}}"#), "{text}");
        assert_eq!(read(&instance.key(), text.as_bytes()), Ok(instance));
        for (mux, ours) in [(Some(1), r#"{"mux":1,"capacity":8192}"#), (None, r#"{"capacity":8192}"#)] {
            let instance = Instance { mux, capacity: Some(8192), ..example() };
            let text = write(&instance).unwrap();
            assert!(text.ends_with(&format!(r#","ringplane":{ours}}}"#)), "{text}");
            assert_eq!(read(&instance.key(), text.as_bytes()), Ok(instance));
        }
    }

    #[test]
    fn a_strange_value_in_our_own_field_says_nothing() {
        for strange in [
            "7",
            "{}",
            r#"{"capacity":0}"#,
            r#"{"capacity":-1}"#,
            r#"{"capacity":4294967296}"#,
            r#"{"mux":256}"#,
            r#"{"mux":"1"}"#,
            "null",
            "[1]",
        ] {
            let text = seen_live().replacen('{', &format!("{{\"ringplane\":{strange},"), 1);
            assert_eq!(read(&example().key(), text.as_bytes()), Ok(example()), "{strange}");
        }
    }

    #[test]
    fn what_dynamo_accepts_is_accepted_except_for_ghosts() {
        let Value::Array(cases) = serde_json::from_str(ACCEPTANCE).unwrap() else { panic!("a list of cases") };
        for case in &cases {
            let name = case["case"].as_str().unwrap();
            let by_dynamo = !case["after_put"].as_array().unwrap().is_empty();
            let result = Key::parse(case["key"].as_str().unwrap())
                .map_err(|_| ())
                .and_then(|key| read(&key, case["value"].to_string().as_bytes()).map_err(|_| ()));
            let stricter = ["key id 1b", "key with extra", "value ns differs"].iter().any(|p| name.starts_with(p));
            // The last case is a foreign endpoint: a fine record, filtered by the query and not by its form.
            let expected = (by_dynamo && !stricter) || name.starts_with("endpoint name prefix");
            assert_eq!(result.is_ok(), expected, "{name}: {result:?}");
        }
        assert_eq!(cases.len(), 15);
    }

    #[test]
    fn an_unusable_record_says_what_is_wrong() {
        let key = example().key();
        let broken = |from: &str, to: &str| read(&key, seen_live().replace(from, to).as_bytes()).unwrap_err();
        assert!(matches!(read(&key, b"hello"), Err(Error::Json(_))));
        assert!(matches!(broken("12321666535775245573", "\"12\""), Error::Json(_)));
        assert!(matches!(broken("12321666535775245573", "18446744073709551616"), Error::Json(_)));
        assert_eq!(broken("\"Endpoint\"", "\"Model\""), Error::Kind("Model".into()));
        assert_eq!(broken("\"tcp\"", "\"quic\""), Error::Transport);
        assert!(matches!(broken("\"tcp\"", "\"http\""), Error::Address(_)), "no URL");
        assert!(matches!(broken("\"tcp\":\"", "\"nats_tcp\":\"a.*."), Error::Subject(_)));
        assert!(matches!(broken("127.0.0.1", "localhost"), Error::Address(_)));
        assert_eq!(broken("msgpack", "cbor"), Error::Codec("cbor".into()));
        assert!(matches!(broken("12321666535775245573", "12321666535775245574"), Error::Identity { .. }));
    }

    #[test]
    fn instances_by_nats_and_http_are_written_as_dynamo_does_and_read_back() {
        let subject = "w-ns_wcomp.wep-aaff5a6e69b39505";
        let nats = Instance { transport: Transport::Nats(subject.into()), addr: ([0, 0, 0, 0], 0).into(), ..example() };
        assert_eq!(nats_subject(nats.id, &nats.endpoint), subject);
        let url = "http://127.0.0.1:34017/v1/rpc/wep";
        let http = Instance { transport: Transport::Http(url.into()), ..example() };
        for (instance, transport) in
            [(nats, format!(r#"{{"nats_tcp":"{subject}"}}"#)), (http, format!(r#"{{"http":"{url}"}}"#))]
        {
            let text = write(&instance).unwrap();
            assert!(text.contains(&format!(r#""transport":{transport},"#)), "{text}");
            assert_eq!(read(&instance.key(), text.as_bytes()), Ok(instance));
        }
    }

    #[test]
    fn a_name_that_would_break_dynamos_keys_is_not_written() {
        for name in ["a/b", "", "a.b", ".a", "a b", "ü"] {
            let endpoint = EndpointId::new("ns", "comp", name);
            let instance = Instance::new(InstanceId(1), endpoint, example().addr);
            assert!(matches!(write(&instance), Err(Error::Name(_))), "{name}");
        }
    }

    #[test]
    fn an_ipv6_address_keeps_its_brackets() {
        let addr = "[::1]:80".parse().unwrap();
        let instance = Instance::new(InstanceId(7), EndpointId::new("n", "c", "e"), addr);
        let text = write(&instance).unwrap();
        assert!(text.contains(r#""tcp":"[::1]:80/7/n/c/e""#), "{text}");
        assert_eq!(read(&instance.key(), text.as_bytes()), Ok(instance));
    }
}
