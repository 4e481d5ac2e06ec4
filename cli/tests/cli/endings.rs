//! Calls that end badly, and servers that leave: exit codes, drains, lost and silent workers.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Place, Process};

/// A server of `count` and a call of it that has had its first items.
fn streaming(place: &Place, request: &str, server: &[&str]) -> (Process, Process) {
    let server = place.serve(&[&["demo.backend.count", "--handler", "count"], server].concat());
    let call = place.start(&["call", "demo.backend.count", request]);
    assert_eq!((call.line(), call.line()), (r#"{"i":0}"#.to_owned(), r#"{"i":1}"#.to_owned()));
    (server, call)
}

const ENDLESS: &str = r#"{"n":1000000,"delay_ms":20}"#;

#[test]
fn what_this_side_cannot_do_has_codes_of_its_own() {
    let place = Place::new();
    for line in ["call a.b", "call a.b.c --timeout never", "call a.b.c 1 --bidi", "nonsense"] {
        let ended = place.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
    }
    place.run(&["call", "a.b.c", "--discovery", "mem"]).expect(2, "one process only");
    place.run(&["call", "a.b.c", "--discovery", "smoke:signals"]).expect(1, "unknown discovery");
    place.run(&["call", "a.b.c", "@/nowhere/at/all"]).expect(1, "/nowhere/at/all");
    place.run(&["serve", "a.b.c", "--listen", "192.0.2.1:0"]).expect(1, "cannot listen on 192.0.2.1:0");

    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len((64 << 20) + 1).unwrap();
    place.run(&["call", "a.b.c", &format!("@{}", large.path().display())]).expect(10, "larger than");
}

#[test]
fn an_endpoint_nobody_serves_has_no_instances() {
    let place = Place::new();
    place.run(&["call", "a.b.c"]).expect(3, "no instance");
}

#[test]
fn a_worker_that_died_and_left_its_record_is_unreachable() {
    let place = Place::new();
    let server = place.serve(&["a.b.c"]);
    server.signal(Signal::KILL);
    assert_eq!(server.end().code, None);
    place.run(&["call", "a.b.c", "1"]).expect(4, " tries): connection refused");
}

#[test]
fn a_full_worker_refuses() {
    let place = Place::new();
    let (_server, _call) = streaming(&place, ENDLESS, &["--max-running", "1", "--max-queued", "0"]);
    place.run(&["call", "demo.backend.count"]).expect(5, "refused");
}

#[test]
fn a_call_ends_at_its_deadline_whether_it_runs_or_waits() {
    let place = Place::new();
    let (_server, _call) = streaming(&place, ENDLESS, &["--max-running", "2"]);
    let late = ["call", "demo.backend.count", r#"{"delay_ms":60000}"#, "--timeout", "0.3"];
    place.run(&late).expect(6, "deadline");
    let place = Place::new();
    let (_server, _call) = streaming(&place, ENDLESS, &["--max-running", "1"]);
    place.run(&late).expect(6, "deadline");
}

#[test]
fn a_signal_stops_a_call() {
    let place = Place::new();
    let (_server, call) = streaming(&place, ENDLESS, &[]);
    call.signal(Signal::INT);
    call.end().expect(7, "stopped");
}

#[test]
fn a_reader_that_goes_away_ends_the_call() {
    let place = Place::new();
    let (_server, mut call) = streaming(&place, r#"{"n":100000000}"#, &[]);
    call.close_stdout();
    call.end().expect_silent(7);
}

#[test]
fn a_server_told_to_end_finishes_its_streams_first() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        let (server, call) = streaming(&place, r#"{"n":20,"delay_ms":20}"#, &[]);
        server.signal(signal);
        let ended = call.end();
        assert_eq!((ended.code, ended.out.len()), (Some(0), 18), "{ended:?}");
        assert_eq!(server.end().code, Some(0));
        place.run(&["discover", "list"]).expect_lines(&[]);
    }
}

#[test]
fn a_drain_has_a_bound_and_a_second_signal_does_not_wait_for_it() {
    let place = Place::new();
    let (server, call) = streaming(&place, ENDLESS, &["--drain-timeout", "0.3"]);
    server.signal(Signal::TERM);
    server.end().expect_last(6, "1 call was not done in time and ended by the drain");
    call.end().expect(4, "the worker left");

    let (server, call) = streaming(&place, ENDLESS, &[]);
    server.signal(Signal::TERM);
    assert!(server.error_line().contains("draining"));
    let begun = Instant::now();
    server.insist(Signal::TERM);
    assert!(begun.elapsed() < Duration::from_secs(10), "the drain would take 30 s");
    server.end().expect(7, "before every call was done");
    call.end().expect(9, "");
}

#[test]
fn a_worker_killed_within_a_stream_is_noticed_at_once() {
    for driver in ["auto", "tokio"] {
        let place = Place::new();
        let (server, call) = streaming(&place, ENDLESS, &["--driver", driver]);
        server.signal(Signal::KILL);
        call.end_within(Duration::from_secs(5)).expect(9, "connection lost");
    }
}

#[test]
fn a_worker_that_falls_silent_within_a_stream_is_noticed_in_time() {
    let place = Place::new();
    let (server, call) = streaming(&place, ENDLESS, &[]);
    server.signal(Signal::STOP);
    // Five seconds of silence until the ping, five more for its answer.
    let begun = Instant::now();
    call.end_within(Duration::from_secs(15)).expect(9, "");
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?} is too hasty", begun.elapsed());
    server.signal(Signal::CONT);
}

#[test]
fn an_item_too_large_ends_with_10_and_both_numbers_and_the_limit_can_be_set() {
    let place = Place::new();
    let _server = place.serve(&["demo.backend.count", "--handler", "count"]);
    let large = ["call", "demo.backend.count", r#"{"n":1,"size":2000000}"#];
    for dialect in ["call-home", "mux"] {
        for driver in ["tokio", "auto"] {
            let line = [&large[..], &["--dialect", dialect, "--driver", driver]].concat();
            let limited = [&line[..], &["--max-message", "1000000"]].concat();
            place.run(&limited).expect(10, "1000000");
            let by_variable = place.start_with(&[("DYN_TCP_MAX_MESSAGE_SIZE", "1000000")], &line).end();
            by_variable.expect(10, "1000000");
            assert!(!by_variable.err.contains("malformed"), "{by_variable:?}");
            // The option wins, and what is allowed comes whole.
            let raised = [&line[..], &["--max-message", "3000000"]].concat();
            let whole = place.start_with(&[("DYN_TCP_MAX_MESSAGE_SIZE", "1000000")], &raised).end();
            assert_eq!((whole.code, whole.out.len()), (Some(0), 1), "{}", whole.err);
            assert!(whole.out[0].len() > 2_000_000);
        }
    }
}
