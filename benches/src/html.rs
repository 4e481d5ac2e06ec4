//! Results as one page that needs nothing else.

use std::fmt::Write;

use crate::engine::Result;
use crate::goals::verdicts;
use crate::results::{Curve, Results, Row, Sample};
use crate::scenario::{Polling, Scenario};
use crate::svg::{Bar, Chart, Scale, Series, bars, escape};
use crate::table::{count, figure, micros, unit};

const STYLE: &str = include_str!("report.css");

/// The page.
///
/// # Errors
/// If the goals cannot be read.
pub fn page(results: &Results) -> Result<String> {
    let mut html = String::from("<!doctype html><html lang='en'><meta charset='utf-8'>");
    let _ = write!(html, "<title>ringplane: measured</title><style>{STYLE}</style><h1>ringplane: measured</h1>");
    let machine = &results.machine;
    let pinned = if machine.pinned { "server and load on a CPU each" } else { "not pinned" };
    let _ = write!(
        html,
        "<p>{} × {}, Linux {}, {pinned}; {} (UTC). <code>ringplane-benches {}</code></p>",
        machine.cpus,
        escape(&machine.cpu),
        escape(&machine.kernel),
        crate::markdown::date(machine.at),
        escape(&results.command)
    );
    legend(&mut html, results);
    goals(&mut html, results)?;
    concurrency(&mut html, results);
    for scenario in scenarios(results) {
        section(&mut html, results, scenario);
    }
    Ok(html + "</html>\n")
}

fn legend(html: &mut String, results: &Results) {
    html.push_str("<p class='legend'>");
    for (color, engine) in engines(results).iter().enumerate() {
        let _ = write!(html, "<span><i class='b{color}'></i>{}</span> ", escape(engine));
    }
    html.push_str("</p>");
}

fn goals(html: &mut String, results: &Results) -> Result<()> {
    html.push_str("<h2>Goals</h2><table><tr><th>goal<th>scenario<th>against<th>limit<th>ratio<th>rounds<th>");
    for verdict in verdicts(results)?.iter().filter(|verdict| verdict.ratio.is_some()) {
        let Some((ratio, least, most)) = verdict.ratio else { continue };
        let class = if verdict.reached.is_some_and(|reached| reached >= 1.0) { "good" } else { "bad" };
        let _ = write!(
            html,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{ratio:.2}<td>{least:.2} … {most:.2}<td class='{class}'>{}",
            escape(&verdict.goal),
            verdict.scenario,
            verdict.against,
            verdict.limit,
            verdict.word()
        );
    }
    html.push_str("</table>");
    Ok(())
}

/// Calls per second against calls in flight, for scenarios that differ in nothing else.
fn concurrency(html: &mut String, results: &Results) {
    let plain = |scenario: &&Scenario| {
        let extras = scenario.gap_us > 0 || scenario.polling != Polling::Usual || scenario.churn || scenario.idle > 0;
        !extras && scenario.rate == 0 && scenario.slow_readers == 0 && scenario.background.is_none()
    };
    let shape =
        |scenario: &Scenario| (scenario.request_bytes, scenario.items, scenario.item_bytes, scenario.connections);
    let all: Vec<&Scenario> = scenarios(results).into_iter().filter(plain).collect();
    let mut done = Vec::new();
    html.push_str("<h2>Throughput against concurrency</h2><div class='charts'>");
    for leader in &all {
        let same: Vec<&Scenario> = all.iter().copied().filter(|other| shape(other) == shape(leader)).collect();
        let mut depths: Vec<usize> = same.iter().map(|scenario| scenario.in_flight).collect();
        depths.sort_unstable();
        depths.dedup();
        if depths.len() < 2 || done.contains(&shape(leader)) {
            continue;
        }
        done.push(shape(leader));
        let names = engines(results);
        let series = names.iter().enumerate().map(|(color, engine)| {
            let point = |depth: &usize| {
                let scenario = same.iter().find(|scenario| scenario.in_flight == *depth)?;
                Some((*depth as f64, results.row(&scenario.name, engine)?.spread(|sample| sample.calls)?.median))
            };
            Series { name: engine.clone(), color, points: depths.iter().filter_map(point).collect() }
        });
        let chart = Chart {
            title: format!("{} B each way, connections: {}", leader.request_bytes, leader.connections),
            x_label: "calls in flight".to_owned(),
            x_ticks: depths.iter().map(|depth| (*depth as f64, depth.to_string())).collect(),
            x_scale: Scale::Log,
            y_scale: Scale::Log,
            y_text: |value| format!("{}/s", count(value)),
            series: series.collect(),
        };
        html.push_str(&chart.draw());
    }
    html.push_str("</div>");
}

