//! What is to be reached, and whether a run reaches it.

use serde::Deserialize;

use crate::engine::Result;
use crate::results::{Results, Row, Sample};
use crate::scenario::{Headline, Scenario};

/// The engine whose goals these are, unless they say otherwise.
pub const ENGINE: &str = "ringplane-io-uring";
/// The scenario of a goal that holds in all of them.
pub const EVERY: &str = "every";

const TEXT: &str = include_str!("../goals.toml");

/// One figure and its limits.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// What is to be good.
    pub name: String,
    /// Where it is measured; [`EVERY`]: wherever both sides are.
    pub scenario: String,
    /// What is compared.
    pub figure: Figure,
    /// Whose it is, if not [`ENGINE`]'s.
    #[serde(default = "usual")]
    pub engine: String,
    /// Against what, and how far it may be off: an engine, a family of engines (`floor`: the better of all `floor-…`),
    /// several of these (`velo+zeromq`: the better of all), `node` (node to node by the same driver), `alone` (the
    /// scenario's baseline on the same engine) or `nothing` (the figure itself).
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
    /// The figure by which engines are compared on the scenario, as a rate: one divided by it if it is a time.
    Headline,
}

impl Figure {
    /// Its value.
    pub fn of(self, sample: &Sample, headline: Headline) -> f64 {
        match self {
            Self::Headline if headline.is_rate() => sample.headline(headline),
            Self::Headline => 1.0 / sample.headline(headline).max(1e-9),
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
        matches!(self, Self::Calls | Self::Items | Self::Bytes | Self::Headline)
    }
}

/// What a run says of one limit.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// The goal's name.
    pub goal: String,
    /// Whether the goal is one of every scenario.
    pub every: bool,
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
    let mut verdicts = Vec::new();
    for goal in goals()? {
        for scenario in scenarios(results, &goal) {
            verdicts.extend(goal.limits.iter().filter_map(|limit| judge(results, &goal, scenario, limit)));
        }
    }
    Ok(verdicts)
}

/// All goals, in the order in which they are shown.
///
/// # Errors
/// If they cannot be read.
pub fn goals() -> Result<Vec<Goal>> {
    #[derive(Deserialize)]
    struct File {
        goal: Vec<Goal>,
    }
    let File { goal } = toml::from_str(TEXT)?;
    Ok(goal)
}

impl Goal {
    /// Whether `engine` in `scenario` has a part in it.
    pub fn needs(&self, engine: &str, scenario: &Scenario) -> bool {
        let here = self.scenario == EVERY || self.scenario == scenario.name;
        let baseline = scenario.name.ends_with(ALONE) && self.scenario == scenario.name.replace(ALONE, "");
        (here || baseline)
            && (engine == self.engine || self.limits.iter().any(|(against, ..)| self.is_against(against, engine)))
    }

    /// Whether `engine` is among those that `against` names.
    fn is_against(&self, against: &str, engine: &str) -> bool {
        against.split('+').any(|name| match name {
            "node" => engine == node(&self.engine),
            name => engine == name || engine.strip_prefix(name).is_some_and(|rest| is_family(name, rest)),
        })
    }
}

/// How the names of baselines end.
const ALONE: &str = "-alone";

/// Whether the engine called `name` and then `rest` is of the family `name`. ringplane's engines are no family: each has
/// goals of its own.
fn is_family(name: &str, rest: &str) -> bool {
    rest.starts_with('-') && !name.starts_with("ringplane")
}

/// The engine that calls and serves by the node, on the driver of this one.
fn node(engine: &str) -> String {
    engine.trim_end_matches("-mt").replace("-client-", "-").replace("-remote-", "-").replace("-here-", "-")
}

/// The scenarios in which `goal` is judged.
fn scenarios<'a>(results: &'a Results, goal: &'a Goal) -> Vec<&'a str> {
    if goal.scenario != EVERY {
        return vec![&goal.scenario];
    }
    let own = results.rows.iter().filter(|row| row.engine == goal.engine);
    own.map(|row| row.scenario.name.as_str()).collect()
}

