//! `decode`, `doctor`, `demo`.

use std::path::PathBuf;

use ringplane_core::wire::mux::Preface;
use ringplane_tests::house::files::root;
use serde_json::Value;

use crate::support::Place;

fn vectors() -> PathBuf {
    root().join("tests/vectors/request-plane")
}

/// What a recording's name says it is.
fn kind(name: &str) -> Option<&'static str> {
    let kinds = [("req", "requests"), ("resp", "acks"), ("callhome-", "call-home"), ("reqstream-", "call-home")];
    let part = name.split('.').find(|part| kinds.iter().any(|(start, _)| part.starts_with(start)));
    let part = part.filter(|_| name.ends_with(".bin"))?;
    kinds.iter().rev().find(|(start, _)| part.starts_with(start)).map(|(_, kind)| *kind)
}

#[test]
fn recorded_dynamo_streams_are_recognised_and_printed_frame_by_frame() {
    let place = Place::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(vectors()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(kind) = kind(name) else { continue };
        let path = path.to_str().unwrap();
        let named = place.run(&["decode", path, "--as", kind]);
        if name == "too-big.req.bin" {
            // A request that the worker refused for its length.
            named.expect(1, "@0 error: 33554443 bytes declared, 33554432 allowed at byte 7");
            continue;
        }
        assert_eq!(named.code, Some(0), "{name}: {named:?}");
        assert_eq!(named.out.is_empty(), std::fs::metadata(path).unwrap().len() == 0, "{name}: {named:?}");
        assert!(named.out.iter().all(|line| line.starts_with('@')), "{name}: {named:?}");
        assert_eq!(place.run(&["decode", path]).out, named.out, "{name} without its kind");
        seen += 1;
    }
    assert!(seen > 100, "{seen} recordings");
}

#[test]
fn a_mux_recording_is_recognised_and_its_preface_may_be_missing() {
    let place = Place::new();
    let path = place.path().join("mux");
    let preface = Preface::OURS.to_bytes();
    // A ping, its head written by hand, with a checksum that is wrong.
    let ping = [9, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4];
    for (bytes, printed, at) in [(preface.to_vec(), 1, None), ([&preface[..], &ping].concat(), 1, Some(preface.len()))]
    {
        std::fs::write(&path, bytes).unwrap();
        let ended = place.run(&["decode", path.to_str().unwrap()]);
        assert_eq!((ended.code, ended.out.len()), (Some(i32::from(at.is_some())), printed), "{ended:?}");
        assert!(ended.out[0].starts_with("@0 preface newest "), "{ended:?}");
        assert!(at.is_none_or(|at| ended.err.contains(&format!(": @{at} "))), "{ended:?}");
    }
    std::fs::write(&path, ping).unwrap();
    let ended = place.run(&["decode", path.to_str().unwrap(), "--as", "mux"]);
    assert!(ended.code == Some(1) && ended.err.contains(": @0 "), "{ended:?}");
}

#[test]
fn bytes_that_break_off_name_their_place_and_give_exit_code_1() {
    let place = Place::new();
    let whole = std::fs::read(vectors().join("stream5.callhome-up.bin")).unwrap();
    let cut = place.path().join("cut");
    std::fs::write(&cut, &whole[..whole.len() - 3]).unwrap();
    let ended = place.run(&["decode", cut.to_str().unwrap()]);
    ended.expect(1, "incomplete");
    assert!(!ended.out.is_empty() && ended.err.contains(": @"), "{ended:?}");

    let mut decode = place.start(&["decode", "-", "--hex", "--as", "acks"]);
    decode.write("00 00 00:00\n00000001 78");
    decode.end().expect_lines(&["@0 ack accepted", "@4 ack other x"]);
    let mut decode = place.start(&["decode", "-", "--hex"]);
    decode.write("ffff5a");
    assert_eq!(decode.end().code, Some(1), "a mux preface that breaks off, or is none");
    place.run(&["decode", "/nowhere/at/all"]).expect(1, "/nowhere/at/all");
}

fn doctor(place: &Place) -> Value {
    let ended = place.run(&["doctor", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.out[0]).unwrap()
}

#[test]
fn the_doctor_says_which_driver_would_run_and_why() {
    let place = Place::new();
    let found = doctor(&place);
    let works = found["io_uring"]["works"].as_bool().unwrap();
    assert_eq!(found["driver"]["auto"], if works { "io-uring" } else { "tokio" });
    assert!(found["driver"]["why"].as_str().is_some_and(|why| !why.is_empty()));
    for name in ["kernel", "cpus", "seccomp", "io_uring_disabled", "memlock", "nofile"] {
        assert!(!found[name].is_null(), "{name}: {found}");
    }
    let lines = place.run(&["doctor"]).out;
    assert!(lines.iter().any(|line| line.starts_with("driver.why ")), "{lines:?}");
}

#[test]
fn the_demo_streams_on_either_driver_and_ends_with_its_table() {
    let place = Place::new();
    let works = doctor(&place)["io_uring"]["works"].as_bool().unwrap();
    for (driver, router) in [("tokio", "peak-ewma"), ("io-uring", "round-robin")] {
        let line = ["demo", "--router", router, "--driver", driver, "--calls", "4", "--items", "5", "--size", "100"];
        let ended = place.run(&line);
        if driver == "io-uring" && !works {
            ended.expect(1, "");
            continue;
        }
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let row = |name: &str| ended.out.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        assert_eq!((row("calls "), row("items "), row("bytes ")), ("4", "20", "2000"), "{ended:?}");
        assert!(row("first item ").contains("p99") && row("next item ").contains("p50"), "{ended:?}");
        let used = ended.out.iter().rfind(|line| line.starts_with("driver ")).unwrap();
        assert!(used.contains(driver) && used.contains("as configured"), "{used}");
        assert!(ended.out.iter().any(|line| line.contains("answers call 1: item 1")), "{ended:?}");
    }
}
