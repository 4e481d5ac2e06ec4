//! `docs/conformance.md` against the tests it names: every row has one, and each of them exists.

use std::collections::BTreeSet;

use ringplane_tests::house::files::{File, files};

/// The numbered points that each table has.
const TABLES: [(&str, usize); 8] = [
    ("A worker must", 8),
    ("A caller must", 6),
    ("Both should", 2),
    ("Calls that hang in the original", 8),
    ("Memory and CPU without bound in the original", 6),
    ("Trust", 5),
    ("Requests by NATS and HTTP", 6),
    ("Dynamo 1.7, and 1.5 beside it", 9),
];

/// The functions of a file that `cargo test` runs.
fn tests(file: &File) -> BTreeSet<String> {
    let marked = file.text.split("test]\n").skip(1);
    marked.filter_map(|rest| rest.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name.to_owned()).collect()
}

/// What a row's last column names.
fn shown_by(row: &str) -> Vec<&str> {
    let last = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
    last.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_point_is_shown_by_a_test_that_exists() {
    let sources = ["core", "io-uring", "tokio-compat", "tests", "src"].map(|folder| files(folder, ".rs"));
    let exist: BTreeSet<String> = sources.iter().flatten().flat_map(tests).collect();
    let document = &files("docs", "conformance.md")[0].text;
    for (heading, points) in TABLES {
        let table = document.split(&format!("## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
        let rows = table.lines().take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| "));
        let rows: Vec<&str> = rows.filter(|row| row[2..].starts_with(|digit: char| digit.is_ascii_digit())).collect();
        assert_eq!(rows.len(), points, "{heading}");
        for (number, row) in rows.iter().enumerate() {
            assert!(row.starts_with(&format!("| {} | ", number + 1)), "{row}");
            let names = shown_by(row);
            assert!(!names.is_empty(), "nothing shows {row}");
            for name in names {
                assert!(exist.contains(name), "{heading}, {}: no test {name}", number + 1);
            }
        }
    }
}

#[test]
fn a_test_is_a_marked_function_and_nothing_else() {
    let text = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test]\nasync fn three() {}\n".to_owned();
    assert_eq!(tests(&File { path: "a.rs".to_owned(), text }), ["one", "three"].map(str::to_owned).into());
    assert_eq!(shown_by("| 1 | `x` | `a`, `b` |"), ["a", "b"]);
}
