//! The commands of `README.md`, `docs/cli.md` and `docs/exec.md`, run as they stand there.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::{Process, plain};

/// What becomes of a command here.
enum Fate {
    /// It serves until it is ended.
    Serves,
    /// It ends well, and these lines are all that it prints.
    Prints(&'static [&'static str]),
    /// It ends well, and this line is among those that it prints.
    Shows(&'static str),
    /// It is not run here, for this reason.
    Left(&'static str),
}

use Fate::{Left, Prints, Serves, Shows};

/// Every command of the README, in its order.
const COMMANDS: &[(&str, Fate)] = &[
    ("git clone https://github.com/ringplane/ringplane && cd ringplane", Left("it needs the network")),
    ("cargo build --release", Left("the tool has been built for this test, by cargo as well")),
    ("cargo run --release -- demo", Shows("calls       8")),
    ("bash tests/run", Left("it runs this test")),
    ("target/release/ringplane serve demo.backend.echo --discovery file:target/demo", Serves),
    (
        r#"target/release/ringplane call demo.backend.echo '{"x":1}' --discovery file:target/demo"#,
        Prints(&[r#"{"x":1}"#]),
    ),
    (
        "DYN_FILE_KV=target/demo python3 examples/dynamo_worker.py",
        Left("it needs Dynamo's wheel: tests/tests/interop/python.rs runs it"),
    ),
    (
        r#"target/release/ringplane call demo.backend.words '{"text":"one by one"}' --annotated --discovery file:target/demo"#,
        Prints(&[r#""one""#, r#""by""#, r#""one""#]),
    ),
    (
        "target/release/ringplane serve demo.backend.words --annotated --discovery file:target/demo --exec-workers 2 \
         --exec python3 examples/exec_worker.py",
        Serves,
    ),
    (
        "DYN_FILE_KV=target/demo python3 examples/dynamo_caller.py",
        Left("it needs Dynamo's wheel: tests/tests/interop/python.rs runs it"),
    ),
];

/// The same of `docs/cli.md`.
const OF_CLI: &[(&str, Fate)] = &[
    ("ringplane serve bench.backend.echo --handler echo &", Serves),
    (
        "ringplane bench bench.backend.echo --size 254 --concurrency 64 --duration 10s --report bench.html",
        Shows("failed       0"),
    ),
];

/// The same of `docs/exec.md`.
const OF_EXEC: &[(&str, Fate)] =
    &[("ringplane serve demo.backend.words --exec-workers 2 --exec python3 examples/exec_worker.py", Serves)];

/// Starts a command in this folder by a shell, whose place it takes.
fn start(folder: &Path, command: &str) -> Process {
    // What cargo would run once it has built it, and what is in the path once it is installed.
    let command = command.replace("cargo run --release --", "target/release/ringplane");
    let command =
        command.strip_prefix("ringplane ").map_or(command.clone(), |args| format!("target/release/ringplane {args}"));
    // A test is run in less time than a measurement.
    let command = command.trim_end_matches(" &").replace("--duration 10s", "--duration 500ms");
    let discovery = format!("file:{}", folder.join("target/places").display());
    let mut shell = Command::new("sh");
    let shell = plain(&mut shell).env("RINGPLANE_DISCOVERY", discovery);
    Process::start(shell.args(["-c", &format!("exec {command}")]).current_dir(folder))
}

/// The commands of a document are those known here, and each does what is said here of it.
///
/// They are run in a folder that looks like a clone in which the tool has been built. The README has its servers in terminals of
/// their own: here they all run before the first command that ends.
fn run(document: &str, commands: &[(&str, Fate)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let text = std::fs::read_to_string(root.join(document)).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let shown: Vec<&str> = blocks.flat_map(str::lines).collect();
    let known: Vec<&str> = commands.iter().map(|(command, _)| *command).collect();
    assert_eq!(shown, known, "the commands of {document} on the left: what becomes of each?");
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "no python3");
        eprintln!("no python3 to try them with");
        return;
    }

    let clone = tempfile::tempdir().unwrap();
    let built = clone.path().join("target/release");
    std::fs::create_dir_all(&built).unwrap();
    symlink(env!("CARGO_BIN_EXE_ringplane"), built.join("ringplane")).unwrap();
    symlink(root.join("examples"), clone.path().join("examples")).unwrap();
    let serves = commands.iter().filter(|(_, fate)| matches!(fate, Serves));
    let servers: Vec<Process> = serves.map(|(command, _)| start(clone.path(), command)).collect();
    for server in &servers {
        let line = server.error_line();
        assert!(line.starts_with("ringplane: serving "), "{line}");
    }
    for (command, fate) in commands {
        match fate {
            Serves => {}
            Prints(lines) => start(clone.path(), command).end().expect_lines(lines),
            Shows(line) => {
                let ended = start(clone.path(), command).end();
                assert!(ended.code == Some(0) && ended.out.iter().any(|shown| shown == line), "{command}: {ended:?}");
            }
            Left(why) => eprintln!("left out: `{command}`: {why}"),
        }
    }
}

/// The words that Dynamo's worker answers with are answered by the command in Python, which serves the same endpoint.
#[test]
fn the_readmes_commands_do_what_it_says() {
    run("README.md", COMMANDS);
}

#[test]
fn the_commands_of_the_documents_of_the_tool_do_what_they_say() {
    run("docs/cli.md", OF_CLI);
    run("docs/exec.md", OF_EXEC);
}
