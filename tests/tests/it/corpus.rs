//! Every committed fuzz input, replayed as an ordinary test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ringplane_tests::fuzz::TARGETS;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_corpus_file_keeps_the_laws_of_its_target() {
    for (name, target) in TARGETS {
        let folder = fuzz_folder().join("corpus").join(name);
        let files = names(&folder);
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            println!("{name}/{file}");
            let bytes = fs::read(folder.join(&file)).unwrap();
            assert!(bytes.len() <= 4096, "{name}/{file} is too large to commit");
            target(&bytes);
        }
    }
}

#[test]
fn targets_corpora_and_fuzz_binaries_are_the_same_set() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "a name stands twice");
    assert_eq!(names(&fuzz_folder().join("corpus")), targets);
    let binaries = names(&fuzz_folder().join("fuzz_targets"));
    let binaries: BTreeSet<String> = binaries.iter().map(|file| file.trim_end_matches(".rs").into()).collect();
    assert_eq!(binaries, targets);
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}
