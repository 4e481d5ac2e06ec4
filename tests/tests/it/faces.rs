//! What every file of the workspace owes: faces define nothing, files say what they hold, unsafe stays in its place.

use ringplane_tests::house::files::{File, files};
use ringplane_tests::house::manners::{definitions, lines_of_code, shape};
use ringplane_tests::house::paths::lines_naming;

/// The only files that may hold `unsafe`: three of the driver, the one with the processor's
/// checksum, the ring of the thinnest echo that all is measured against, and the allocators of two checks.
const UNSAFE: [&str; 7] = [
    "io-uring/src/kernel/ring.rs",
    "io-uring/src/kernel/op.rs",
    "io-uring/src/kernel/pool.rs",
    "core/crc32c/src/append.rs",
    "benches/src/engines/floor/ring.rs",
    "benches/benches/counts/allocator.rs",
    "tests/tests/allocations.rs",
];

/// The most lines of code that a file of core may have, its tests not counted.
const MOST_CODE: usize = 450;

/// The sources of every crate of the workspace.
fn sources() -> Vec<File> {
    ["src", "cli", "examples", "core/src", "core/crc32c", "core/driver", "io-uring", "tokio-compat", "benches", "tests"]
        .into_iter()
        .flat_map(|folder| files(folder, ".rs"))
        .collect()
}

#[test]
fn faces_define_nothing() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(File::is_face) {
        let found = definitions(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        wrong.extend(found.into_iter().map(|what| format!("{}:{what}", file.path)));
    }
    assert!(wrong.is_empty(), "a face defines something:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_starts_with_a_sentence_and_stays_short() {
    let all = files(".", ".rs").into_iter();
    let wrong: Vec<String> =
        all.flat_map(|file| shape(&file.text).into_iter().map(move |what| format!("{} {what}", file.path))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_of_core_has_one_subject_of_bounded_length() {
    let is_test = |file: &File| file.path.ends_with("tests.rs") || file.path.contains("/tests/");
    let sources = files("core/src", ".rs").into_iter().filter(|file| !is_test(file));
    let wrong: Vec<String> = sources
        .map(|file| (lines_of_code(&file.text), file.path))
        .filter(|(lines, _)| *lines > MOST_CODE)
        .map(|(lines, path)| format!("{path} has {lines} lines of code, {MOST_CODE} are allowed"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_its_place() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| !UNSAFE.contains(&file.path.as_str())) {
        let lines = lines_naming("unsafe", &file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        wrong.extend(lines.iter().map(|line| format!("{}:{line}", file.path)));
    }
    assert!(wrong.is_empty(), "unsafe outside {UNSAFE:?}:\n{}", wrong.join("\n"));
}
