//! The examples of `examples/`, run by their names as they were built beside the tool.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Process, plain};

/// What becomes of an example here.
enum Fate {
    /// It ends well by itself, having checked what it shows with assertions of its own; these lines are what it prints.
    Prints(&'static [&'static str]),
    /// It ends well by itself, and the lines that it prints begin so: times and texts of others are behind.
    Begins(&'static [&'static str]),
    /// It serves until it is ended, and says something like this first. Those behind it can call it.
    Serves(&'static str),
    /// It serves without a word and ends on SIGTERM with this line.
    Drains(&'static str),
    /// It is not run here, for this reason.
    Left(&'static str),
}

use Fate::{Begins, Drains, Left, Prints, Serves};

/// Every example. Those that serve come first.
const EXAMPLES: &[(&str, Fate)] = &[
    ("worker", Serves("serving on 127.0.0.1:")),
    ("caller", Prints(&["hello"])),
    ("calling_on", Prints(&[])),
    ("cancel", Prints(&[])),
    ("endpoint_on", Prints(&[])),
    ("gateway", Prints(&["the client left, and the handler was told"])),
    ("here", Begins(&["[b\"hello\"] by tokio ("])),
    ("kv_publisher", Begins(&["BlockStats { events: KvAnnouncerStats { told: 2, "])),
    ("migrate", Prints(&[])),
    ("observer", Begins(&["example.count.even took "; 4])),
    ("own_errors", Begins(&["InvalidRequest (backend.invalid_argument): "])),
    ("prefix_aware", Prints(&[])),
    ("publisher", Prints(&[])),
    ("shutdown", Prints(&[])),
    ("streams", Prints(&[])),
    ("terminate", Drains("drained; 0 calls took too long")),
    ("testing", Prints(&[])),
    ("typed", Prints(&["0: how", "1: do", "2: you", "3: do"])),
    ("typed_on", Prints(&[])),
    ("etcd", Left("it has etcd at its own port, which another one may have here")),
    ("model", Left("it needs the directory of a model and Dynamo's frontend")),
    ("objects", Left("it has a NATS server at its own port, which another one may have here")),
    ("otel", Left("it waits for a collector at its own port, which another one may have here")),
    ("queue", Left("it has a NATS server at its own port, which another one may have here")),
    ("status", Left("it has a port of its own, which another process may have here")),
    ("subscriber", Left("it hears whatever others publish, and never ends")),
];

/// Where cargo has put this example, if it has built it.
fn built(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_ringplane")).with_file_name("examples").join(name);
    path.exists().then_some(path)
}

fn start(folder: &Path, program: &Path) -> Process {
    Process::start(plain(&mut Command::new(program)).current_dir(folder))
}

#[test]
fn each_example_that_needs_nothing_else_runs_to_its_end_and_prints_what_it_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<String> = names.filter_map(|name| name.strip_suffix(".rs").map(str::to_owned)).collect();
    let known: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, known, "the files of examples/ on the left: what becomes of each?");

    let place = tempfile::tempdir().unwrap();
    let mut serving = Vec::new();
    for (name, fate) in EXAMPLES {
        if let Left(why) = fate {
            eprintln!("left out: {name}: {why}");
            continue;
        }
        let Some(program) = built(name) else {
            // `cargo test` builds them, but not with a test's name behind `--test`.
            assert!(std::env::var_os("CI").is_none(), "{name} is not built");
            eprintln!("left out: {name}: it is not built");
            return;
        };
        let run = || start(place.path(), &program);
        match fate {
            Serves(beginning) => {
                let server = run();
                let line = server.line();
                assert!(line.starts_with(beginning), "{name}: {line}");
                serving.push(server);
            }
            Prints(lines) => run().end().expect_lines(lines),
            Begins(beginnings) => {
                let ended = run().end();
                let begin = ended.out.iter().zip(*beginnings).all(|(line, beginning)| line.starts_with(beginning));
                assert!(ended.code == Some(0) && ended.out.len() == beginnings.len() && begin, "{name}: {ended:?}");
            }
            Drains(line) => {
                let server = run();
                server.wait_until_it_catches(Signal::TERM);
                server.signal(Signal::TERM);
                server.end().expect_lines(&[line]);
            }
            Left(_) => {}
        }
    }
}
