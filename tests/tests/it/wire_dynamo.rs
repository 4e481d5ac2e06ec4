//! Real Dynamo 1.6.1 conversations through the wire formats: all of them, to the last byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ringplane_core::wire::checksum::xxh3;
use ringplane_core::wire::dynamo::control::{Control, Handshake, Prologue, StreamType};
use ringplane_core::wire::dynamo::headers::Headers;
use ringplane_core::wire::dynamo::two_part::Shape;
use ringplane_core::wire::pretty::{self, Stream};
use ringplane_core::wire::sniff::{self, Dialect};
use ringplane_core::wire::{Ack, Annotated, Codec, Crc32c, Envelope, Error, ErrorKind, Key, Limits, Parse, Request};
use ringplane_core::wire::{Format, TraceParent, TwoPart, Word};
use ringplane_tests::wire_laws::{self, End};

struct Vector {
    name: String,
    kind: &'static str,
    bytes: Vec<u8>,
}

const KINDS: [&str; 8] = [
    "req",
    "resp",
    "callhome-up",
    "callhome-down",
    "reqstream-up",
    "reqstream-down",
    "nats.to-server",
    "nats.from-server",
];

fn vectors(kind: &str) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/request-plane");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<Vector> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let parts =
                name.trim_end_matches(".bin").trim_end_matches(|last: char| last.is_ascii_digit() || last == '.');
            let kind = KINDS.into_iter().find(|kind| parts.ends_with(&format!(".{kind}")));
            let kind = kind.unwrap_or_else(|| panic!("{name} is of no known kind"));
            Vector { kind, bytes: fs::read(path).unwrap(), name }
        })
        .filter(|vector| kind.is_empty() || vector.kind == kind)
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn json_file(name: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/request-plane").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every frame of `bytes`, printed, written back and cut into pieces on the way.
fn all_frames<'a, F: Format<'a> + PartialEq + std::fmt::Debug>(name: &str, bytes: &'a [u8], stream: Stream) -> Vec<F> {
    let limits = Limits::default();
    let (frames, end) = wire_laws::frames::<F>(bytes, &limits);
    assert_eq!(end, End::Clean, "{name}");
    let mut printed = String::new();
    pretty::dynamo_stream(bytes, stream, &limits, &mut printed).unwrap();
    assert_eq!(printed.lines().count(), frames.len(), "{name}\n{printed}");
    let bad = |line: &str| matches!(line.split(' ').nth(1), Some("error:" | "incomplete:"));
    assert!(!printed.lines().any(bad), "{name}\n{printed}");
    wire_laws::cuts_do_not_matter::<F>(bytes, &limits);
    let mut at = 0;
    for frame in &frames {
        wire_laws::prefixes_are_incomplete::<F>(&bytes[at..], &limits);
        at += frame.emitted_len();
    }
    frames
}

/// Whether the JSON is in Dynamo's compact form and not written by the test client that made some of the vectors.
fn is_dynamos(json: &[u8]) -> bool {
    !json.windows(2).any(|pair| pair == b": ")
}

#[test]
fn every_vector_is_of_a_kind_some_test_reads() {
    let mut counts = BTreeMap::new();
    for vector in vectors("") {
        *counts.entry(vector.kind).or_insert(0) += 1;
    }
    let expected = [
        ("callhome-down", 33),
        ("callhome-up", 34),
        ("nats.from-server", 1),
        ("nats.to-server", 2),
        ("req", 27),
        ("reqstream-down", 3),
        ("reqstream-up", 3),
        ("resp", 27),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    let index = json_file("index.json");
    let listed: usize =
        index.as_object().unwrap().values().map(|entry| entry["files"].as_object().unwrap().len()).sum();
    // The synthetic stream is not in the index.
    assert_eq!(listed + 1, vectors("").len());
}

#[test]
fn request_frames_are_read_printed_and_written_back() {
    let mut seen = (0, 0, 0);
    for vector in vectors("req") {
        if vector.name == "too-big.req.bin" {
            let error = Error::new(ErrorKind::TooLarge { declared: 33_554_443, limit: 33_554_432 }, 7);
            assert_eq!(Request::parse(&vector.bytes, &Limits::default()), Err(error));
            continue;
        }
        for request in all_frames::<Request<'_>>(&vector.name, &vector.bytes, Stream::Requests) {
            seen.0 += 1;
            let headers = Headers::try_read(request.headers).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
            assert_eq!(headers.write().unwrap(), request.headers, "{}", vector.name);
            if request.path == [0xFF, 0xFE] {
                assert!(request.path_str().is_err() && request.payload.is_empty());
                continue;
            }
            seen.1 += usize::from(payload(&vector.name, &request, &headers));
            seen.2 += 1;
        }
    }
    assert_eq!(seen, (38, 30, 37), "frames, control messages in Dynamo's bytes, payloads");
}

/// Checks a request's payload; says whether its control message was written by Dynamo.
fn payload(name: &str, request: &Request<'_>, headers: &Headers<'_>) -> bool {
    let Ok(Parse::Complete { value: frame, used }) = TwoPart::parse_unverified(request.payload, &Limits::default())
    else {
        panic!("{name}: no two-part frame");
    };
    assert_eq!(used, request.payload.len(), "{name}");
    wire_laws::frame_holds(&frame, request.payload);
    let verified = TwoPart::parse(request.payload, &Limits::default());
    if name == "wrong-checksum.req.bin" {
        assert_eq!(verified, Err(Error::new(ErrorKind::Checksum, 16)));
    } else {
        assert_eq!(verified, Ok(Parse::Complete { value: frame, used }), "{name}");
    }
    let control = Control::read(frame.header).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = control.write().unwrap();
    assert_eq!(Control::read(&written).as_ref(), Ok(&control), "{name}");
    if name == "quic-request.req.bin" {
        assert_eq!(control.connection_info.transport, "quic-response");
    } else {
        let place = control.response_stream().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(place.stream_type, StreamType::Response);
    }
    assert_eq!(control.request_stream().is_ok(), name.starts_with("bidi-"), "{name}");
    if !is_dynamos(frame.header) {
        return false;
    }
    assert_eq!(written, frame.header, "{name}");
    assert_eq!(headers.request_id(), Some(control.id.as_str()), "{name}");
    assert!(headers.send_time_ns().is_some(), "{name}");
    assert_eq!(headers.endpoint_path(), request.path_str().ok(), "{name}");
    if let Some(parent) = headers.traceparent() {
        let text = TraceParent::read(parent.as_bytes()).unwrap().to_string();
        assert_eq!(text, parent);
        assert_eq!(control.metadata.len(), 2);
    }
    true
}

#[test]
fn ack_frames_are_read_printed_and_written_back() {
    let mut refused = BTreeMap::new();
    let mut accepted = 0;
    for vector in vectors("resp") {
        for ack in all_frames::<Ack<'_>>(&vector.name, &vector.bytes, Stream::Acks) {
            match ack.refusal() {
                Some((class, key)) => {
                    assert_eq!(class, key.class());
                    *refused.entry((vector.name.clone(), key.name())).or_insert(0) += 1;
                }
                None => accepted += 1,
            }
        }
    }
    let expected = [
        ("bad-path", Key::WorkerUnavailable, 1),
        ("overload", Key::WorkerOverloaded, 2),
        ("too-big", Key::PayloadTooLarge, 1),
        ("unknown-endpoint", Key::WorkerUnavailable, 1),
    ];
    let expected = expected.map(|(name, key, count)| ((format!("{name}.resp.bin"), key.name()), count));
    assert_eq!((refused, accepted), (BTreeMap::from(expected), 34));
}