/// `None`: a goal of every scenario, and this one has nothing to compare.
fn judge(
    results: &Results,
    goal: &Goal,
    scenario: &str,
    (against, side, limit): &(String, Side, f64),
) -> Option<Verdict> {
    let every = goal.scenario == EVERY;
    let ratio = ratio(results, goal, scenario, against);
    if every && ratio.is_none() {
        return None;
    }
    let reached = ratio.map(|(median, ..)| match side {
        Side::AtMost => limit / median.max(1e-9),
        Side::AtLeast => median / limit,
    });
    let sign = if *side == Side::AtMost { "≤" } else { "≥" };
    let times = if against == "nothing" { "" } else { " ×" };
    Some(Verdict {
        goal: goal.name.clone(),
        every,
        scenario: scenario.to_owned(),
        against: against.clone(),
        limit: format!("{sign} {limit}{times}"),
        ratio,
        reached,
    })
}

fn ratio(results: &Results, goal: &Goal, scenario: &str, against: &str) -> Option<(f64, f64, f64)> {
    let own = results.row(scenario, &goal.engine)?;
    let figure = |sample: &Sample| goal.figure.of(sample, own.scenario.headline);
    if against == "nothing" {
        return own.spread(figure).map(|spread| (spread.median, spread.min, spread.max));
    }
    let here = |row: &&Row| row.scenario.name == scenario && goal.is_against(against, &row.engine);
    let others: Vec<&Row> = match against {
        "alone" => results.row(own.scenario.baseline.as_deref()?, &goal.engine).into_iter().collect(),
        _ => results.rows.iter().filter(here).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::{ALL, find};
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
    fn every_goal_is_of_a_scenario_and_of_engines_that_exist() {
        let scenarios = all().unwrap();
        for goal in goals().unwrap() {
            assert!(find(&goal.engine).is_some(), "{}", goal.engine);
            let here = scenarios.iter().filter(|one| goal.scenario == EVERY || goal.scenario == one.name);
            assert!(here.count() > 0, "{}", goal.scenario);
            for (against, ..) in &goal.limits {
                let known = |name: &str| ALL.iter().any(|engine| goal.is_against(name, engine.name()));
                let special = ["alone", "nothing"].contains(&against.as_str());
                assert!(special || against.split('+').all(known), "{against}");
            }
        }
    }

    #[test]
    fn a_goal_needs_its_engine_those_it_is_compared_with_and_its_baseline() {
        let scenarios = all().unwrap();
        let needed = |scenario: &str, engine: &str| {
            let scenario = scenarios.iter().find(|one| one.name == scenario).unwrap();
            goals().unwrap().iter().any(|goal| goal.needs(engine, scenario))
        };
        assert!(needed("unary-64-1", "ringplane-client-io-uring") && needed("unary-64-1", "floor-epoll"));
        assert!(needed("mixed-alone", ENGINE) && needed("churn", "ringplane-tokio"));
        assert!(!needed("churn", "floor-epoll") && !needed("unary-64-1", "ringplane-monoio"));
    }

    #[test]
    fn a_goal_is_met_or_missed_by_the_ratio_of_medians_to_the_better_floor() {
        let results = results(&[
            ("floor-epoll", [100.0, 90.0, 80.0]),
            ("floor-uring", [10.0, 10.0, 10.0]),
            (ENGINE, [40.0, 30.0, 30.0]),
            ("ringplane-tokio", [20.0, 20.0, 20.0]),
            ("ringplane-client-io-uring", [18.0, 18.0, 18.0]),
            ("zeromq-libzmq", [12.0, 12.0, 12.0]),
            ("zeromq-rust", [36.0, 36.0, 36.0]),
        ]);
        let all = verdicts(&results).unwrap();
        let floor = all.iter().find(|one| one.scenario == "unary-64-1" && one.against == "floor").unwrap();
        assert_eq!(floor.ratio, Some((30.0 / 90.0, 30.0 / 90.0, 40.0 / 100.0)));
        assert_eq!(floor.word(), "missed by 1.50 ×");
        let client =
            |against: &str| all.iter().find(|one| one.goal.contains("handler on the core") && one.against == against);
        assert_eq!(client("node").unwrap().ratio, Some((0.6, 0.45, 0.6)));
        assert_eq!(client("zeromq-libzmq").unwrap().word(), "met");
        let every = |against: &str| all.iter().find(|one| one.every && one.against == against).unwrap();
        assert_eq!(
            (every("ringplane-tokio").word(), every("ringplane-tokio").scenario.as_str()),
            ("met".to_owned(), "unary-64-1")
        );
        // The better of both families.
        assert_eq!(every("velo+zeromq").ratio, Some((0.5, 0.5, 0.5)));
        assert_eq!(all.iter().find(|one| one.against == "tonic").unwrap().word(), "not measured");
    }
}
