//! Standard streams of every kind: full, left, slow, not blocking; and what may be said on them.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use crate::support::{BOUND, Place, Process};

const COUNT: &str = "demo.backend.count";
const SERVE: &[&str] = &["serve", COUNT, "--handler", "count"];

/// A file that takes no byte.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn set_nonblocking(pipe: impl AsFd, on: bool) {
    let flags = fcntl_getfl(&pipe).unwrap();
    fcntl_setfl(&pipe, if on { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK }).unwrap();
}

/// A pipe that is full and blocks.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    set_nonblocking(&writer, true);
    for part in [4096, 1] {
        while rustix::io::write(&writer, &vec![b'x'; part]).is_ok() {}
    }
    set_nonblocking(&writer, false);
    (reader, writer)
}

/// Starts a server that cannot say on stderr when it serves, and waits until it does.
fn serve(place: &Place, stderr: impl Into<Stdio>) -> Process {
    let watch = place.start(&["discover", "watch"]);
    let mut command = place.command(SERVE);
    let server = Process::spawn(command.env("RINGPLANE_LOG", "trace").stdout(Stdio::null()).stderr(stderr));
    assert!(watch.line().starts_with("+ "));
    server
}

#[test]
fn a_server_whose_stderr_takes_nothing_serves_and_drains() {
    let (reader, writer) = pipe().unwrap();
    for (stderr, mut reader) in [(Stdio::from(full()), None), (writer.into(), Some(reader))] {
        let place = Place::new();
        let server = serve(&place, stderr);
        let call = place.start(&["call", COUNT, r#"{"n":20,"delay_ms":20}"#]);
        assert_eq!(call.line(), r#"{"i":0}"#);
        server.signal(Signal::TERM);
        // A reader that leaves while it drains.
        drop(reader.take());
        let ended = call.end();
        assert_eq!((ended.code, ended.out.len()), (Some(0), 19), "{ended:?}");
        assert_eq!(server.end().code, Some(0));
        place.run(&["discover", "list"]).expect_lines(&[]);
    }
}

#[test]
fn a_server_whose_stderr_is_full_serves_and_hears_signals() {
    let place = Place::new();
    let (_unread, stderr) = full_pipe();
    let server = serve(&place, stderr);
    let call = place.start(&["call", COUNT, r#"{"n":1000000,"delay_ms":20}"#]);
    assert_eq!(call.line(), r#"{"i":0}"#);
    server.signal(Signal::TERM);
    let begun = Instant::now();
    server.insist(Signal::TERM);
    assert!(begun.elapsed() < Duration::from_secs(20), "the drain would take 30 s");
    assert_eq!(server.end().code, Some(7));
}

#[test]
fn an_error_that_stderr_does_not_take_still_has_its_code() {
    let place = Place::new();
    let run = |line: &[&str], stderr: Stdio| {
        Process::spawn(place.command(line).stdout(Stdio::null()).stderr(stderr)).end().code
    };
    let (_unread, pipe) = full_pipe();
    assert_eq!(run(&["call", COUNT, "@/nowhere/at/all"], full().into()), Some(1));
    assert_eq!(run(&["call", COUNT, "@/nowhere/at/all"], pipe.into()), Some(1));
    assert_eq!(run(&["call"], full().into()), Some(2));
}

#[test]
fn an_output_that_fails_is_one_line_and_an_exit_code() {
    let place = Place::new();
    let _server = place.serve(&SERVE[1..]);
    let recording = place.path().join("acks");
    std::fs::write(&recording, [0; 8]).unwrap();
    let decode = ["decode", recording.to_str().unwrap(), "--as", "acks"];
    let demo = ["demo", "--driver", "tokio", "--calls", "2", "--items", "2"];
    let lines: &[&[&str]] =
        &[&["doctor"], &["doctor", "--json"], &demo, &["discover", "list"], &decode, &["call", COUNT], &["--help"]];
    for line in lines {
        let run = |stdout: Stdio| Process::spawn(place.command(line).stdout(stdout).stderr(Stdio::piped())).end();
        run(full().into()).expect(1, "stdout: ");
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        run(writer.into()).expect_silent(7);
    }
}

#[test]
fn a_pipe_that_does_not_block_is_waited_for_and_left_as_it_is() {
    let place = Place::new();
    let _server = place.serve(&SERVE[1..]);
    let (mut reader, writer) = pipe().unwrap();
    set_nonblocking(&writer, true);
    let ours = writer.try_clone().unwrap();
    let mut command = place.command(&["call", COUNT, r#"{"n":2000,"size":1000}"#]);
    let call = Process::spawn(command.stdout(writer).stderr(Stdio::piped()));
    drop(command);
    // The reader is slow: for half of the items it takes a little whenever not a byte more goes in.
    let (begun, mut items, mut part) = (Instant::now(), Vec::new(), [0; 4096]);
    while items.len() < 1_000_000 {
        while poll(&mut [PollFd::new(&ours, PollFlags::OUT)], Some(&Default::default())).unwrap() == 1 {
            assert!(begun.elapsed() < BOUND, "the pipe does not fill");
            std::thread::yield_now();
        }
        let read = reader.read(&mut part).unwrap();
        items.extend_from_slice(&part[..read]);
    }
    assert!(fcntl_getfl(&ours).unwrap().contains(OFlags::NONBLOCK));
    drop(ours);
    reader.read_to_end(&mut items).unwrap();
    assert_eq!(items.lines().count(), 2000);
    call.end().expect_lines(&[]);
}

#[test]
fn a_request_from_a_pipe_that_does_not_block_is_read_to_its_end() {
    let place = Place::new();
    let _server = place.serve(&["demo.backend.echo"]);
    let (reader, mut writer) = pipe().unwrap();
    set_nonblocking(&reader, true);
    let mut command = place.command(&["call", "demo.backend.echo", "--bidi"]);
    let call = Process::spawn(command.stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(command);
    for item in ["1", "2", "3"] {
        // The pipe is empty when the answer has come.
        writer.write_all(format!("{item}\n").as_bytes()).unwrap();
        assert_eq!(call.line(), item);
    }
    drop(writer);
    call.end().expect_lines(&[]);
}

#[test]
fn a_reader_that_leaves_ends_commands_that_say_nothing() {
    let place = Place::new();
    let _server = place.serve(&SERVE[1..]);
    let silent = ["call", COUNT, r#"{"n":2,"delay_ms":600000}"#];
    for line in [&["discover", "watch"][..], &["discover", "models", "--watch"], &silent] {
        let (reader, writer) = pipe().unwrap();
        let mut command = place.command(line);
        let process = Process::spawn(command.stdout(writer).stderr(Stdio::piped()));
        drop(command);
        if line == ["discover", "watch"] {
            let first = BufReader::new(reader).lines().next();
            assert!(first.unwrap().unwrap().starts_with("+ "));
        } else {
            drop(reader);
        }
        process.end().expect_silent(7);
    }
}

#[test]
fn a_peers_text_is_one_line_without_commands_for_a_terminal() {
    let place = Place::new();
    let script = r#"read -r call; printf '%s\n' '{"error":"no \u001b[31m\ncommand\u009b2J\u202e"}'; read -r call"#;
    let _server = place.serve(&["a.b.c", "--exec-workers", "1", "--exec", "sh", "-c", script]);
    let ended = place.run(&["call", "a.b.c"]);
    ended.expect(8, "no \\u{1b}[31m\\ncommand\\u{9b}2J\\u{202e}");
    assert!(!ended.err.contains(['\u{1B}', '\u{9B}', '\u{202E}']), "{ended:?}");
}

#[test]
fn a_signal_is_heard_while_a_request_is_read() {
    let place = Place::new();
    let call = place.start(&["call", "a.b.c", "-"]);
    call.wait_until_it_catches(Signal::INT);
    call.signal(Signal::INT);
    // Its stdin is open all the time.
    call.wait_for_its_end();
    call.end().expect(7, "before the call was made");
}
