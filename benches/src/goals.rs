//! What is to be reached, and whether a run reaches it.

use serde::Deserialize;

use crate::engine::Result;
use crate::results::{Results, Row, Sample};
use crate::scenario::Headline;

/// The engine whose goals these are, unless they say otherwise.
pub const ENGINE: &str = "ringplane-io-uring";
/// The engine it may not fall behind.
pub const SIBLING: &str = "ringplane-tokio";
/// The least it may reach of the sibling's figure, in any scenario.
pub const SIBLING_LIMIT: f64 = 0.95;

const TEXT: &str = include_str!("../goals.toml");

/// One figure and its limits.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// What is to be good.
    pub name: String,
    /// Where it is measured.
    pub scenario: String,
    /// What is compared.
    pub figure: Figure,
    /// Whose it is, if not [`ENGINE`]'s.
    #[serde(default = "usual")]
    pub engine: String,
    /// Against what, and how far it may be off.
    pub limits: Vec<(String, Side, f64)>,
}

fn usual() -> String {
    ENGINE.to_owned()
}

/// On which side of a limit a goal lies.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Less is better.
    AtMost,
    /// More is better.
    AtLeast,
}

/// A figure of a sample.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Calls per second.
    Calls,
    /// Items per second.
    Items,
    /// Bytes per second.
    Bytes,
    /// Median latency of a call.
    CallP50,
    /// 99th percentile of the gap error.
    GapP99,
    /// CPU per call, both sides.
    Cpu,
    /// Memory per idle connection.
    Idle,
}

impl Figure {
    /// Its value.
    pub const fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Calls => sample.headline(Headline::Calls),
            Self::Items => sample.headline(Headline::Items),
            Self::Bytes => sample.headline(Headline::Bytes),
            Self::CallP50 => sample.headline(Headline::CallP50),
            Self::GapP99 => sample.headline(Headline::GapP99),
            Self::Cpu => sample.server_cpu + sample.load_cpu,
            Self::Idle => sample.idle,
        }
    }

    const fn is_rate(self) -> bool {
        matches!(self, Self::Calls | Self::Items | Self::Bytes)
    }
}

/// What a run says of one limit.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// The goal's name.
    pub goal: String,
    /// Where it is measured.
    pub scenario: String,
    /// Against what.
    pub against: String,
    /// The limit, for people.
    pub limit: String,
    /// Ratio of medians, and the extremes of the rounds' ratios; `None`: not measured.
    pub ratio: Option<(f64, f64, f64)>,
    /// How much of the goal is reached: 1 or more is met.
    pub reached: Option<f64>,
}

impl Verdict {
    /// In a word or two.
    pub fn word(&self) -> String {
        match self.reached {
            None => "not measured".to_owned(),
            Some(reached) if reached >= 1.0 => "met".to_owned(),
            Some(reached) => format!("missed by {:.2} ×", 1.0 / reached.max(1e-9)),
        }
    }
}

/// What `results` say of every goal.
///
/// # Errors
/// If the goals cannot be read.
pub fn verdicts(results: &Results) -> Result<Vec<Verdict>> {
    #[derive(Deserialize)]
    struct File {
        goal: Vec<Goal>,
    }
    let File { goal } = toml::from_str(TEXT)?;
    let mut verdicts: Vec<Verdict> =
        goal.iter().flat_map(|goal| goal.limits.iter().map(|limit| judge(results, goal, limit))).collect();
    verdicts.extend(siblings(results));
    Ok(verdicts)
}

fn judge(results: &Results, goal: &Goal, (against, side, limit): &(String, Side, f64)) -> Verdict {
    let ratio = ratio(results, goal, against);
    let reached = ratio.map(|(median, ..)| match side {
        Side::AtMost => limit / median.max(1e-9),
        Side::AtLeast => median / limit,
    });
    let sign = if *side == Side::AtMost { "≤" } else { "≥" };
    let times = if against == "nothing" { "" } else { " ×" };
    Verdict {
        goal: goal.name.clone(),
        scenario: goal.scenario.clone(),
        against: against.clone(),
        limit: format!("{sign} {limit}{times}"),
        ratio,
        reached,
    }
}

