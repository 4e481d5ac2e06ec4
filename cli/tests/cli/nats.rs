//! `queue` and `object` on a real NATS server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use ringplane_servers::nats::NatsServer;
use serde_json::{Value, json};

use crate::support::{BOUND, Ended, Place};

/// A server with JetStream and the tool that talks to it.
struct Scene {
    server: NatsServer,
    place: Place,
}

impl Scene {
    fn new() -> Self {
        Self { server: NatsServer::with_jetstream().unwrap(), place: Place::new() }
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.fed(args, "")
    }

    fn fed(&self, args: &[&str], stdin: &str) -> Ended {
        let mut process = self.place.start_with(&[("NATS_SERVER", self.server.address())], args);
        process.write(stdin);
        process.end()
    }

    fn file(&self, name: &str) -> String {
        self.place.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn tasks_are_pushed_shown_popped_and_purged() {
    let scene = Scene::new();
    scene.run(&["queue", "info", "my.q"]).expect(3, "there is no queue `my.q`");
    scene.run(&["queue", "push", "my.q", "one"]).expect_lines(&["1"]);
    scene.fed(&["queue", "push", "my.q", "-"], "two\nthree\n").expect_lines(&["2", "3"]);
    std::fs::write(scene.file("task"), "four").unwrap();
    scene.run(&["queue", "push", "my.q", &format!("@{}", scene.file("task"))]).expect_lines(&["4"]);
    scene.run(&["queue", "pop", "my.q"]).expect_lines(&["one"]);
    scene.run(&["queue", "pop", "my.q", "--count", "2"]).expect_lines(&["two", "three"]);
    let shown = scene.run(&["queue", "info", "my.q", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out[0]).unwrap();
    let groups = json!([{"name": "worker-group", "pending": 1, "unacknowledged": 0, "acknowledged": 3}]);
    let seen = ["queue", "messages", "first", "last", "max_age_seconds"].map(|key| shown[key].clone());
    assert_eq!(seen, [json!("my_q"), json!(4), json!(1), json!(4), json!(3600)]);
    assert_eq!(shown["groups"], groups);
    scene.run(&["queue", "purge", "my.q", "--acknowledged"]).expect_lines(&["3"]);
    scene.run(&["queue", "pop", "my.q", "--count", "9"]).expect_lines(&["four"]);
    scene.run(&["queue", "pop", "my.q"]).expect(3, "no task for `worker-group` in the queue `my.q`");
    let popped = scene.run(&["queue", "pop", "my.q", "--group", "other", "--json"]);
    let popped: Value = serde_json::from_str(&popped.out[0]).unwrap();
    assert_eq!(popped, json!({"sequence": 4, "tries": 1, "event": "queue", "payload": "four", "dead": null}));
    let shown = scene.run(&["queue", "info", "my.q"]);
    assert_eq!(
        shown.out[1..],
        [
            "other: 0 waiting, 0 in hand, acknowledged up to 4",
            "worker-group: 0 waiting, 0 in hand, acknowledged up to 4"
        ]
    );
    scene.run(&["queue", "purge", "my.q", "--all"]).expect_lines(&["1"]);
    scene.run(&["queue", "purge", "my.q"]).expect_usage("--acknowledged");
    scene.run(&["queue", "push", "..", "x"]).expect(2, "no name of a queue");
}

#[test]
fn files_are_put_listed_got_and_removed() {
    let scene = Scene::new();
    let (from, to) = (scene.file("from"), scene.file("to"));
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&from, &bytes).unwrap();
    scene.run(&["object", "get", "b", "thing", &to]).expect(3, "there is no bucket `b`");
    scene.run(&["object", "put", "b", "thing", &from]).expect_silent(0);
    scene.run(&["object", "put", "b", "thing", &scene.file("no")]).expect(1, "No such file");
    scene.run(&["object", "get", "b", "other", &to]).expect(3, "there is no object `other` in the bucket `b`");
    assert!(!std::path::Path::new(&to).exists());
    scene.run(&["object", "get", "b", "thing", &to]).expect_silent(0);
    assert!(std::fs::read(&to).unwrap() == bytes);
    // By the standard streams, over what was there.
    let text: String = (0..80_000).map(|n| format!("{n}\n")).collect();
    scene.fed(&["object", "put", "b", "thing", "-"], &text).expect_silent(0);
    assert_eq!(scene.run(&["object", "get", "b", "thing", "-"]).out.join("\n") + "\n", text);
    scene.run(&["object", "get", "b", "other", "-"]).expect(3, "there is no object `other`");
    scene.run(&["object", "put", "b", "thing", &from]).expect_silent(0);
    scene.run(&["object", "ls", "b"]).expect_lines(&["        700000  thing"]);
    let listed: Value = serde_json::from_str(&scene.run(&["object", "ls", "b", "--json"]).out[0]).unwrap();
    assert_eq!((&listed["name"], &listed["size"]), (&json!("thing"), &json!(700_000)));
    scene.run(&["object", "rm", "b", "thing"]).expect_silent(0);
    scene.run(&["object", "rm", "b", "thing"]).expect(3, "there is no object");
    scene.run(&["object", "rm", "b", "--bucket"]).expect_silent(0);
    scene.run(&["object", "rm", "b", "--bucket"]).expect(3, "there is no bucket `b`");
    scene.run(&["object", "rm", "b"]).expect_usage("NAME");
}

#[test]
fn a_wait_for_a_task_ends_by_a_signal_and_a_server_that_is_not_there_is_said() {
    let scene = Scene::new();
    scene.run(&["queue", "push", "q", "x"]).expect_lines(&["1"]);
    let waiting = scene
        .place
        .start_with(&[("NATS_SERVER", scene.server.address())], &["queue", "pop", "q", "--count", "2", "--wait", "1h"]);
    assert_eq!(waiting.line(), "x");
    waiting.signal(rustix::process::Signal::TERM);
    waiting.end().expect(7, "stopped by a signal");
    // A port that nobody listens on.
    let variables = [("NATS_SERVER", "127.0.0.1:1"), ("NATS_STARTUP_CONNECT_TIMEOUT_SECONDS", "1")];
    scene.place.start_with(&variables, &["object", "ls", "b"]).end().expect(4, "no NATS server");
    let by_nats = ["--event-plane", "nats"];
    for command in [&["pub", "n", "t", "1"][..], &["sub", "n", "t"]] {
        let command = [command, &by_nats].concat();
        scene.place.start_with(&variables, &command).end().expect(4, "no NATS server");
        let missing = [("NATS_SERVER", scene.server.address()), ("NATS_AUTH_CREDENTIALS_FILE", "/nothing.creds")];
        scene.place.start_with(&missing, &command).end().expect(1, "`/nothing.creds` does not hold credentials");
    }
}

/// What is in a bucket: pieces and descriptions. Asked in the server's own protocol.
fn messages(server: &NatsServer, bucket: &str) -> u64 {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "CONNECT {{}}\r\nSUB inbox 1\r\nPUB $JS.API.STREAM.INFO.OBJ_{bucket} inbox 0\r\n\r\n").unwrap();
    let answer = BufReader::new(stream).lines().map(Result::unwrap).find(|line| line.starts_with('{')).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["state"]["messages"].as_u64().unwrap_or(0)
}

#[test]
fn an_upload_that_a_signal_ends_leaves_nothing() {
    let scene = Scene::new();
    scene.fed(&["object", "put", "b", "thing", "-"], "as before").expect_silent(0);
    let mut putting =
        scene.place.start_with(&[("NATS_SERVER", scene.server.address())], &["object", "put", "b", "thing", "-"]);
    putting.write(&"x".repeat(3 << 20));
    let begun = Instant::now();
    while messages(&scene.server, "b") < 10 {
        assert!(begun.elapsed() < BOUND, "no pieces come");
    }
    putting.signal(rustix::process::Signal::TERM);
    putting.wait_for_its_end();
    putting.end().expect(7, "stopped by a signal");
    assert_eq!(messages(&scene.server, "b"), 2);
    scene.run(&["object", "get", "b", "thing", "-"]).expect_lines(&["as before"]);
}
