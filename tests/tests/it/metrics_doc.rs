//! Documents about metrics against what is told: the table in `docs/operations.md`, which `RINGPLANE_BLESS=1` writes anew, the
//! dashboard and the alerts.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use ringplane::observe::{Format, Metrics};
use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};
use ringplane_tests::house::files::root;

const HEADING: &str = "### Every metric\n";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The table as it has to be.
fn table() -> String {
    let mut table = "\n| metric | kind | what |\n|---|---|---|\n".to_owned();
    for family in runtime().block_on(Metrics::new().families()) {
        let _ = writeln!(table, "| `{}` | {} | {} |", family.full_name(), family.kind.name(), family.help);
    }
    table + "\n"
}

#[test]
fn every_metric_is_documented() {
    let path = "docs/operations.md";
    let text = document(path);
    let (before, rest) = text.split_once(HEADING).expect("the heading is there");
    let (documented, after) = rest.split_at(rest.find("\n#").map_or(rest.len(), |at| at + 1));
    let table = table();
    if std::env::var_os("RINGPLANE_BLESS").is_some_and(|value| value == "1") {
        fs::write(root().join(path), format!("{before}{HEADING}{table}{after}")).unwrap();
        return;
    }
    let how = format!("{path}; RINGPLANE_BLESS=1 writes it anew");
    for (documented, told) in documented.lines().zip(table.lines()) {
        assert_eq!(documented, told, "{how}");
    }
    assert_eq!(documented.lines().count(), table.lines().count(), "{how}");
}

/// What a scrape of a running pair tells, by name, with the parts of histograms.
async fn told() -> BTreeSet<String> {
    let echo = |mut request: Request, out: Responder| async move {
        out.send(request.body().await?).await?;
        Ok::<_, Failure>(())
    };
    let (metrics, place) = (Metrics::new(), "mem:metrics-doc");
    let worker = Worker::builder().endpoint("m.d.echo", echo).discovery(place).metrics(&metrics).serve().await.unwrap();
    let client = Client::builder().discovery(place).metrics(&metrics).connect().unwrap();
    client.call(CallRequest::new("m.d.echo", "x")).unwrap().collect().await.unwrap();
    let text = metrics.text(Format::Prometheus).await;
    client.shutdown().await;
    worker.shutdown().await;
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        match kind {
            "histogram" => names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
            _ => _ = names.insert(name.to_owned()),
        }
    }
    names
}

/// The names of metrics that a text has in it.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| ["ringplane_", "process_", "dynamo_"].iter().any(|start| word.starts_with(start))).collect()
}

#[test]
fn every_metric_of_the_dashboard_and_the_alerts_is_in_a_scrape_of_a_running_pair() {
    let told = runtime().block_on(told());
    for path in ["docs/grafana.json", "docs/alerts.yml"] {
        let document = document(path);
        let named = named(&document);
        assert!(named.len() > 15, "{path} names {named:?}");
        let unknown: Vec<&&str> = named.iter().filter(|name| !told.contains(**name)).collect();
        assert!(unknown.is_empty(), "{path} has metrics that nothing tells: {unknown:?}");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard: serde_json::Value = serde_json::from_str(&document("docs/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&str> =
        panels.iter().filter(|panel| panel["type"] == "row").map(|row| row["title"].as_str().unwrap()).collect();
    assert_eq!(rows, ["Traffic", "Errors", "Latency", "Instance sets", "Overload", "Events and discovery", "Process"]);
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let mut known: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    known.extend(["__rate_interval", "__all"]);
    for used in variables_of(&dashboard) {
        assert!(known.contains(&used.as_str()), "${used} is not among {known:?}");
    }
    let source = serde_json::json!({ "type": "prometheus", "uid": "${datasource}" });
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["datasource"] == source && panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel}");
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(place[0] + place[2] <= 24 && place[2] > 0 && place[3] > 0, "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        let names: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(names.len() == targets.len() && targets.iter().all(|target| target["datasource"] == source), "{panel}");
        assert!(targets.iter().all(|target| !named(target["expr"].as_str().unwrap()).is_empty()), "{}", panel["title"]);
    }
}

/// The variables that stand in the texts of a dashboard: `$name` and `${name}`.
fn variables_of(value: &serde_json::Value) -> BTreeSet<String> {
    let text = value.to_string();
    let behind = text.split('$').skip(1).map(|rest| rest.trim_start_matches('{'));
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    behind.map(name).collect()
}

#[test]
fn every_alert_is_explained() {
    let (alerts, operations) = (document("docs/alerts.yml"), document("docs/operations.md"));
    let alerts: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let rows = operations.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let explained: BTreeSet<&str> = rows.filter(|name| name.starts_with("Ringplane")).collect();
    assert_eq!(explained, alerts);
}