fn ratio(results: &Results, goal: &Goal, against: &str) -> Option<(f64, f64, f64)> {
    let figure = |sample: &Sample| goal.figure.of(sample);
    let own = results.row(&goal.scenario, &goal.engine)?;
    if against == "nothing" {
        return own.spread(figure).map(|spread| (spread.median, spread.min, spread.max));
    }
    let others: Vec<&Row> = match against {
        "floor" => results
            .rows
            .iter()
            .filter(|row| row.scenario.name == goal.scenario && row.engine.starts_with("floor"))
            .collect(),
        "alone" => results.row(own.scenario.baseline.as_deref()?, &goal.engine).into_iter().collect(),
        engine => results.row(&goal.scenario, engine).into_iter().collect(),
    };
    let better = |a: f64, b: f64| if goal.figure.is_rate() { a.max(b) } else { a.min(b) };
    let other = others.iter().filter_map(|row| row.spread(figure)).map(|spread| spread.median).reduce(better)?;
    let rounds = own.samples.iter().enumerate().filter_map(|(round, sample)| {
        let same = others.iter().filter_map(|row| row.samples.get(round)).map(figure).reduce(better)?;
        Some(figure(sample) / same)
    });
    let (least, most) = rounds.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
    Some((own.spread(figure)?.median / other, least, most))
}

/// In no scenario may the io_uring driver fall behind the tokio driver.
fn siblings(results: &Results) -> Vec<Verdict> {
    let own = results.rows.iter().filter(|row| row.engine == ENGINE);
    let compared = own.filter_map(|row| {
        let sibling = results.row(&row.scenario.name, SIBLING)?;
        let headline = row.scenario.headline;
        // As a rate: more is better.
        let rate = |value: f64| if headline.is_rate() { value } else { 1.0 / value.max(1e-9) };
        let ratio = rate(row.headline()?.median) / rate(sibling.headline()?.median);
        let rounds = row.samples.iter().zip(&sibling.samples);
        let each = rounds.map(|(a, b)| rate(a.headline(headline)) / rate(b.headline(headline)));
        let (least, most) = each.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
        Some(Verdict {
            goal: "io_uring beside tokio".to_owned(),
            scenario: row.scenario.name.clone(),
            against: SIBLING.to_owned(),
            limit: format!("≥ {SIBLING_LIMIT} ×"),
            ratio: Some((ratio, least, most)),
            reached: Some(ratio / SIBLING_LIMIT),
        })
    });
    compared.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Machine;
    use crate::scenarios::all;

    fn results(engines: &[(&str, [f64; 3])]) -> Results {
        let scenario = all().unwrap().into_iter().find(|scenario| scenario.name == "unary-64-1").unwrap();
        let row = |&(engine, calls): &(&str, [f64; 3])| {
            let mut row = Row::new(scenario.clone(), engine.to_owned());
            row.samples = calls.map(|calls| Sample { calls, ..Sample::default() }).to_vec();
            row
        };
        let machine = Machine { at: 0, cpu: String::new(), cpus: 1, kernel: String::new(), pinned: true };
        Results { machine, command: String::new(), rows: engines.iter().map(row).collect() }
    }

    #[test]
    fn every_goal_is_of_a_scenario_that_exists() {
        let names: Vec<String> = all().unwrap().into_iter().map(|scenario| scenario.name).collect();
        for verdict in verdicts(&results(&[])).unwrap() {
            assert!(names.contains(&verdict.scenario), "{}", verdict.scenario);
        }
    }

    #[test]
    fn a_goal_is_met_or_missed_by_the_ratio_of_medians_to_the_better_floor() {
        let results = results(&[
            ("floor-epoll", [100.0, 90.0, 80.0]),
            ("floor-uring", [10.0, 10.0, 10.0]),
            (ENGINE, [40.0, 30.0, 30.0]),
            (SIBLING, [20.0, 20.0, 20.0]),
        ]);
        let all = verdicts(&results).unwrap();
        let floor = all.iter().find(|one| one.scenario == "unary-64-1" && one.against == "floor").unwrap();
        assert_eq!(floor.ratio, Some((30.0 / 90.0, 30.0 / 90.0, 40.0 / 100.0)));
        assert_eq!(floor.word(), "missed by 1.50 ×");
        assert_eq!(all.iter().find(|one| one.against == SIBLING).unwrap().word(), "met");
        assert_eq!(all.iter().find(|one| one.against == "tonic").unwrap().word(), "not measured");
    }
}
