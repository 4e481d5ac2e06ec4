//! The table of metrics in `docs/operations.md` against what is told. `RINGPLANE_BLESS=1` writes it anew.

use std::fmt::Write;
use std::fs;

use ringplane::observe::Metrics;
use ringplane_tests::house::files::root;

const HEADING: &str = "### Every metric\n";

/// The table as it has to be.
fn table() -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut table = "\n| metric | kind | what |\n|---|---|---|\n".to_owned();
    for family in runtime.block_on(Metrics::new().families()) {
        let _ = writeln!(table, "| `{}` | {} | {} |", family.full_name(), family.kind.name(), family.help);
    }
    table + "\n"
}

#[test]
fn every_metric_is_documented() {
    let path = root().join("docs/operations.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(HEADING).expect("the heading is there");
    let (documented, after) = rest.split_at(rest.find("\n#").map_or(rest.len(), |at| at + 1));
    let table = table();
    if std::env::var_os("RINGPLANE_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{before}{HEADING}{table}{after}")).unwrap();
        return;
    }
    for (documented, told) in documented.lines().zip(table.lines()) {
        assert_eq!(documented, told, "docs/operations.md; RINGPLANE_BLESS=1 writes it anew");
    }
    assert_eq!(
        documented.lines().count(),
        table.lines().count(),
        "docs/operations.md; RINGPLANE_BLESS=1 writes it anew"
    );
}
