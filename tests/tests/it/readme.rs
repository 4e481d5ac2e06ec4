//! What `README.md` and `docs/` show and name: the examples, the test command, and files that exist.

use std::collections::BTreeSet;
use std::fs;

use ringplane_tests::house::files::{File, files, root};

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The blocks of code in this language, in order.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Lines that are neither blank nor comments.
fn lines_of_code(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn the_readme_shows_the_examples_as_they_are_and_they_are_short() {
    let examples = [text("examples/worker.rs"), text("examples/caller.rs")];
    assert_eq!(blocks(&text("README.md"), "rust"), examples);
    for example in examples {
        assert!(lines_of_code(&example) < 15, "{example}");
    }
}

#[test]
fn documents_show_the_examples_in_python_as_they_are_and_they_are_short() {
    let dynamo = [text("examples/dynamo_worker.py"), text("examples/dynamo_caller.py")];
    let command = [text("examples/exec_worker.py")];
    assert_eq!(blocks(&text("README.md"), "python"), dynamo);
    assert_eq!(blocks(&text("docs/exec.md"), "python"), command);
    for example in dynamo.iter().chain(&command) {
        assert!(lines_of_code(example) <= 15, "{example}");
    }
}

#[test]
fn every_example_is_in_the_readme_and_compiled_as_the_documentation_of_what_it_shows() {
    let (readme, sources) = (text("README.md"), files("src", ".rs"));
    for File { path, .. } in files("examples", ".rs") {
        assert!(readme.contains(&format!("]({path})")), "README.md lacks {path}");
        let shown = format!("{path}\")");
        assert!(sources.iter().any(|file| file.text.contains(&shown)), "no item shows {path}");
    }
}

#[test]
fn the_readmes_test_command_is_what_ci_runs() {
    let command = "bash tests/run";
    let shown = blocks(&text("README.md"), "sh");
    assert!(shown.iter().any(|block| block.lines().any(|line| line == command)), "{shown:?}");
    let ci = text(".ci/run");
    assert!(ci.lines().any(|line| line.trim() == command), "{ci}");
}

#[test]
fn every_top_level_folder_has_a_line_in_the_readme() {
    let readme = text("README.md");
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let ours = name == ".ci" || !(name.starts_with('.') || name == "target");
        if ours && entry.path().is_dir() {
            assert!(readme.contains(&format!("| `{name}/` |")), "README.md lacks a line about {name}/");
        }
    }
}

/// What a document names that looks like a file of this repository: links, and paths in backquotes.
fn named(document: &File) -> BTreeSet<String> {
    let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let links = document.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let links = links.filter(|link| !link.is_empty() && !link.contains(':')).map(|link| format!("{folder}/{link}"));
    let quoted = document.text.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|path| {
        let (_, file) = path.rsplit_once('/').unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        path.bytes().all(plain) && [".rs", ".md", ".toml"].iter().any(|ending| file.ends_with(ending))
    });
    links.chain(paths.map(str::to_owned)).collect()
}

#[test]
fn every_file_the_documents_name_exists() {
    let mut documents = files("docs", ".md");
    documents.push(File { path: "README.md".to_owned(), text: text("README.md") });
    let mut found = 0;
    for document in &documents {
        for path in named(document) {
            // What a contributor is to write.
            if path.rsplit('/').next().is_some_and(|file| file.starts_with("mine")) {
                continue;
            }
            assert!(root().join(path.trim_start_matches('/')).exists(), "{} names {path}", document.path);
            found += 1;
        }
    }
    assert!(found > 20, "only {found} files are named: the search is broken");
}
