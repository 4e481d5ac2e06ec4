//! What real Dynamo processes were seen to write, for tests.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

const EVENTS: [&str; 3] = [
    include_str!("../../tests/vectors/discovery/etcd-event-plane-nats.json"),
    include_str!("../../tests/vectors/discovery/etcd-event-plane-zmq.json"),
    include_str!("../../tests/vectors/discovery/etcd-event-plane-zmq-broker.json"),
];

/// Keys and values of a dump of etcd.
pub(crate) fn entries(dump: &str) -> Vec<(String, String)> {
    let dump: Value = serde_json::from_str(dump).unwrap();
    let entry = |kv: &Value| (base64(kv["key"].as_str().unwrap()), base64(kv["value"].as_str().unwrap()));
    dump["kvs"].as_array().unwrap().iter().map(entry).collect()
}

/// All channels and sources, and the endpoints they belong to.
pub(crate) fn events() -> Vec<(String, String)> {
    EVENTS.into_iter().flat_map(entries).collect()
}

fn base64(text: &str) -> String {
    let digits = text.bytes().filter(|byte| *byte != b'=').map(|byte| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    });
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in digits {
        (bits, count) = (bits << 6 | u32::from(digit), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xFF) as u8);
        }
    }
    String::from_utf8(bytes).unwrap()
}
