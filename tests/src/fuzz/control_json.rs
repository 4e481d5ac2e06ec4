//! Target: everything a Dynamo stream says in JSON or MessagePack.

use ringplane_core::wire::dynamo::control::{Control, Handshake, MAX_CONTROL, Prologue};
use ringplane_core::wire::dynamo::typed_failure::{MAX_CAUSES, MAX_TEXT};
use ringplane_core::wire::pretty::Body;
use ringplane_core::wire::{Annotated, Codec, Envelope, Failure, Word};

/// What can be read is written so that it reads the same.
pub fn control_json(data: &[u8]) {
    if let Ok(control) = Control::read(data) {
        let _ = (control.response_stream(), control.request_stream());
        match control.write() {
            Ok(bytes) => assert_eq!(Control::read(&bytes), Ok(control)),
            Err(_) => assert!(data.len() > MAX_CONTROL / 8, "{} bytes do not fit", data.len()),
        }
    }
    if let Ok(handshake) = Handshake::read(data)
        && let Ok(bytes) = handshake.write()
    {
        assert_eq!(Handshake::read(&bytes), Ok(handshake));
    }
    if let Ok(prologue) = Prologue::read(data) {
        prologue.typed_error.iter().for_each(failure);
        let _ = prologue.write();
    }
    if let Ok(word) = Word::read(data) {
        assert_eq!(word.header(), data.trim_ascii());
    }
    if let Ok(read) = Failure::from_json(data) {
        failure(&read);
    }
    if let Ok(read) = Failure::from_msgpack(data) {
        failure(&read);
    }
    Codec::ALL.into_iter().for_each(|codec| item(codec, data));
    assert!(Body(data).to_string().chars().count() < 4096);
}

/// A failure agrees with itself, is bounded, and is the same after a journey in either codec. The type may become the
/// older name it is written as, so what is compared is the second journey with the first.
fn failure(failure: &Failure) {
    assert_eq!(failure.key().class(), failure.class());
    assert!(failure.chain().count() <= 1 + MAX_CAUSES);
    assert!(failure.chain().all(|cause| cause.diagnostic().is_none_or(|text| text.len() <= MAX_TEXT)));
    let json = failure.to_json().expect("a failure is JSON");
    let again = Failure::from_json(&json).expect("what was written is read");
    assert_eq!(
        (again.class(), again.key(), again.diagnostic()),
        (failure.class(), failure.key(), failure.diagnostic())
    );
    assert_eq!(again.to_json().as_ref(), Ok(&json));
    let mut msgpack = Vec::new();
    failure.put_msgpack(&mut msgpack).expect("a vector has room");
    assert_eq!(Failure::from_msgpack(&msgpack), Ok(again));
}

fn item(codec: Codec, data: &[u8]) {
    if let Ok(envelope) = Envelope::read(codec, data) {
        let mut out = vec![0; envelope.emitted_len(codec)];
        assert_eq!(envelope.emit(codec, &mut out), Ok(out.len()));
        assert_eq!(Envelope::read(codec, &out), Ok(envelope));
    }
    if let Ok(item) = Annotated::read(codec, data) {
        item.error.iter().for_each(failure);
        let _ = item.failure();
        let bytes = item.write(codec).expect("what was read is written");
        let again = Annotated::read(codec, &bytes).expect("what was written is read");
        assert_eq!(
            (again.data, &again.id, &again.event, &again.comment),
            (item.data, &item.id, &item.event, &item.comment)
        );
    }
}
