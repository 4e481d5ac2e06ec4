//! What a user meets who goes from one host to several: addresses, names, what is there and what is not.

use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Place, Process};

const ECHO: &str = "demo.backend.echo";

/// Where a server says that it is.
fn address(said: &str) -> &str {
    said.split_once(" at ").unwrap().1.split_once(',').unwrap().0
}

/// A server of a directory of its own: callers know it by its address.
fn elsewhere(args: &[&str]) -> (Place, Process, String) {
    let place = Place::new();
    let (server, said) = place.serve_with(&[], args);
    let at = address(&said).to_owned();
    (place, server, at)
}

#[test]
fn workers_at_known_addresses_are_listed_and_called_without_a_registry() {
    let (_one, _server, at) = elsewhere(&[ECHO]);
    let (_two, other, at_other) = elsewhere(&["demo.backend.count", "--handler", "count"]);
    let here = Place::new();
    let both = format!("static:{at},{at_other}");
    let listed = here.run(&["discover", "list", "--discovery", &both]);
    assert_eq!((listed.code, listed.out.len()), (Some(0), 2), "{listed:?}");
    for (name, at) in [(ECHO, &at), ("demo.backend.count", &at_other)] {
        let line = |line: &&String| line.contains(name) && line.contains(at.as_str()) && line.contains("mux/1");
        assert_eq!(listed.out.iter().filter(line).count(), 1, "{listed:?}");
    }
    here.run(&["call", ECHO, "1", "--discovery", &both]).expect_lines(&["1"]);
    here.run(&["call", "demo.backend.count", r#"{"n":1}"#, "--addr", &at_other]).expect_lines(&[r#"{"i":0}"#]);
    let port = at.rsplit_once(':').unwrap().1;
    here.run(&["call", ECHO, "2", "--discovery", &format!("dns:localhost:{port}")]).expect_lines(&["2"]);

    let watch = here.start(&["discover", "watch", "--discovery", &both]);
    assert!([watch.line(), watch.line()].iter().all(|line| line.starts_with("+ ")));
    other.signal(Signal::TERM);
    let gone = watch.line();
    assert!(gone.starts_with("- ") && gone.contains("demo.backend.count"), "{gone}");
    assert_eq!(other.end().code, Some(0));
    let named = here.run(&["call", "demo.backend.count", "--discovery", &both, "--timeout", "3s"]);
    named.expect(3, &format!("no instance of demo.backend.count in {both}; known there: {ECHO}"));
}

#[test]
fn an_address_without_a_worker_is_told_with_its_reason() {
    let here = Place::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ended = here.run(&["call", ECHO, "1", "--addr", &nobody, "--timeout", "1s"]);
    ended.expect(3, &format!("no instance of {ECHO} in static:{nobody}; none of any endpoint is known there"));
    assert!(ended.err.contains("does not say what it serves") && ended.err.contains("refused"), "{ended:?}");
    for wrong in ["127.0.0.1", "::1:7", ":7", "a b:7"] {
        here.run(&["call", ECHO, "--addr", wrong]).expect(1, "is no HOST:PORT");
    }
    here.run(&["call", ECHO, "--addr", &nobody, "--discovery", "file:x"]).expect_usage("cannot be used with");
}

#[test]
fn a_server_listens_where_it_is_told_in_each_way_to_say_it() {
    for (listen, host) in
        [("localhost:0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("lo", "127.0.0.1"), ("[::1]:0", "[::1]")]
    {
        let (_place, server, at) = elsewhere(&[ECHO, "--listen", listen]);
        let (told, port) = at.rsplit_once(':').unwrap();
        assert!(told == host && port != "0", "{listen}: {at}");
        server.signal(Signal::TERM);
        assert_eq!(server.end().code, Some(0));
    }
    let (place, _server, at) = elsewhere(&[ECHO, "--listen", "0.0.0.0:0"]);
    assert!(!at.starts_with("0.0.0.0") && !at.ends_with(":0"), "{at}");
    place.run(&["call", ECHO, "1"]).expect_lines(&["1"]);
    Place::new().run(&["serve", ECHO, "--listen", "nowhere..9"]).expect(1, "`nowhere..9`");
}

#[test]
fn what_only_looks_makes_no_directory_and_says_that_there_is_none() {
    let place = Place::new();
    let directory = place.path().join("discovery");
    let name = directory.display().to_string();
    let listed = place.run(&["discover", "list"]);
    listed.expect_lines(&[]);
    assert!(listed.err.contains(&format!("no worker has made `{name}` yet")), "{listed:?}");
    let called = place.run(&["call", ECHO, "1", "--timeout", "200ms"]);
    called.expect(3, &format!("no instance of {ECHO} in file:{name}: there is no such directory"));
    assert!(!directory.exists());
    let watch = place.start(&["discover", "watch"]);
    assert!(watch.error_line().contains("waiting for it"));

    let _server = place.serve(&[ECHO]);
    assert!(watch.line().contains(ECHO));
    let models = place.run(&["discover", "models"]);
    models.expect_lines(&[]);
    assert!(models.err.contains("nothing of that kind is in file:"), "{models:?}");
    assert!(!directory.join("v1/mdc").exists() && directory.join("v1/instances").exists());
    let none = place.run(&["discover", "list", "other"]);
    none.expect_lines(&[]);
    assert!(none.err.contains("nothing of that kind is in file:"), "{none:?}");
    let near = place.run(&["call", "demo.backend.ecko", "--timeout", "0.2"]);
    near.expect(3, &format!("no instance of demo.backend.ecko in file:{name}; known there: {ECHO}"));
    let direct = place.run(&["call", ECHO, "--router", "direct:1"]);
    direct.expect(3, &format!("no such instance of {ECHO} in file:{name}; known there: "));
    place.run(&["call", "demo..x"]).expect_usage("the second is empty");
}

#[test]
fn what_looks_like_json_and_is_none_is_refused_with_its_place_unless_it_is_meant() {
    let place = Place::new();
    let _server = place.serve(&[ECHO]);
    for (request, why) in [
        ("{\"x\":", "line 1 column 5"),
        ("NaN", "line 1 column 1"),
        ("1e400", "out of range"),
        ("\"\\ud800\"", "line 1 column"),
        ("\u{FEFF}{}", "byte order mark"),
    ] {
        place.run(&["call", ECHO, request]).expect(2, why);
        let raw = place.run(&["call", ECHO, request, "--raw"]);
        assert_eq!((raw.code, raw.out.len()), (Some(0), 1), "{raw:?}");
    }
    place.run(&["call", ECHO, "two words"]).expect_lines(&["\"two words\""]);
    place.run(&["call", ECHO, "{\"x\":1}"]).expect_lines(&["{\"x\":1}"]);
}

#[test]
fn the_version_tells_what_this_build_has() {
    let line = Place::new().run(&["--version"]).out.remove(0);
    let features = line.split_once("(features: ").and_then(|(_, rest)| rest.strip_suffix(')')).unwrap();
    for (name, built) in
        [("etcd", cfg!(feature = "etcd")), ("http", cfg!(feature = "http")), ("nats", cfg!(feature = "nats"))]
    {
        assert_eq!(features.split(", ").any(|feature| feature == name), built, "{line}");
    }
}

/// What the decoder prints of a recording.
fn decoded(place: &Place, path: &Path) -> Vec<String> {
    let ended = place.run(&["decode", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.out
}

#[test]
fn a_recorder_between_caller_and_worker_writes_what_the_decoder_reads() {
    let (_elsewhere, _server, at) = elsewhere(&[ECHO]);
    let place = Place::new();
    let directory = place.path().join("recordings");
    std::fs::create_dir(&directory).unwrap();
    let recorder = place.start(&["record", "--to", &at, directory.to_str().unwrap()]);
    let said = recorder.error_line();
    let through = said.split_once("through ").unwrap().1.split_once(' ').unwrap().0.to_owned();
    place.run(&["call", ECHO, "{\"x\":1}", "--addr", &through]).expect_lines(&["{\"x\":1}"]);
    recorder.signal(Signal::TERM);
    assert_eq!(recorder.end().code, Some(0));
    let files = |direction: &str| -> Vec<Vec<String>> {
        let number = |number: usize| directory.join(format!("{number}.{direction}"));
        (1..).map(number).take_while(|path| path.exists()).map(|path| decoded(&place, &path)).collect()
    };
    // The question what is served there, and the call.
    let (up, down) = (files("up"), files("down"));
    let has = |lines: &[Vec<String>], text: &str| lines.iter().flatten().any(|line| line.contains(text));
    assert!(has(&up, "path ringplane.instances") && has(&up, "/demo/backend/echo "), "{up:?}");
    assert!(has(&down, "\"endpoint\":\"echo\""), "{down:?}");
}
