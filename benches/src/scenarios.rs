//! The scenarios that come with the program.

use crate::engine::Result;
use crate::scenario::Scenario;

/// Their texts, in the order in which they are shown and run. A new one is a file and a line here.
const TEXTS: &[&str] = &[
    include_str!("../scenarios/ping-pong.toml"),
    include_str!("../scenarios/ping-pong-sleep.toml"),
    include_str!("../scenarios/ping-pong-spin.toml"),
    include_str!("../scenarios/unary-64-1.toml"),
    include_str!("../scenarios/unary-64-4.toml"),
    include_str!("../scenarios/unary-64-64.toml"),
    include_str!("../scenarios/unary-1024-1.toml"),
    include_str!("../scenarios/unary-1024-4.toml"),
    include_str!("../scenarios/unary-1024-64.toml"),
    include_str!("../scenarios/unary-open.toml"),
    include_str!("../scenarios/tokens-64x128x128.toml"),
    include_str!("../scenarios/tokens-1024x32x64.toml"),
    include_str!("../scenarios/paced-tokens.toml"),
    include_str!("../scenarios/body-1m-up.toml"),
    include_str!("../scenarios/body-1m-down.toml"),
    include_str!("../scenarios/body-16m-up.toml"),
    include_str!("../scenarios/body-16m-down.toml"),
    include_str!("../scenarios/mixed.toml"),
    include_str!("../scenarios/mixed-alone.toml"),
    include_str!("../scenarios/slow-reader.toml"),
    include_str!("../scenarios/slow-reader-alone.toml"),
    include_str!("../scenarios/idle-10000.toml"),
    include_str!("../scenarios/churn.toml"),
];

/// All of them.
///
/// # Errors
/// The first that is wrong.
pub fn all() -> Result<Vec<Scenario>> {
    TEXTS.iter().map(|text| Scenario::parse(text).map_err(Into::into)).collect()
}

/// Those that are called, or whose names begin with, one of `wanted`, and the baselines they are compared with; all of
/// them if none are wanted.
///
/// # Errors
/// If nothing has such a name.
pub fn select(wanted: &[String]) -> Result<Vec<Scenario>> {
    let all = all()?;
    if wanted.is_empty() {
        return Ok(all);
    }
    let names: Vec<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
    let mut chosen = Vec::new();
    for want in wanted {
        let exact = names.contains(&want.as_str());
        let found: Vec<&str> =
            names.iter().copied().filter(|name| name == want || (!exact && name.starts_with(want.as_str()))).collect();
        if found.is_empty() {
            return Err(format!("no scenario is called {want}; there are {}", names.join(", ")).into());
        }
        chosen.extend(found.into_iter().map(str::to_owned));
    }
    let baselines: Vec<String> =
        all.iter().filter(|one| chosen.contains(&one.name)).filter_map(|one| one.baseline.clone()).collect();
    chosen.extend(baselines);
    Ok(all.into_iter().filter(|one| chosen.contains(&one.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_well_formed_and_every_baseline_exists() {
        let all = all().unwrap();
        for scenario in &all {
            let same = all.iter().filter(|other| other.name == scenario.name).count();
            assert_eq!(same, 1, "{} is there twice", scenario.name);
            let baseline = scenario.baseline.as_ref();
            assert!(baseline.is_none_or(|name| all.iter().any(|other| other.name == *name)), "{}", scenario.name);
        }
    }

    #[test]
    fn a_scenario_brings_its_baseline_and_a_prefix_brings_all_it_fits() {
        let names = |wanted: &str| select(&[wanted.to_owned()]).unwrap().len();
        assert_eq!((names("mixed"), names("unary-64"), names("ping-pong")), (2, 3, 1));
        assert!(select(&["nothing".to_owned()]).is_err());
    }
}
