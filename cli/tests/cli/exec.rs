//! `serve --exec`: pipes, exit codes, stop and kill.

use rustix::process::Signal;

use crate::support::{BOUND, Place, Process, has_ended, watch};

fn sh(place: &Place, script: &str) -> Process {
    place.serve(&["a.b.c", "--exec", "sh", "-c", script])
}

#[test]
fn a_commands_stdin_is_the_request_and_each_line_of_its_stdout_an_item() {
    let place = Place::new();
    let _server = place.serve(&["a.b.c", "--exec", "cat"]);
    place.run(&["call", "a.b.c", "{\"a\":1}"]).expect_lines(&["{\"a\":1}"]);
    let mut call = place.start(&["call", "a.b.c", "-"]);
    call.write("one\n\n3");
    call.end().expect_lines(&["\"one\"", "\"\"", "3"]);
    let mut call = place.start(&["call", "a.b.c", "--bidi"]);
    call.write("first\n");
    assert_eq!(call.line(), "\"first\"");
    call.close_stdin();
    call.end().expect_lines(&[]);
}

#[test]
fn a_command_that_does_not_read_a_large_request_is_no_trouble() {
    let place = Place::new();
    let _server = sh(&place, "echo unread");
    let large = place.path().join("large");
    std::fs::write(&large, vec![b'x'; 4 << 20]).unwrap();
    place.run(&["call", "a.b.c", &format!("@{}", large.display())]).expect_lines(&["\"unread\""]);
}

#[test]
fn a_bad_exit_fails_the_call_with_its_code_and_stderr_is_passed_through() {
    let place = Place::new();
    let server = sh(&place, "echo out; echo err >&2; exit 3");
    let ended = place.run(&["call", "a.b.c"]);
    ended.expect(8, "exit status: 3: err");
    assert_eq!(ended.out, ["\"out\""]);
    assert_eq!(server.error_line(), "err");
}

#[test]
fn a_command_that_is_not_there_is_told_before_anybody_calls() {
    let place = Place::new();
    for (command, why) in [
        ("/no/such/command", "--exec: `/no/such/command` does not exist"),
        ("no-such-command", "--exec: `no-such-command` is in no folder of PATH"),
        ("/proc/version", "--exec: `/proc/version` is no file that may be executed"),
    ] {
        place.run(&["serve", "a.b.c", "--exec", command]).expect(1, why);
        place.run(&["serve", "a.b.c", "--exec-workers", "2", "--exec", command]).expect(1, why);
    }
}

#[test]
fn the_caller_is_told_the_last_line_of_stderr_whatever_is_in_it() {
    let place = Place::new();
    let _server = sh(&place, "echo first >&2; printf 'bad \\033[31m value\n\n' >&2; exit 1");
    place.run(&["call", "a.b.c"]).expect(8, "exit status: 1: bad \\u{1b}[31m value");
}

#[test]
fn python_keeps_nothing_back() {
    let place = Place::new();
    let _server = sh(&place, "echo $PYTHONUNBUFFERED");
    place.run(&["call", "a.b.c"]).expect_lines(&["1"]);
    drop(_server);
    let place = Place::new();
    let script = "echo $PYTHONUNBUFFERED";
    let _server = place.serve_with(&[("PYTHONUNBUFFERED", "mine")], &["a.b.c", "--exec", "sh", "-c", script]);
    place.run(&["call", "a.b.c"]).expect_lines(&["\"mine\""]);
}

#[test]
fn a_line_without_end_is_not_kept() {
    let place = Place::new();
    let _server = sh(&place, "echo $$; exec tr '\\000' x < /dev/zero");
    let call = place.start(&["call", "a.b.c"]);
    let command = call.line();
    call.end().expect(8, "more than 1048576 bytes");
    assert!(gone(&command), "the command is killed");
}

#[test]
fn a_stop_is_sigterm_and_what_the_command_still_says_is_read() {
    let place = Place::new();
    let _server = sh(&place, "trap 'echo bye; exit 1' TERM; echo ready; for i in $(seq 3000); do sleep 0.02; done");
    let call = place.start(&["call", "a.b.c"]);
    assert_eq!(call.line(), "\"ready\"");
    call.signal(Signal::INT);
    let ended = call.end();
    ended.expect(7, "stopped by a signal");
    assert_eq!(ended.out, ["\"bye\""]);
}

#[test]
fn a_kill_is_sigkill_to_the_whole_group() {
    let place = Place::new();
    // The child ignores SIGTERM, its parent only says that it has heard it.
    let script = "trap '' TERM; sleep 60 & trap 'echo heard' TERM; echo $$; echo $!; wait; wait; wait; wait";
    let _server = sh(&place, script);
    let call = place.start(&["call", "a.b.c"]);
    let (parent, child) = (id(&call.line()), id(&call.line()));
    let (parent, child) = (watch(parent), watch(child));
    call.signal(Signal::TERM);
    assert_eq!(call.line(), "\"heard\"");
    call.insist(Signal::TERM);
    call.end().expect(7, "killed");
    assert!(has_ended(&parent, BOUND) && has_ended(&child, BOUND));
}

#[test]
fn what_a_command_leaves_behind_keeps_neither_its_call_nor_its_place() {
    let place = Place::new();
    let script = "read code; echo $code; sleep 60 & printf $!; exit $code";
    let _server = place.serve(&["a.b.c", "--max-running", "1", "--max-queued", "0", "--exec", "sh", "-c", script]);
    for (exit, code) in [("0", 0), ("3", 8), ("0", 0)] {
        let ended = place.run(&["call", "a.b.c", exit]);
        assert_eq!((ended.code, ended.out.first().map(String::as_str)), (Some(code), Some(exit)), "{ended:?}");
        let left = watch(id(&ended.out[1]));
        assert!(!has_ended(&left, std::time::Duration::ZERO), "it was to be left alone");
        rustix::process::pidfd_send_signal(&left, Signal::KILL).unwrap();
    }
}

#[test]
fn commands_end_with_their_server() {
    let place = Place::new();
    let server = place.serve(&["a.b.c", "--drain-timeout", "0.2", "--exec", "sh", "-c", "echo $$; exec sleep 60"]);
    let call = place.start(&["call", "a.b.c"]);
    let command = watch(id(&call.line()));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, Some(6));
    assert!(has_ended(&command, BOUND));
    assert_ne!(call.end().code, Some(0));
}

fn id(line: &str) -> u32 {
    line.parse().unwrap_or_else(|_| panic!("`{line}` is no process id"))
}

/// Whether the process of this id has ended, or ends in time.
fn gone(line: &str) -> bool {
    let pid = rustix::process::Pid::from_raw(line.parse().unwrap()).unwrap();
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(fd) => has_ended(&fd, BOUND),
        Err(error) => error == rustix::io::Errno::SRCH,
    }
}
