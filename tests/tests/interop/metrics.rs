//! Metrics of a running pair, read by those who read them: the parsers of Prometheus's Python library, and `promtool`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use libtest_mimic::Trial;
use ringplane::observe::{Family, Format, Metrics};
use ringplane::{CallRequest, Client, Failure, Request, Responder, Worker};
use serde_json::{Value, json};

use crate::{trial_or, wheel};

/// Prints what it reads: `[[family, type, [[series, labels, value], …]], …]`.
const READ: &str = r#"
import json, sys
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
read = openmetrics if sys.argv[1] == "OpenMetrics" else parser
families = read.text_string_to_metric_families(sys.stdin.read())
print(json.dumps([[f.name, f.type, [[s.name, s.labels, s.value] for s in f.samples]] for f in families], default=str))
"#;

/// Its name, labels and value.
type Series = (String, Value, Value);

/// The package that brings `promtool`.
const PROMETHEUS: &str = "prometheus";

pub(crate) fn trials() -> Vec<Trial> {
    let name = "metrics::the_parsers_of_prometheus_read_both_forms".to_owned();
    let read = trial_or(wheel::python(wheel::FRONTEND).err(), name, &[], parsers_read_both_forms);
    let promtool = ringplane_servers::debian::program("promtool", PROMETHEUS, PROMETHEUS);
    if let Err(reason) = &promtool {
        eprintln!("no promtool to test with, its test is ignored: {reason}");
    }
    let name = "metrics::promtool_finds_nothing_wrong_with_metrics_and_alerts".to_owned();
    let (missing, promtool) = (promtool.clone().err(), promtool.unwrap_or_default());
    vec![read, trial_or(missing, name, &[], move || promtool_finds_nothing_wrong(&promtool))]
}

/// What three calls of a pair that meets in `place` leave, in each form, and as it is told.
fn scrapes(place: &str) -> (Vec<Family>, [(Format, String); 2]) {
    let echo = |mut request: Request, out: Responder| async move {
        out.send(request.body().await?).await?;
        Ok::<_, Failure>(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let metrics = Metrics::new();
        let builder = Worker::builder().endpoint("m.p.echo", echo).discovery(place);
        let worker = builder.metrics(&metrics).serve().await.unwrap();
        let client = Client::builder().discovery(place).metrics(&metrics).connect().unwrap();
        for _ in 0..3 {
            client.call(CallRequest::new("m.p.echo", "x")).unwrap().collect().await.unwrap();
        }
        let mut texts = [(Format::Prometheus, String::new()), (Format::OpenMetrics, String::new())];
        for (format, text) in &mut texts {
            *text = metrics.text(*format).await;
        }
        let families = metrics.families().await;
        client.shutdown().await;
        worker.shutdown().await;
        (families, texts)
    })
}

/// What a program says to `input`, and whether it is content.
fn ask(command: &mut Command, input: &str) -> (bool, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_owned());
    // It may answer before it has read everything.
    let writer = thread::spawn(move || drop(pipe.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn parsers_read_both_forms() {
    let python = wheel::python(wheel::FRONTEND).unwrap();
    let (families, texts) = scrapes("mem:metrics-parsers");
    for (format, text) in texts {
        let form = format!("{format:?}");
        let (read, said) = ask(Command::new(&python).args(["-c", READ, &form]), &text);
        assert!(read, "{form}: {said}");
        let parsed: Vec<(String, String, Vec<Series>)> = serde_json::from_str(&said).unwrap();
        // The parsers leave out what has no series, and what counters append.
        let told = families.iter().filter(|family| !family.samples.is_empty());
        let mut told: Vec<&str> = told.map(|family| family.kind.name()).collect();
        let mut kinds: Vec<&str> =
            parsed.iter().filter(|(.., series)| !series.is_empty()).map(|(_, kind, _)| kind.as_str()).collect();
        if format == Format::Prometheus {
            // It has no kind of its own for what only labels say.
            told.iter_mut().filter(|kind| **kind == "info").for_each(|kind| *kind = "gauge");
        }
        told.sort_unstable();
        kinds.sort_unstable();
        assert_eq!(kinds, told, "{form}");
        let series: Vec<_> = parsed.iter().flat_map(|(.., series)| series).collect();
        let value =
            |name: &str| series.iter().find(|(series, ..)| series == name).and_then(|(.., value)| value.as_f64());
        assert_eq!(value("ringplane_called_succeeded_total"), Some(3.0), "{form}");
        assert_eq!(value("dynamo_component_requests_total"), Some(3.0), "{form}");
        let called = series.iter().find(|(name, labels, _)| {
            name == "ringplane_call_duration_seconds_count"
                && labels["outcome"] == "ok"
                && labels["endpoint"] == "m.p.echo"
        });
        assert_eq!(called.and_then(|(.., value)| value.as_f64()), Some(3.0), "{form}");
    }
}

fn promtool_finds_nothing_wrong(promtool: &Path) {
    let (_, texts) = scrapes("mem:metrics-promtool");
    let [(Format::Prometheus, text), _] = &texts else { panic!("{texts:?}") };
    let (content, said) = ask(Command::new(promtool).args(["check", "metrics"]), text);
    assert!(content && said.is_empty(), "{said}");
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.yml");
    let (content, said) = ask(Command::new(promtool).args(["check", "rules"]).arg(alerts), "");
    assert!(content, "{said}");
    let folder = tempfile::tempdir().unwrap();
    let (rules, panels) = dashboard_as_rules();
    assert!(panels > 50, "{panels}");
    let path = folder.path().join("dashboard.json");
    std::fs::write(&path, rules).unwrap();
    let (content, said) = ask(Command::new(promtool).args(["check", "rules"]).arg(path), "");
    assert!(content && said.contains(&format!("{panels} rules found")), "{said}");
}

/// The queries of the dashboard's panels as rules, which are read as they are, and how many there are. JSON is YAML.
fn dashboard_as_rules() -> (String, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let rules: Vec<Value> = targets
        .enumerate()
        .map(|(number, target)| {
            // Grafana puts a time in place of this one; the others stand in strings.
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            json!({ "record": format!("dashboard:{number}"), "expr": query })
        })
        .collect();
    let count = rules.len();
    (json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string(), count)
}
