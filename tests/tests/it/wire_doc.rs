//! The examples of `docs/wire.md` are what the code reads, prints and writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ringplane_core::wire::mux::{Frame, Kind, PREFACE_LEN, Preface};
use ringplane_core::wire::{Limits, pretty};
use ringplane_tests::wire_laws::{self, End};

struct Example {
    name: String,
    bytes: Vec<u8>,
    lines: String,
}

fn examples() -> Vec<Example> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire.md");
    let text = fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    let mut current: Option<Example> = None;
    for line in text.lines() {
        match (&mut current, line.strip_prefix("```")) {
            (None, Some(mark)) => {
                let name = mark.strip_prefix("mux ").unwrap_or_else(|| panic!("a block without a known mark: {mark}"));
                current = Some(Example { name: name.to_owned(), bytes: vec![], lines: String::new() });
            }
            (Some(_), Some(_)) => found.extend(current.take()),
            (Some(example), None) if line.starts_with('@') => {
                example.lines.push_str(line);
                example.lines.push('\n');
            }
            (Some(example), None) => {
                let byte = |text| u8::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{}: {line}", example.name));
                let bytes: Vec<u8> = line.split(' ').map(byte).collect();
                example.bytes.extend(bytes);
            }
            (None, None) => {}
        }
    }
    assert!(current.is_none(), "the last block is closed");
    found
}

#[test]
fn every_example_is_printed_as_it_says_and_written_back_byte_for_byte() {
    let limits = Limits::default();
    let mut kinds = BTreeSet::new();
    let mut names = BTreeSet::new();
    for Example { name, bytes, lines } in examples() {
        let mut printed = String::new();
        let frames = if bytes.starts_with(&[0xFF, 0xFF]) {
            pretty::mux_stream(&bytes, &limits, &mut printed).unwrap();
            let (preface, rest) = bytes.split_at(PREFACE_LEN);
            assert_eq!(preface, Preface::OURS.to_bytes(), "{name}");
            wire_laws::frames::<Preface>(preface, &limits);
            rest
        } else {
            pretty::mux_frames(&bytes, &limits, &mut printed).unwrap();
            &bytes
        };
        assert_eq!(printed, lines, "{name}");
        let (frames, end) = wire_laws::frames::<Frame<'_>>(frames, &limits);
        assert_eq!(end, End::Clean, "{name}");
        kinds.extend(frames.iter().map(|frame| frame.head.kind));
        assert!(names.insert(name.clone()), "{name} stands twice");
    }
    let missing: Vec<_> = Kind::ALL.into_iter().filter(|kind| !kinds.contains(&(*kind as u8))).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}
