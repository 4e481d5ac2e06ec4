//! The floors of the house in one table, and who may know whom.

use ringplane_tests::house::files::{File, files, root};
use ringplane_tests::house::floors::{Plan, circles, violations};

/// Imports inside `core` run down this table only.
const CORE: Plan<'_> = Plan {
    floors: &[
        &["time", "chain", "id", "rng", "stats", "log", "wire"],
        &["buf", "retry", "discovery", "event"],
        &["task", "overload"],
        &["protocol", "mux", "route", "dynamo", "links"],
        &["caller", "worker", "node", "observer"],
        &["local"],
        &["config"],
    ],
    doors: &[
        ("stats", "rng"), // its tests draw values
        ("wire", "id"),
        ("discovery", "retry"), // pauses before a registry is asked again
        ("event", "discovery"), // scopes, and who publishes
        ("mux", "protocol"),
        ("dynamo", "protocol"),
        ("links", "protocol"), // beside what connections speak, and without a word of it
        ("node", "caller"),
        ("node", "worker"),
        ("caller", "observer"), // whom they tell
        ("worker", "observer"),
        ("observer", "caller"), // and in which words
        ("observer", "worker"),
    ],
};

/// Imports inside the facade run down this table only.
const FACADE: Plan<'_> = Plan {
    floors: &[
        &["error", "trace"],
        &["payload", "runtime"],
        &["observe"],
        &["plane", "handler", "status"],
        &["client"],
        &["model", "worker"],
        &["events", "testing"],
        &["kv"],
    ],
    doors: &[],
};

/// Imports inside the ground of the drivers; its rooms are files.
const DRIVER: Plan<'_> = Plan {
    floors: &[
        &["accept", "bell", "clock", "cpu", "drain", "error", "socket", "stats"],
        &["config", "executor", "mailbox"],
        &["handle"],
    ],
    doors: &[],
};

/// Imports inside the drivers on io_uring: what the kernel offers, the driver on a ring of ours, those on runtimes of others.
const IO_URING: Plan<'_> = Plan { floors: &[&["error"], &["kernel"], &["driver"], &["runtimes"]], doors: &[] };

/// Imports inside `tokio-compat`, with the driver above all services and below them: it is apart, and neither knows the other.
const TOKIO: [Plan<'_>; 2] = [
    Plan {
        floors: &[
            &["random", "seldom", "vars"],
            &["discovery", "nats", "observe", "task"],
            &["service"],
            &["event", "queue", "request", "status", "store"],
            &["tcp"],
        ],
        doors: &[],
    },
    Plan {
        floors: &[
            &["tcp"],
            &["random", "seldom", "vars"],
            &["discovery", "nats", "observe", "task"],
            &["service"],
            &["event", "queue", "request", "status", "store"],
        ],
        doors: &[],
    },
];

/// Packages whose files name nothing outside, so that what is packaged is whole.
const WHOLE: [&str; 5] = ["cli", "core", "core/driver", "io-uring", "tokio-compat"];

/// Imports inside the tokio driver; its rooms are files.
const TCP: Plan<'_> = Plan {
    floors: &[
        &["config", "gauge", "ready"],
        &["accept", "connection", "linger", "socket"],
        &["pool"],
        &["net"],
        &["turn"],
        &["start"],
        &["here"],
    ],
    doors: &[],
};

/// Crates by folder, and the crates their manifests may not mention: what is not in a manifest cannot be named.
const STRANGERS: [(&str, &[&str]); 4] = [
    ("core", &["ringplane", "ringplane-driver", "ringplane-io-uring", "ringplane-tokio", "ringplane-tests"]),
    ("core/driver", &["ringplane", "ringplane-io-uring", "ringplane-tokio", "ringplane-tests"]),
    ("io-uring", &["ringplane", "ringplane-tokio"]),
    ("tokio-compat", &["ringplane", "ringplane-io-uring"]),
];