#[test]
fn streams_to_the_frontend_are_read_printed_and_written_back() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for vector in vectors("callhome-up").iter().chain(&vectors("reqstream-up")) {
        let frames = all_frames::<TwoPart<'_>>(&vector.name, &vector.bytes, Stream::CallHome);
        for (nth, frame) in frames.iter().enumerate() {
            let what = match (nth, frame.shape()) {
                (0, Shape::HeaderOnly) => {
                    let handshake = Handshake::read(frame.header).unwrap();
                    assert_eq!(handshake.write().unwrap(), frame.header, "{}", vector.name);
                    let request = vector.kind == "reqstream-up";
                    assert_eq!(handshake.stream_type == StreamType::Request, request, "{}", vector.name);
                    "handshake"
                }
                (1, Shape::HeaderOnly) => {
                    let prologue = Prologue::read(frame.header).unwrap();
                    assert_eq!(prologue.write().unwrap(), frame.header, "{}", vector.name);
                    "prologue"
                }
                (_, Shape::HeaderOnly) => {
                    assert_eq!(Word::read(frame.header), Ok(Word::Sentinel), "{}", vector.name);
                    "sentinel"
                }
                (_, Shape::DataOnly) => data(&vector.name, frame.body),
                other => panic!("{}: {other:?}", vector.name),
            };
            *seen.entry(what).or_default() += 1;
        }
    }
    let expected = [("failure", 3), ("final", 27), ("handshake", 37), ("item", 72), ("prologue", 34), ("sentinel", 29)];
    assert_eq!(seen, BTreeMap::from(expected));
}

