//! The workspace's own files, as the checks read them.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its path from the workspace's root, with `/` between the parts.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl File {
    /// The module a file below `<crate>/src/` defines, as the names from the crate's root down.
    pub fn module(&self) -> Vec<String> {
        let inside = self.path.split_once("src/").map_or(self.path.as_str(), |(_, inside)| inside);
        let stem = inside.strip_suffix(".rs").unwrap_or(inside);
        let mut names: Vec<String> = stem.split('/').map(String::from).collect();
        if names.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
            names.pop();
        }
        names
    }

    /// Whether the file is a face: docs, modules and re-exports only.
    pub fn is_face(&self) -> bool {
        self.path.ends_with("/mod.rs") || self.path.ends_with("/lib.rs")
    }
}

/// The root of the workspace these tests belong to.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below `folder` (from the root) whose name ends in `suffix`, by path. Build output is left out.
///
/// # Panics
/// If the folder cannot be read, or holds no such file: a check over nothing would always pass.
pub fn files(folder: &str, suffix: &str) -> Vec<File> {
    let mut found = Vec::new();
    collect(&root().join(folder), suffix, &mut found);
    assert!(!found.is_empty(), "no *{suffix} below {folder:?}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, suffix: &str, found: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder that opened can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, suffix, found);
            }
        } else if name.ends_with(suffix) {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            found.push(File { path, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Vec<String> {
        File { path: path.into(), text: String::new() }.module()
    }

    #[test]
    fn a_path_tells_the_module_and_whether_it_is_a_face() {
        assert_eq!(module("core/src/wire/parse.rs"), ["wire", "parse"]);
        assert_eq!(module("core/src/wire/mod.rs"), ["wire"]);
        assert!(module("core/src/lib.rs").is_empty());
        let face = |path: &str| File { path: path.into(), text: String::new() }.is_face();
        assert!(face("core/src/lib.rs") && face("core/src/wire/mod.rs") && !face("core/src/id.rs"));
    }

    #[test]
    fn this_file_is_found() {
        assert!(files("tests/src", ".rs").iter().any(|file| file.path == "tests/src/house/files.rs"));
    }
}
