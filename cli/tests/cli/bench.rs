//! `ringplane bench`: counts, not times.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Ended, Place};

fn read(ended: &Ended) -> Value {
    assert_eq!((ended.code, ended.out.len()), (Some(0), 1), "{ended:?}");
    serde_json::from_str(&ended.out[0]).unwrap()
}

#[test]
fn every_call_and_item_of_a_load_is_counted_whether_paced_or_not() {
    let place = Place::new();
    let _server = place.serve(&["demo.backend.count", "--handler", "count"]);
    let bench = |more: &[&str]| place.run(&[&["bench", "demo.backend.count", r#"{"n":3}"#], more].concat());
    for load in [&["--calls", "40", "--concurrency", "4"][..], &["--calls", "40", "--dialect", "call-home"]] {
        let found = read(&bench(&[load, &["--json"]].concat()));
        assert_eq!(
            (&found["calls"], &found["items"], &found["failed"]),
            (&json!(40), &json!(120), &json!(0)),
            "{found}"
        );
        for times in ["first_item_us", "whole_call_us"] {
            assert!(found[times]["p50"].as_f64() <= found[times]["max"].as_f64(), "{found}");
            assert!(found[times]["p50"].as_f64().is_some_and(|time| time > 0.0), "{found}");
        }
    }
    let page = place.path().join("page.html");
    let found = read(&bench(&["--calls", "5", "--rate", "500", "--json", "--report", page.to_str().unwrap()]));
    // What finds no place is counted too: a busy machine may be late.
    let number = |name: &str| found[name].as_u64().unwrap();
    assert_eq!((number("calls") + number("not_in_time"), number("unfinished")), (5, 0), "{found}");
    assert_eq!(number("items"), 3 * number("calls"), "{found}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!((page.matches("<svg ").count(), page.matches("</svg>").count()), (2, 2), "{page}");
    assert!(page.contains(&format!("<th>items</th><td>{}, ", number("items"))), "{page}");
    assert!(
        page.contains("prefers-color-scheme: dark") && page.contains("<h1>ringplane bench demo.backend.count</h1>")
    );
    for elsewhere in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "NaN"] {
        assert!(!page.contains(elsewhere), "{elsewhere}: {page}");
    }
    let table = bench(&["--calls", "2", "--warm-up", "0"]);
    let row = |name: &str| table.out.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    assert!(row("calls ").starts_with("2, ") && row("items ").starts_with("6, "), "{table:?}");
    assert!(table.err.is_empty(), "no line of progress where there is no terminal: {table:?}");
}

#[test]
fn a_load_of_which_every_call_fails_ends_as_one_such_call_does() {
    let place = Place::new();
    place.run(&["bench", "a.b.c", "--calls", "3"]).expect(3, "no instance");
    place.run(&["bench", "a.b.c", "--report", "/none/page.html"]).expect(1, "/none/page.html: ");
    place.run(&["bench", "a.b.c", "--rate", "0"]).expect_usage("above 0");
    place.run(&["bench", "a.b.c", "1", "--size", "3"]).expect_usage("cannot be used with");
    let _server = place.serve(&["a.b.c", "--handler", "count"]);
    // A text is no request of `count`.
    let ended = place.run(&["bench", "a.b.c", "--size", "3", "--calls", "3", "--json"]);
    ended.expect(8, "every call failed: ");
    let found: Value = serde_json::from_str(&ended.out[0]).unwrap();
    assert_eq!((&found["calls"], &found["errors"]), (&json!(0), &json!({"handler": 3})), "{found}");
}

#[test]
fn a_signal_ends_a_load_and_what_there_is_is_printed() {
    let place = Place::new();
    let server = place.serve(&["a.b.c", "--exec", "sh", "-c", "echo called >&2; exec sleep 30"]);
    let bench = place.start(&["bench", "a.b.c", "--calls", "1", "--warm-up", "0", "--json"]);
    while !server.error_line().contains("called") {}
    bench.signal(Signal::INT);
    let ended = bench.end();
    ended.expect(7, "stopped by a signal");
    let found: Value = serde_json::from_str(&ended.out[0]).unwrap();
    assert_eq!((&found["calls"], &found["unfinished"]), (&json!(0), &json!(1)), "{found}");
    server.signal(Signal::TERM);
    server.end();
}