/// Checks an item's wrapper and the annotated item in it.
fn data(name: &str, body: &[u8]) -> &'static str {
    let codec = if body.starts_with(b"{") { Codec::Json } else { Codec::Msgpack };
    let envelope = Envelope::read(codec, body).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut out = vec![0; envelope.emitted_len(codec)];
    envelope.emit(codec, &mut out).unwrap();
    assert_eq!(out, body, "{name}");
    let Some(item) = envelope.data else {
        assert!(envelope.complete_final, "{name}");
        return "final";
    };
    let annotated = Annotated::read(codec, item).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(annotated.write(codec).unwrap(), item, "{name}");
    if annotated.failure().is_some() { "failure" } else { "item" }
}

#[test]
fn streams_to_the_worker_are_read_printed_and_written_back() {
    let mut words = BTreeMap::new();
    let mut items = 0;
    for vector in vectors("callhome-down").iter().chain(&vectors("reqstream-down")) {
        for frame in all_frames::<TwoPart<'_>>(&vector.name, &vector.bytes, Stream::CallHome) {
            if frame.shape() == Shape::DataOnly {
                items += 1;
            } else {
                let word = Word::read(frame.header).unwrap_or_else(|error| panic!("{}: {error}", vector.name));
                *words.entry(word.header()).or_insert(0) += 1;
            }
        }
    }
    let expected = [(Word::Kill, 5), (Word::Sentinel, 1), (Word::Stop, 2)].map(|(word, count)| (word.header(), count));
    assert_eq!((words, items), (BTreeMap::from(expected), 4));
}

#[test]
fn payloads_on_nats_are_two_part_frames() {
    let mut payloads = 0;
    for vector in vectors("nats.to-server").iter().chain(&vectors("nats.from-server")) {
        let mut rest = vector.bytes.as_slice();
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let line = std::str::from_utf8(&rest[..end]).unwrap();
            rest = &rest[end + 2..];
            let words: Vec<&str> = line.split(' ').collect();
            if !matches!(words[0], "HPUB" | "MSG") {
                continue;
            }
            let total: usize = words[words.len() - 1].parse().unwrap();
            let headers: usize = if words[0] == "HPUB" { words[words.len() - 2].parse().unwrap() } else { 0 };
            let payload = &rest[headers..total];
            rest = &rest[total + 2..];
            if words[0] == "MSG" {
                assert!(payload.is_empty(), "an ack on NATS is empty");
                continue;
            }
            for frame in all_frames::<TwoPart<'_>>(&vector.name, payload, Stream::CallHome) {
                assert_eq!(Control::read(frame.header).unwrap().write().unwrap(), frame.header);
                payloads += 1;
            }
        }
        assert!(rest.is_empty(), "{} is read to the end", vector.name);
    }
    assert_eq!(payloads, 1);
}

