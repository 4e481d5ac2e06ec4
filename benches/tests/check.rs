//! The program from outside: what it checks, what it measures, what it writes.

use std::fs;
use std::process::{Command, Output};

fn program(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_ringplane-benches")).args(args).output();
    output.expect("cargo has built the program")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Those that take no time, and between them every kind of traffic.
const QUICK: [&str; 9] = [
    "ping-pong",
    "unary-64-4",
    "unary-open",
    "tokens-1024x32x64",
    "body-1m-up",
    "body-1m-down",
    "slow-reader",
    "idle-10000",
    "churn",
];

#[test]
fn every_byte_is_right_on_the_floor_and_on_ringplane() {
    let engines = "floor,ringplane-io-uring,ringplane-tokio,ringplane-monoio,ringplane-tokio-uring";
    let args = ["check", "--no-pin", "--engines", engines].into_iter().chain(QUICK).collect::<Vec<_>>();
    let output = program(&args);
    assert!(output.status.success(), "{}", text(&output));
    let right = text(&output).lines().filter(|line| line.ends_with("every byte right")).count();
    // Six engines, the quick ones and the baseline of one of them; the floor has no flow control for slow readers.
    assert_eq!(right, 6 * (QUICK.len() + 1) - 2, "{}", text(&output));
}

#[test]
fn every_byte_is_right_from_a_tokio_runtime() {
    let what =
        ["ping-pong-sleep", "unary-64-4", "tokens-1024x32x64", "body-1m-up", "body-1m-down", "slow-reader", "churn"];
    let args = ["check", "--no-pin", "--engines", "ringplane-client,ringplane-remote,ringplane-here"];
    let output = program(&args.into_iter().chain(what).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output));
    let right = text(&output).lines().filter(|line| line.ends_with("every byte right")).count();
    // Five engines, and the baseline of one scenario; on several threads those without slow readers and churn.
    assert_eq!(right, 5 * (what.len() + 1) + what.len() - 2 + 1, "{}", text(&output));
}

#[test]
fn every_byte_is_right_while_calls_are_watched() {
    let what = ["unary-64-4", "tokens-1024x32x64"];
    let mut engines = vec!["ringplane-propagated-io-uring"];
    if cfg!(feature = "watched") {
        engines.extend(["ringplane-metrics-io-uring", "ringplane-spans1-io-uring", "ringplane-spans100-io-uring"]);
    }
    let args = ["check", "--no-pin", "--engines", &engines.join(",")];
    let output = program(&args.into_iter().chain(what).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output));
    let right = text(&output).lines().filter(|line| line.ends_with("every byte right")).count();
    assert_eq!(right, engines.len() * what.len(), "{}", text(&output));
}

#[test]
fn every_byte_is_right_in_dynamos_protocol() {
    let what = ["ping-pong", "unary-64-4", "tokens-1024x32x64", "body-1m-up", "body-1m-down", "slow-reader", "churn"];
    let args = ["check", "--no-pin", "--engines", "ringplane-io-uring-call-home,ringplane-tokio-call-home"];
    let output = program(&args.into_iter().chain(what).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output));
    let right = text(&output).lines().filter(|line| line.ends_with("every byte right")).count();
    // Two engines, and the baseline of one scenario; slow readers and churn are not for them.
    assert_eq!(right, 2 * (what.len() - 1), "{}", text(&output));
}

#[test]
fn a_run_prints_a_table_and_keeps_what_a_page_can_be_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, html) = (path("results.json"), path("page.html"));
    let quick = ["--no-pin", "--rounds", "2", "--seconds", "0.05", "--warmup", "0.02"];
    let what = ["run", "ping-pong", "mixed", "--engines", "floor-epoll,ringplane-io-uring", "--json", &json];
    let output = program(&what.into_iter().chain(quick).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("× alone"), "{}", text(&output));
    let output = program(&["report", &json, "--html", &html]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(fs::read_to_string(&html).unwrap().contains("ringplane-io-uring"));
}

#[test]
fn a_name_that_does_not_exist_is_answered_with_those_that_do() {
    let output = program(&["run", "ping-pong", "--engines", "warp"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("floor-epoll"), "{}", text(&output));
    assert!(text(&program(&["check", "warp"])).contains("ping-pong"));
}

#[test]
fn a_server_that_is_told_nonsense_says_so() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringplane-benches"));
    let output = child.arg("serve-engine").output().expect("cargo has built the program");
    assert!(text(&output).contains("failed"), "{}", text(&output));
}

#[test]
fn a_report_makes_a_document_that_is_missing_and_names_a_file_that_it_cannot_use() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let kept = r#"{"machine":{"at":0,"cpu":"c","cpus":2,"kernel":"6","pinned":true},"command":"run","rows":[]}"#;
    fs::write(at("results"), kept).unwrap();
    fs::write(at("plain.md"), "no marks").unwrap();
    let report = |results: &str, doc: &str| program(&["report", &at(results), "--doc", &at(doc)]);
    let output = report("results", "new.md");
    assert!(output.status.success(), "{}", text(&output));
    let first = fs::read_to_string(at("new.md")).unwrap();
    assert!(first.starts_with("<!-- results") && first.contains("Measured 1970-01-01"), "{first}");
    assert!(report("results", "new.md").status.success(), "it has its marks");
    assert_eq!(fs::read_to_string(at("new.md")).unwrap(), first);
    for (results, doc, named) in [
        ("missing", "new.md", "missing: No such file"),
        ("plain.md", "new.md", "plain.md: expected"),
        ("results", "plain.md", "plain.md: the document has no mark"),
        ("results", "no/new.md", "no/new.md: No such file"),
    ] {
        let output = report(results, doc);
        assert!(output.status.code() == Some(2) && text(&output).contains(named), "{}", text(&output));
    }
}