#[test]
fn imports_inside_core_run_down_and_never_through_a_face_or_in_a_circle() {
    let sources = files("core/src", ".rs");
    let wrong = [violations(&CORE, &sources), circles(&sources)].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_inside_the_facade_run_down_and_never_through_a_face_or_in_a_circle() {
    let sources = files("src", ".rs");
    let wrong = [violations(&FACADE, &sources), circles(&sources)].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_inside_the_drivers_run_down_and_never_in_a_circle() {
    let tcp = files("tokio-compat/src/tcp", ".rs").into_iter().map(|File { path, text }| File {
        path: path.replace("tokio-compat/src/tcp/", "tokio-compat/src/"),
        text: text.replace("crate::tcp::", "crate::"),
    });
    for (plan, sources) in
        [(DRIVER, files("core/driver/src", ".rs")), (IO_URING, files("io-uring/src", ".rs")), (TCP, tcp.collect())]
    {
        let wrong = [violations(&plan, &sources), circles(&sources)].concat();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn services_on_tokio_and_the_driver_beside_them_do_not_know_each_other() {
    let sources = files("tokio-compat/src", ".rs");
    let wrong = [violations(&TOKIO[0], &sources), violations(&TOKIO[1], &sources), circles(&sources)].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packages_include_no_file_from_outside() {
    for folder in WHOLE {
        let wrong: Vec<String> = files(folder, ".rs").iter().flat_map(|file| outside(folder, file)).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The paths above `folder` that a file in it includes or takes for a module.
fn outside(folder: &str, file: &File) -> Vec<String> {
    let depth = file.path.split('/').count() - folder.split('/').count() - 1;
    let named = file.text.lines().filter_map(|line| {
        let (_, rest) =
            ["include_str!(\"", "include_bytes!(\"", "#[path = \""].iter().find_map(|word| line.split_once(word))?;
        rest.split('"').next()
    });
    let above = named.filter(|path| path.split('/').take_while(|step| *step == "..").count() > depth);
    above.map(|path| format!("{}: {path}", file.path)).collect()
}

#[test]
fn a_path_out_of_a_package_is_found() {
    let found = |path: &str, text: &str| outside("a/b", &File { path: path.into(), text: text.into() }).len();
    assert_eq!(found("a/b/src/c/d.rs", "const A: &str = include_str!(\"../../x.txt\");"), 0);
    assert_eq!(found("a/b/src/c/d.rs", "const A: &str = include_str!(\"../../../x.txt\");"), 1);
    assert_eq!(found("a/b/src/c/d.rs", "const A: &[u8] = include_bytes!(\"../../../x.bin\");"), 1);
    assert_eq!(found("a/b/tests/e.rs", "#[path = \"../../x.rs\"]\nmod x;"), 1);
    assert_eq!(found("a/b/tests/e.rs", "#[path = \"../x.rs\"]\nmod x;"), 0);
}

#[test]
fn core_knows_no_driver_and_the_drivers_do_not_know_each_other() {
    for (folder, strangers) in STRANGERS {
        let path = root().join(folder).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let met: Vec<&str> = dependencies(&manifest).into_iter().filter(|name| strangers.contains(name)).collect();
        assert!(met.is_empty(), "{folder} may not know {met:?}");
    }
}

/// The packages a manifest depends on, in any of its tables and under any name, and some other keys besides.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or_default()) {
        // `name = …`, `name.workspace = …`, `[dependencies.name]`, `other = { package = "name" }`
        let line = line.trim().trim_matches(['[', ']']);
        names.extend(line.strip_prefix("dependencies.").or_else(|| line.strip_prefix("dev-dependencies.")));
        names.extend(line.split(['=', '.', ' ']).next());
        names.extend(line.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1)));
    }
    names
}

#[test]
fn a_dependency_is_read_from_a_manifest_in_each_way_of_writing_it() {
    for manifest in [
        "[dependencies]\nringplane-tokio.workspace = true",
        "[dev-dependencies]\nringplane-tokio = { path = \"..\" }",
        "[dependencies.ringplane-tokio]\npath = \"..\"",
        "[dependencies]\nalias = { package = \"ringplane-tokio\", path = \"..\" }",
    ] {
        assert!(dependencies(manifest).contains(&"ringplane-tokio"), "{manifest}");
    }
    assert!(
        !dependencies("[dependencies]\n# ringplane-tokio = 1\nringplane-tokio-more = 1").contains(&"ringplane-tokio")
    );
}