fn section(html: &mut String, results: &Results, scenario: &Scenario) {
    let rows: Vec<&Row> = results.rows.iter().filter(|row| row.scenario.name == scenario.name).collect();
    let _ = write!(html, "<h2 id='{0}'>{0}</h2><p>{1}</p>", scenario.name, escape(&scenario.about));
    let _ = write!(
        html,
        "<table><tr><th>engine<th>{}<th>rounds<th>× floor<th>call p50<th>p99<th>first p99<th>CPU server + load<th>\
         switches<th>peak MiB",
        unit(scenario.headline)
    );
    rows.iter().for_each(|row| table_row(html, results, row));
    html.push_str("</table><div class='charts'>");
    let value = |row: &&Row| row.headline().map_or(0.0, |spread| spread.median);
    let bar = |row: &&Row, parts| Bar { name: row.engine.clone(), color: color(results, &row.engine), parts };
    let measured = || rows.iter().filter(|row| !row.samples.is_empty());
    let headline: Vec<Bar> = measured().map(|row| bar(row, (value(row), 0.0))).collect();
    let text = if scenario.headline.is_rate() { count } else { micros };
    html.push_str(&bars(unit(scenario.headline), &headline, text));
    let middle = |row: &Row, figure: fn(&Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread.median);
    let cpu = |row: &&Row| (middle(row, |sample| sample.server_cpu), middle(row, |sample| sample.load_cpu));
    let cpu: Vec<Bar> = measured().map(|row| bar(row, cpu(row))).collect();
    html.push_str(&bars("CPU per call: server, then load (paler)", &cpu, micros));
    let curves: [(&str, Pick); 3] = [
        ("latency of a call", |row| &row.call),
        ("time to the first item", |row| &row.first),
        ("gap error of paced items", |row| &row.gap),
    ];
    for (title, pick) in curves {
        let interesting = title == "latency of a call" || scenario.items > 1;
        if interesting && rows.iter().any(|row| !pick(row).is_empty()) {
            html.push_str(&distribution(results, title, &rows, pick));
        }
    }
    html.push_str("</div>");
}

fn table_row(html: &mut String, results: &Results, row: &Row) {
    let headline = row.scenario.headline;
    let Some(spread) = row.headline() else {
        let why = row.trouble.as_deref().unwrap_or("not run");
        let _ = write!(html, "<tr><td>{}<td colspan='9'>{}", row.engine, escape(why));
        return;
    };
    let floor = results.floor(&row.scenario.name, |sample| sample.headline(headline), headline.is_rate());
    let floor = floor.map_or("–".to_owned(), |floor| format!("{:.2}", spread.median / floor));
    let middle = |figure: fn(&Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread.median);
    let _ = write!(
        html,
        "<tr><td>{}<td>{}<td>{} … {}<td>{floor}<td>{}<td>{}<td>{}<td>{:.2} + {:.2} µs<td>{:.2}<td>{:.0}",
        row.engine,
        figure(spread.median, headline),
        figure(spread.min, headline),
        figure(spread.max, headline),
        micros(middle(|sample| sample.call_p50)),
        micros(middle(|sample| sample.call_p99)),
        micros(middle(|sample| sample.first_p99)),
        middle(|sample| sample.server_cpu),
        middle(|sample| sample.load_cpu),
        middle(|sample| sample.switches),
        middle(|sample| sample.server_peak as f64) / f64::from(1 << 20),
    );
    if let Some(trouble) = &row.trouble {
        let _ = write!(html, "<tr><td><td colspan='9' class='bad'>{}", escape(trouble));
    }
}

/// One of a row's curves.
type Pick = fn(&Row) -> &Curve;

fn distribution(results: &Results, title: &str, rows: &[&Row], pick: Pick) -> String {
    let series = rows.iter().filter(|row| !pick(row).is_empty()).map(|row| Series {
        name: row.engine.clone(),
        color: color(results, &row.engine),
        points: pick(row).iter().map(|&(share, nanos)| (share, nanos as f64 / 1000.0)).collect(),
    });
    let ticks = [(0.01, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];
    let chart = Chart {
        title: title.to_owned(),
        x_label: "share of calls or items below".to_owned(),
        x_ticks: ticks.iter().map(|&(share, text)| (share, text.to_owned())).collect(),
        x_scale: Scale::Nines,
        y_scale: Scale::Log,
        y_text: micros,
        series: series.collect(),
    };
    chart.draw()
}

fn scenarios(results: &Results) -> Vec<&Scenario> {
    let mut all: Vec<&Scenario> = Vec::new();
    for row in &results.rows {
        if all.iter().all(|scenario| scenario.name != row.scenario.name) {
            all.push(&row.scenario);
        }
    }
    all
}

fn engines(results: &Results) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for row in &results.rows {
        if !all.contains(&row.engine) {
            all.push(row.engine.clone());
        }
    }
    all
}

fn color(results: &Results, engine: &str) -> usize {
    engines(results).iter().position(|other| other == engine).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Machine;

    #[test]
    fn a_page_needs_no_other_file_and_names_every_engine() {
        let scenario = crate::scenarios::all().unwrap().remove(0);
        let mut row = Row::new(scenario, "an-engine".to_owned());
        row.samples = vec![Sample { call_p50: 3.0, ..Sample::default() }];
        row.call = vec![(0.5, 3000), (1.0, 9000)];
        let machine = Machine { at: 0, cpu: "c".to_owned(), cpus: 2, kernel: "k".to_owned(), pinned: true };
        let html = page(&Results { machine, command: "run".to_owned(), rows: vec![row] }).unwrap();
        assert!(html.contains("an-engine") && html.contains("<svg"), "{html}");
        for outside in ["src=", "href=", "url(", "http"] {
            assert!(!html.contains(outside), "the page refers to something by {outside}");
        }
    }
}
