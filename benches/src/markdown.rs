//! Results as the tables of `docs/performance.md`.

use std::fmt::Write;

use crate::engine::{Offers, Result};
use crate::engines::ALL;
use crate::goals::{Verdict, verdicts};
use crate::results::Results;
use crate::table::{count, figure, micros, unit};

/// Where the tables begin in a document.
pub const BEGIN: &str = "<!-- results: written by `ringplane-benches report` -->";
/// Where they end.
pub const END: &str = "<!-- end of results -->";

/// `document` with `tables` between its marks.
///
/// # Errors
/// If a mark is missing.
pub fn fill(document: &str, tables: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).ok_or("the document has no mark where results begin")?;
    let (_, after) = rest.split_once(END).ok_or("the document has no mark where results end")?;
    Ok(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

/// A day and a time, from seconds since 1970.
pub fn date(at: u64) -> String {
    let (mut day, seconds) = (at / 86_400, at % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let day = day + 1;
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

fn measured(results: &Results) -> String {
    let machine = &results.machine;
    format!(
        "Measured {} (UTC) with `ringplane-benches {}` on {} × {}, Linux {}, {}.\n",
        date(machine.at),
        results.command,
        machine.cpus,
        machine.cpu,
        machine.kernel,
        if machine.pinned { "server and load pinned to a CPU each" } else { "not pinned" }
    )
}

/// What each engine of `results` does for its users beside moving bytes.
fn offers(results: &Results) -> String {
    let mut text = "\n### What engines do beside moving bytes\n\n| engine | deadline | credit | cancel | typed end | checksum |\n|---|---|---|---|---|---|\n".to_owned();
    for engine in ALL.iter().filter(|engine| results.rows.iter().any(|row| row.engine == engine.name())) {
        let Offers { deadline, credit, cancel, end, checksum } = engine.offers();
        let _ = writeln!(text, "| {} | {deadline} | {credit} | {cancel} | {end} | {checksum} |", engine.name());
    }
    text
}

/// The goals, and what they do not weigh.
///
/// # Errors
/// If the goals cannot be read.
pub fn goal_tables(results: &Results) -> Result<String> {
    let mut text = measured(results);
    let all = verdicts(results)?;
    text.push_str("\n### Goals\n\n| goal | command | against | limit | ratio | of the rounds | |\n|---|---|---|---|---|---|---|\n");
    for verdict in all.iter().filter(|verdict| !verdict.every) {
        let command = format!("`run {}`", verdict.scenario);
        let (ratio, rounds) = ratio(verdict.ratio);
        let (goal, against, limit, word) = (&verdict.goal, &verdict.against, &verdict.limit, verdict.word());
        let _ = writeln!(text, "| {goal} | {command} | {against} | {limit} | {ratio} | {rounds} | {word} |");
    }
    for goal in everywhere(&all) {
        let Some(first) = goal.first() else { continue };
        let judged: Vec<_> = goal.iter().filter(|verdict| verdict.reached.is_some()).collect();
        let met = judged.iter().filter(|verdict| verdict.word() == "met").count();
        let (goal, against, limit, all) = (&first.goal, &first.against, &first.limit, judged.len());
        let _ = writeln!(text, "| {goal} | `run` | {against} | {limit} | see appendix | | met in {met} of {all} |");
    }
    Ok(text + &offers(results))
}

/// Verdicts of goals that hold in every scenario, by goal and by what it is compared with.
fn everywhere(all: &[Verdict]) -> impl Iterator<Item = &[Verdict]> {
    all.chunk_by(|a, b| a.goal == b.goal && a.against == b.against).filter(|goal| goal.iter().all(|one| one.every))
}

/// Goals that hold in every scenario, scenario by scenario, then every cell.
///
/// # Errors
/// If the goals cannot be read.
pub fn all_tables(results: &Results) -> Result<String> {
    let mut text = measured(results);
    for goal in everywhere(&verdicts(results)?) {
        let Some(first) = goal.first() else { continue };
        let _ = writeln!(text, "\n### {}: {} of {}\n", first.goal, first.limit, first.against);
        text.push_str("| `run` | ratio | of the rounds | |\n|---|---|---|---|\n");
        for verdict in goal {
            let (ratio, rounds) = ratio(verdict.ratio);
            let _ = writeln!(text, "| {} | {ratio} | {rounds} | {} |", verdict.scenario, verdict.word());
        }
    }
    text.push_str("\n### Every cell\n\nMedians; in brackets the extremes of the rounds.\n\n");
    text.push_str("| scenario | engine | figure | | × floor | call p99 | CPU µs, server + load | peak MiB, server + load |\n|---|---|---|---|---|---|---|---|\n");
    for row in &results.rows {
        let headline = row.scenario.headline;
        let Some(spread) = row.headline() else {
            let why = row.trouble.as_deref().unwrap_or("not run");
            let _ = writeln!(text, "| {} | {} | {} | {why} | | | | |", row.scenario.name, row.engine, unit(headline));
            continue;
        };
        let floor = results.floor(&row.scenario.name, |sample| sample.headline(headline), headline.is_rate());
        let middle =
            |figure: fn(&crate::results::Sample) -> f64| row.spread(figure).map_or(0.0, |spread| spread.median);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} [{} … {}] | {} | {} | {:.2} + {:.2} | {:.0} + {:.0} |",
            row.scenario.name,
            row.engine,
            unit(headline),
            figure(spread.median, headline),
            figure(spread.min, headline),
            figure(spread.max, headline),
            floor.map_or("–".to_owned(), |floor| format!("{:.2}", spread.median / floor)),
            micros(middle(|sample| sample.call_p99)),
            middle(|sample| sample.server_cpu),
            middle(|sample| sample.load_cpu),
            middle(|sample| sample.server_peak as f64 / f64::from(1 << 20)),
            middle(|sample| sample.load_peak as f64 / f64::from(1 << 20)),
        );
    }
    Ok(text)
}

fn ratio(ratio: Option<(f64, f64, f64)>) -> (String, String) {
    let show = |value: f64| if value >= 1000.0 { count(value) } else { format!("{value:.2}") };
    match ratio {
        Some((median, least, most)) => (show(median), format!("{} … {}", show(least), show(most))),
        None => ("–".to_owned(), "–".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Machine;

    #[test]
    fn a_date_is_the_day_it_was() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_827_696), "2000-02-29 12:34");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59");
    }

    #[test]
    fn results_replace_what_lies_between_the_marks_and_nothing_else() {
        let machine = Machine { at: 0, cpu: "c".to_owned(), cpus: 2, kernel: "k".to_owned(), pinned: true };
        let results = Results { machine, command: "run".to_owned(), rows: Vec::new() };
        let filled = fill(&format!("before {BEGIN} old {END} after"), &goal_tables(&results).unwrap()).unwrap();
        assert!(filled.starts_with("before ") && filled.ends_with(" after") && !filled.contains(" old "), "{filled}");
        assert!(fill("no marks", "").is_err());
    }
}
