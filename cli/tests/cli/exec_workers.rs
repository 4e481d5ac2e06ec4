//! `serve --exec-workers`: commands that stay, how calls are cancelled there, and what their end costs.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, Process};

/// So many commands that run a script of a shell, in which `read` is the next line.
fn sh(place: &Place, many: &str, script: &str) -> Process {
    place.serve(&["a.b.c", "--exec-workers", many, "--exec", "sh", "-c", script])
}

/// Answers each call with the line that began it, its process id and how many it has had.
const COUNTS: &str = r#"while read -r line; do
    n=$((n+1)); printf '{"item":%s}\n{"item":[%s,%s]}\n{"end":true}\n' "$line" $$ $n
done"#;

/// Begins each call with its process id, waits for a cancel and answers with that.
const WAITS: &str = r#"while read -r line; do
    case "$line" in *'"cancel"'*) continue;; esac
    echo "{\"item\":$$}"; read -r line; printf '{"item":%s}\n{"end":true}\n' "$line"
done"#;

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_command_that_stays_answers_call_after_call() {
    let place = Place::new();
    let _server = sh(&place, "1", COUNTS);
    let calls: Vec<_> = (1..=3)
        .map(|n| {
            let ended = place.run(&["call", "a.b.c", "{\n\"x\": 1.5, \"y\":\n[]}", "--timeout", "60"]);
            assert_eq!((ended.code, ended.out.len()), (Some(0), 2), "{ended:?}");
            let (begun, answer) = (json(&ended.out[0]), json(&ended.out[1]));
            assert_eq!((&begun["request"]["x"], &answer[1]), (&1.5.into(), &n.into()), "{ended:?}");
            assert!(begun["timeout_ms"].as_u64().is_some_and(|left| left <= 60_000), "{ended:?}");
            (begun["id"].clone(), answer[0].clone())
        })
        .collect();
    assert!(calls[0].0 != calls[1].0 && calls[1].0 != calls[2].0, "ids are the calls': {calls:?}");
    assert!(calls.iter().all(|(_, process)| *process == calls[0].1), "{calls:?}");
}

#[test]
fn a_request_that_is_no_json_or_more_than_one_item_is_refused_and_nothing_is_null() {
    let place = Place::new();
    let _server = sh(&place, "1", COUNTS);
    place.run(&["call", "a.b.c", "two words"]).expect(8, "the request is no JSON");
    let mut call = place.start(&["call", "a.b.c", "--bidi"]);
    call.write("1\n2\n");
    call.close_stdin();
    call.end().expect(8, "one item per request");
    assert_eq!(json(&place.run(&["call", "a.b.c"]).out[0])["request"], Value::Null);
}

#[test]
fn an_error_fails_its_call_and_the_command_stays() {
    let place = Place::new();
    let script = r#"while read -r line; do
        echo loading; echo "{\"item\":$$}"
        case "$line" in
            *wrong*) echo '{"error":{"message":"not like this","class":"InvalidRequest"}}';;
            *) echo '{"error":"boom"}';;
        esac
    done"#;
    let server = sh(&place, "1", script);
    let boom = place.run(&["call", "a.b.c", "1"]);
    boom.expect(8, "boom");
    let wrong = place.run(&["call", "a.b.c", "\"wrong\""]);
    wrong.expect(8, "not like this");
    assert_eq!((boom.out.len(), &boom.out), (1, &wrong.out), "the same process");
    assert_eq!((server.error_line(), server.error_line()), ("loading".to_owned(), "loading".to_owned()));
}

#[test]
fn a_command_that_dies_costs_its_own_call_and_is_started_again() {
    let place = Place::new();
    let script = r#"read -r line; case "$line" in *die*) echo "about to" >&2; exit 3;; esac; echo '{"item":1}'; echo '{"end":1}'
        while read -r line; do echo '{"itm":2}'; done"#;
    let server = sh(&place, "1", script);
    place.run(&["call", "a.b.c", "\"die\""]).expect(8, "the command ended with exit status: 3: about to");
    assert_eq!(server.error_line(), "about to");
    let told = "ringplane: command 1 of 1: the command ended with exit status: 3: about to; it is started again";
    assert_eq!(server.error_line(), told);
    place.run(&["call", "a.b.c", "1"]).expect_lines(&["1"]);
    // A line that is not understood is the command's end as well.
    place.run(&["call", "a.b.c", "1"]).expect(8, "the command wrote `{\"itm\":2}`");
    place.run(&["call", "a.b.c", "1"]).expect_lines(&["1"]);
}

