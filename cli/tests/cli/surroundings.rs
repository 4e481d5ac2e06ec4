//! What a process is started with and finds around it: signals of terminals, limits, variables that are no text.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, Process};

#[test]
fn a_terminal_that_hangs_up_is_a_signal_to_end() {
    let place = Place::new();
    // Whatever the tests themselves were started with.
    let start = |args: &[&str]| Process::start(&mut place.command_within(&["env", "--default-signal=HUP"], args));
    let server = start(&["serve", "a.b.c"]);
    assert!(server.error_line().contains("serving"));
    server.signal(Signal::HUP);
    assert_eq!(server.end().code, Some(0));
    place.run(&["discover", "list"]).expect_lines(&[]);
    let watch = start(&["discover", "watch"]);
    watch.wait_until_it_catches(Signal::HUP);
    watch.signal(Signal::HUP);
    watch.end().expect_lines(&[]);
}

#[test]
fn one_that_was_told_to_ignore_it_goes_on() {
    let place = Place::new();
    let mut command = place.command_within(&["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"], &["serve", "a.b.c"]);
    let server = Process::start(&mut command);
    assert!(server.error_line().contains("serving"));
    server.signal(Signal::HUP);
    place.run(&["call", "a.b.c", "1"]).expect_lines(&["1"]);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, Some(0));
}

const LIMITED: &[&str] = &["sh", "-c", "ulimit -Sn 64 && ulimit -Hn 4096 && exec \"$@\"", "sh"];

#[test]
fn the_limit_of_descriptors_is_raised_and_told_and_commands_have_the_old_one() {
    let place = Place::new();
    let doctor = Process::start(&mut place.command_within(LIMITED, &["doctor", "--json"])).end();
    let found: Value = serde_json::from_str(&doctor.out[0]).unwrap();
    let (soft, hard, used) = (&found["nofile"]["soft"], &found["nofile"]["hard"], &found["nofile"]["used"]);
    assert_eq!((soft.as_u64(), hard.as_u64(), used.as_u64()), (Some(64), Some(4096), Some(4096)), "{found}");

    let script = "until [ \"$(ulimit -Sn)\" = 64 ]; do :; done; echo ready";
    let mut command = place.command_within(LIMITED, &["serve", "a.b.c", "--exec", "sh", "-c", script]);
    let server = Process::start(command.env("RINGPLANE_LOG", "ringplane=info"));
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("serving ")) {
        said.push(server.error_line());
    }
    assert!(said.iter().any(|line| line.contains("the limit of descriptors is raised from=64 to=4096")), "{said:?}");
    let limit = server.proc("limits", "Max open files").unwrap();
    assert_eq!(limit.split_whitespace().take(2).collect::<Vec<_>>(), ["4096", "4096"]);
    place.run(&["call", "a.b.c", "1"]).expect_lines(&["\"ready\""]);
}

#[test]
fn a_variable_that_is_no_text_is_refused_by_name() {
    let place = Place::new();
    for (command, names) in [
        (
            "serve",
            &["RINGPLANE_DISCOVERY", "RINGPLANE_LOG", "TMPDIR", "DYN_REQUEST_PLANE_CODEC", "DYN_REQUEST_PLANE"][..],
        ),
        ("call", &["RINGPLANE_DISCOVERY", "DYN_TCP_RESPONSE_STREAM_HOST", "ETCD_LEASE_TTL"]),
        ("discover", &["RINGPLANE_DISCOVERY", "ETCD_LEASE_TTL", "RINGPLANE_LOG"]),
    ] {
        let line = if command == "discover" { [command, "list"] } else { [command, "a.b.c"] };
        for name in names {
            let mut command = place.command(&line);
            command.env(name, OsStr::from_bytes(b"file:/tmp/\xFF"));
            Process::start(&mut command).end().expect(2, &format!("{name} is not UTF-8"));
        }
    }
}

#[test]
fn a_variable_that_names_nothing_known_is_refused_by_name() {
    let place = Place::new();
    for (name, value) in [
        ("DYN_REQUEST_PLANE_CODEC", "bogus"),
        ("DYN_REQUEST_PLANE", "bogus"),
        ("DYN_RESPONSE_PLANE", "bogus"),
        ("DYN_DISCOVERY_BACKEND", "bogus"),
        ("RINGPLANE_LOG", "ringplane=bogus"),
    ] {
        let mut command = place.command(&["serve", "a.b.c"]);
        let process = Process::spawn(
            command.env_remove("RINGPLANE_DISCOVERY").env(name, value).stdout(Stdio::null()).stderr(Stdio::piped()),
        );
        process.end().expect(2, name);
    }
    // An option wins, and an empty variable is none.
    for (name, value, option) in [("DYN_REQUEST_PLANE_CODEC", "bogus", "json"), ("DYN_REQUEST_PLANE_CODEC", "", "json")]
    {
        let (server, _) = place.serve_with(&[(name, value)], &["a.b.c", "--codec", option]);
        drop(server);
    }
    let (_server, _) = place.serve_with(&[("DYN_REQUEST_PLANE", ""), ("DYN_REQUEST_PLANE_CODEC", "")], &["a.b.c"]);
}

#[test]
fn logs_are_objects_of_json_where_they_are_asked_for_as_such() {
    let place = Place::new();
    for (jsonl, args) in [("on", &["serve", "a.b.c"][..]), ("off", &["serve", "a.b.c", "--log-format", "json"])] {
        let mut command = place.command(args);
        let server = Process::start(command.envs([("DYN_LOG", "ringplane=info"), ("DYN_LOGGING_JSONL", jsonl)]));
        let lines = std::iter::from_fn(|| Some(server.error_line())).filter(|line| line.starts_with('{'));
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        // The first one tells of a raised limit of descriptors, if this machine has room.
        let line = lines.find(|line| line["target"] == "ringplane::runtime::cores").unwrap();
        assert_eq!(line["level"], "INFO", "{line}");
        assert!(line["message"].as_str().unwrap().ends_with(" runs") && line["threads"].is_u64(), "{line}");
    }
    let mut command = place.command(&["serve", "a.b.c"]);
    Process::start(command.env("DYN_LOGGING_CONSOLE_FORMAT", "xml"))
        .end()
        .expect(2, "DYN_LOGGING_CONSOLE_FORMAT is `xml`");
}

#[cfg(feature = "otel")]
#[test]
fn spans_that_no_collector_takes_are_told_at_the_end_and_cost_the_command_nothing() {
    let place = Place::new();
    let _server = place.serve(&["a.b.c"]);
    let (_port, closed) = ringplane_servers::port::reserved().unwrap();
    let mut command = place.command(&["call", "a.b.c", "1", "--otlp", &format!("http://{closed}")]);
    let ended = Process::start(command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "200")).end();
    ended.expect_lines(&["1"]);
    assert!(ended.err.contains("the collector did not take all spans lost=2 exported=0"), "{ended:?}");
    place.run(&["call", "a.b.c", "1", "--otlp", "https://collector"]).expect(2, "https://collector");
    let mut command = place.command(&["call", "a.b.c", "1"]);
    let sampler = [("OTEL_EXPORT_ENABLED", "1"), ("OTEL_TRACES_SAMPLER", "xray")];
    Process::start(command.envs(sampler)).end().expect(2, "OTEL_TRACES_SAMPLER is `xray`");
}
