//! Events of real Dynamo 1.6.1 publishers through the event formats: all of them, to the last byte.

use std::fs;
use std::path::{Path, PathBuf};

use ringplane_core::discovery::PublisherId;
use ringplane_core::event::{Envelope, Frame, Message, Publisher, Subject};
use ringplane_core::wire::{Format, Limits, Parse};
use ringplane_tests::wire_laws;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/events")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names(end: &str) -> Vec<String> {
    let all = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = all.filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

/// Reads an envelope, and writes it back byte for byte as it came.
fn same(name: &str, bytes: &[u8]) -> Message {
    let envelope = Envelope::read(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut out = Vec::new();
    envelope.write(&mut out).unwrap();
    assert_eq!(out, bytes, "{name}");
    Message::read(bytes.to_vec().into(), envelope.topic).unwrap().unwrap()
}

#[test]
fn events_over_nats_are_read_as_another_decoder_reads_them_and_written_back_byte_for_byte() {
    let messages: serde_json::Value = serde_json::from_slice(&read("nats-event-messages.json")).unwrap();
    let stored: Vec<String> = names(".bin").into_iter().filter(|name| name.starts_with("nats-event")).collect();
    assert_eq!(stored.len(), 7);
    for name in &stored {
        let described = messages.as_array().unwrap().iter().find(|described| described["file"] == **name).unwrap();
        let message = same(name, &read(name));
        let expected = &described["envelope"];
        assert_eq!(message.publisher.0, expected["publisher_id"].as_u64().unwrap(), "{name}");
        assert_eq!(message.sequence, expected["sequence"].as_u64().unwrap(), "{name}");
        assert_eq!(message.published_at, expected["published_at"].as_u64().unwrap(), "{name}");
        let payload: String = message.payload.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(payload, expected["payload"].as_str().unwrap(), "{name}");
        let subject = Subject::parse(described["subject"].as_str().unwrap()).unwrap();
        assert_eq!(Some(subject.topic()), expected["topic"].as_str(), "{name}");
        assert_eq!(described["subject"].as_str(), Some(subject.as_str()), "{name}");
    }
}

#[test]
fn events_over_zeromq_keep_the_laws_of_frames_and_their_parts_say_what_the_envelope_says() {
    let frames = names(".frame3.bin");
    assert_eq!(frames.len(), 10);
    for name in frames {
        let bytes = read(&name);
        wire_laws::cuts_do_not_matter::<Frame<'_>>(&bytes, &Limits::default());
        wire_laws::prefixes_are_incomplete::<Frame<'_>>(&bytes, &Limits::default());
        let (parsed, end) = wire_laws::frames::<Frame<'_>>(&bytes, &Limits::default());
        assert_eq!((parsed.len(), end), (1, wire_laws::End::Clean), "{name}");
        let message = same(&name, parsed[0].envelope);
        let part = |number: char| read(&name.replace("frame3", &format!("frame{number}")));
        assert_eq!(part('1'), message.publisher.0.to_be_bytes(), "{name}");
        assert_eq!(part('2'), message.sequence.to_be_bytes(), "{name}");
        let (topic, first) = (Envelope::read(parsed[0].envelope).unwrap().topic, String::from_utf8(part('0')).unwrap());
        match Subject::parse(&first) {
            Some(subject) => assert_eq!(subject.topic(), topic, "{name}"),
            None => assert_eq!(first, topic, "{name}"),
        }
    }
}

#[test]
fn what_we_seal_is_what_dynamo_sealed() {
    let name = "nats-event-kv_metrics-0.bin";
    let bytes = read(name);
    let theirs = same(name, &bytes);
    let sealed = Publisher::new(theirs.publisher, "kv_metrics").seal(theirs.published_at, &theirs.payload).unwrap();
    assert_eq!(sealed, theirs);
    assert_eq!(sealed.envelope, bytes);
}

#[test]
fn changed_bytes_are_survived_and_what_is_still_read_is_the_same_once_it_is_written() {
    for name in names(".bin").iter().filter(|name| name.starts_with("nats-event") || name.ends_with("frame3.bin")) {
        wire_laws::mutations_are_survived(&read(name), 0xE7E7, 300, |bytes| {
            wire_laws::frames::<Frame<'_>>(bytes, &Limits::default());
            let framed = match Frame::parse(bytes, &Limits::default()) {
                Ok(Parse::Complete { value, .. }) => value.envelope,
                _ => bytes,
            };
            if let Ok(envelope) = Envelope::read(framed) {
                let mut out = Vec::new();
                envelope.write(&mut out).unwrap();
                assert_eq!(Envelope::read(&out), Ok(envelope), "{name}");
            }
        });
    }
}

#[test]
fn a_publisher_of_dynamos_has_an_id_that_every_reader_of_json_gets_right() {
    for name in names(".frame1.bin") {
        let id = u64::from_be_bytes(read(&name).try_into().unwrap());
        assert!(PublisherId(id) <= PublisherId::MAX, "{name}");
    }
}