#[test]
fn commands_that_do_not_stay_up_refuse_calls_and_are_told_twice() {
    let place = Place::new();
    // The first run takes the command away, so that none has a call that it could cost.
    let command = place.path().join("command");
    std::os::unix::fs::symlink("/bin/sh", &command).unwrap();
    let command = command.to_str().unwrap();
    let script = format!("rm -f {command}; exit 1");
    let server = place.start(&["serve", "a.b.c", "--exec-workers", "1", "--exec", command, "-c", &script]);
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(Some(server.error_line()).filter(|line| line.contains("command 1 of 1")));
    }
    assert!(told[0].ends_with("exit status: 1; it is started again"), "{told:?}");
    assert!(told[1].contains("1 of 1 does not stay up: `") && told[1].contains("` does not start: "), "{told:?}");
    place.run(&["call", "a.b.c", "1"]).expect(4, "no command stays up: `");
}

#[test]
fn a_stop_and_a_kill_are_told_and_the_command_goes_on() {
    let place = Place::new();
    let _server = sh(&place, "1", WAITS);
    let call = place.start(&["call", "a.b.c", "1"]);
    let process = call.line();
    call.signal(Signal::INT);
    let ended = call.end();
    ended.expect(7, "stopped by a signal");
    assert_eq!((ended.out.len(), &json(&ended.out[0])["cancel"]), (1, &"stop".into()), "{ended:?}");

    let call = place.start(&["call", "a.b.c", "1", "--timeout", "60"]);
    assert_eq!(call.line(), process);
    call.insist(Signal::KILL);
    drop(call);
    // It has heard of the kill: it ends that call, and has the next.
    let call = place.start(&["call", "a.b.c", "1"]);
    assert_eq!(call.line(), process);
}

#[test]
fn so_many_calls_are_answered_at_once_and_others_wait() {
    let place = Place::new();
    let _server = sh(&place, "2", WAITS);
    let calls = [place.start(&["call", "a.b.c", "1"]), place.start(&["call", "a.b.c", "1"])];
    let processes = [calls[0].line(), calls[1].line()];
    assert_ne!(processes[0], processes[1]);
    let third = place.start(&["call", "a.b.c", "1"]);
    let [first, second] = calls;
    first.signal(Signal::INT);
    first.end().expect(7, "stopped");
    assert_eq!(third.line(), processes[0], "it waited for the one that is free");
    third.signal(Signal::INT);
    third.end().expect(7, "stopped");
    second.signal(Signal::INT);
    second.end().expect(7, "stopped");
}

#[test]
fn commands_end_with_their_server_and_may_say_farewell() {
    let place = Place::new();
    let script = format!("{COUNTS}; echo \"bye $RINGPLANE_EXEC_WORKER\" >&2");
    let server = sh(&place, "2", &script);
    place.run(&["call", "a.b.c", "1"]);
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("bye 0") && ended.err.contains("bye 1"), "{ended:?}");
}

/// The command that the documents show.
#[test]
fn the_example_in_python_answers() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "no python3");
        eprintln!("no python3 to try it with");
        return;
    }
    let place = Place::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/exec_worker.py");
    let _server = place.serve(&["a.b.c", "--exec-workers", "2", "--exec", "python3", example.to_str().unwrap()]);
    for _ in 0..3 {
        place.run(&["call", "a.b.c", r#"{"text":"one by one"}"#]).expect_lines(&["\"one\"", "\"by\"", "\"one\""]);
    }
    place.run(&["call", "a.b.c", "{}"]).expect(8, "no text: KeyError('text')");
}
