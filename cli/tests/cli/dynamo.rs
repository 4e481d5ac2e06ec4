//! Calls of a worker that speaks Dynamo's protocol and breaks its rules: the exit code and the line that says why.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use ringplane_core::wire::dynamo::control::Control;
use ringplane_core::wire::{Format, Limits, Parse, Request, TwoPart};

use crate::support::{Ended, Place};

const ECHO: &str = "demo.backend.echo";
/// For the first word of a response.
const BOUND: (&str, &str) = ("DYN_RESPONSE_STREAM_ESTABLISH_TIMEOUT_SECS", "0.3");

/// A worker that answers every request like this, by its request connection and what the request says.
fn worker(answer: impl Fn(&TcpStream, &Control) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the tests' process: nobody waits for it.
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            requests(&socket, &answer);
        }
    });
    port
}

/// One connection's requests, until the caller closes it.
fn requests(mut socket: &TcpStream, answer: &impl Fn(&TcpStream, &Control)) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        while let Ok(Parse::Complete { value, used }) = Request::parse(&bytes, &Limits::default()) {
            let Ok(Parse::Complete { value, .. }) = TwoPart::parse(value.payload, &Limits::default()) else { panic!() };
            answer(socket, &Control::read(value.header).unwrap());
            bytes.drain(..used);
        }
        match socket.read(&mut chunk) {
            Ok(read @ 1..) => bytes.extend_from_slice(&chunk[..read]),
            Ok(0) | Err(_) => return,
        }
    }
}

fn ack(mut socket: &TcpStream, text: &str) {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    socket.write_all(&[&length[..], text.as_bytes()].concat()).unwrap();
}

/// Calls a worker at `port`, whose record is there.
fn call(place: &Place, port: u16) -> Ended {
    let records = place.path().join("discovery/v1/instances");
    std::fs::create_dir_all(&records).unwrap();
    let record = format!(
        r#"{{"type":"Endpoint","component":"backend","endpoint":"echo","namespace":"demo","instance_id":42,"transport":{{"tcp":"127.0.0.1:{port}/2a/demo/backend/echo"}}}}"#
    );
    std::fs::write(records.join("demo%2Fbackend%2Fecho%2F2a"), record).unwrap();
    place.start_with(&[BOUND], &["call", ECHO, "1"]).end()
}

#[test]
fn a_worker_that_takes_a_call_and_does_not_come_home_or_not_for_it_is_a_timeout() {
    let place = Place::new();
    call(&place, worker(|socket, _| ack(socket, ""))).expect(6, "brought no response in time");
    let stranger = worker(|socket, control| {
        ack(socket, "");
        let home = control.response_stream().unwrap();
        let mut home = TcpStream::connect(home.address).unwrap();
        let hello = br#"{"subject":"00000000-0000-0000-0000-000000000000","stream_type":"response"}"#;
        let head = [hello.len() as u64, 0, 0].map(u64::to_be_bytes).concat();
        home.write_all(&[&head, &hello[..]].concat()).unwrap();
        // The caller closes it.
        assert!(matches!(home.read(&mut [0; 1]), Ok(0) | Err(_)));
    });
    call(&place, stranger).expect(6, "brought no response in time");
}

#[test]
fn an_ack_nobody_knows_breaks_the_protocol_and_a_refusal_is_shown_as_what_it_is() {
    for (text, code, shown) in [
        ("hello", 9, "hello"),
        ("Server overloaded: worker at capacity", 5, "(Overloaded)"),
        ("Server unavailable: worker pool channel closed", 4, "(Draining)"),
        ("Unknown endpoint: echo", 4, "(UnknownEndpoint)"),
        ("Server unavailable: unknown endpoint", 4, "(UnknownEndpoint)"),
        ("Server unavailable: message too large: 9 bytes (max: 8 bytes)", 10, "(TooLarge)"),
        ("Server unavailable: the call-home address is elsewhere", 4, "refused the call: Server unavailable: the call"),
    ] {
        let place = Place::new();
        let ended = call(&place, worker(move |socket, _| ack(socket, text)));
        ended.expect(code, shown);
        assert_eq!(ended.err.contains("Draining"), shown == "(Draining)", "{ended:?}");
    }
}