#[test]
fn checksums_are_those_of_a_debug_build() {
    let file = json_file("checksums.json");
    let unhex = |value: &serde_json::Value| -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let frames = file["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 10);
    for frame in frames {
        let expected = u64::from_str_radix(frame["xxh3_64_hex"].as_str().unwrap(), 16).unwrap();
        assert_eq!(xxh3(&unhex(&frame["header_hex"]), &unhex(&frame["body_hex"])), expected);
    }
    let all = vectors("callhome-up");
    let find = |name: &str| &all.iter().find(|vector| vector.name == name).unwrap().bytes;
    let limits = Limits::default();
    let (plain, _) = wire_laws::frames::<TwoPart<'_>>(find("stream5.callhome-up.bin"), &limits);
    let (summed, _) = wire_laws::frames::<TwoPart<'_>>(find("stream5.debug-checksums.callhome-up.bin"), &limits);
    let computed: Vec<_> = plain.iter().map(|frame| TwoPart::with_checksum(frame.header, frame.body)).collect();
    assert_eq!(computed, summed);
}

#[test]
fn random_changes_to_real_frames_are_survived() {
    let small = vectors("").into_iter().filter(|vector| !vector.bytes.is_empty() && vector.bytes.len() < 4096);
    for (seed, vector) in (1..).zip(small) {
        println!("{} seed {seed}", vector.name);
        wire_laws::mutations_are_survived(&vector.bytes, seed, 100, |changed| {
            ringplane_tests::fuzz::request(changed);
            ringplane_tests::fuzz::ack(changed);
            ringplane_tests::fuzz::two_part(changed);
        });
    }
}

#[test]
fn random_changes_to_real_control_messages_are_survived() {
    let limits = Limits::default();
    for (seed, vector) in (1..).zip(vectors("callhome-up").iter().filter(|vector| vector.bytes.len() < 4096)) {
        println!("{} seed {seed}", vector.name);
        for frame in wire_laws::frames::<TwoPart<'_>>(&vector.bytes, &limits).0 {
            for part in [frame.header, frame.body] {
                wire_laws::mutations_are_survived(part, seed, 30, ringplane_tests::fuzz::control_json);
            }
        }
    }
}

#[test]
fn the_portable_crc32c_agrees_with_the_processors() {
    let fast = Crc32c::new(ringplane_crc32c::append);
    assert_ne!(fast, Crc32c::PORTABLE);
    let bytes: Vec<u8> = (0..9000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut crc = 0;
    for len in [0, 1, 2, 3, 7, 8, 15, 16, 17, 255, 256, 1023, 1024, 1025, 4096, 9000] {
        assert_eq!(fast.of(&bytes[..len]), Crc32c::PORTABLE.of(&bytes[..len]), "{len} bytes");
        assert_eq!(fast.append(crc, &bytes[..len]), Crc32c::PORTABLE.append(crc, &bytes[..len]), "{len} more bytes");
        crc = fast.append(crc, &bytes[..len]);
    }
}

#[test]
fn every_recorded_stream_is_recognised_by_its_bytes() {
    for vector in vectors("") {
        let stream = match vector.kind {
            "req" => Stream::Requests,
            "resp" => Stream::Acks,
            "nats.to-server" | "nats.from-server" => continue,
            _ => Stream::CallHome,
        };
        if vector.bytes.len() >= 2 {
            assert_eq!(sniff::dialect(&vector.bytes), Some(Dialect::Dynamo(stream)), "{}", vector.name);
        }
    }
}
