//! Instruction counts of functions against a baseline: a rise of more than 3 % fails, and says which function and by how
//! much.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// By how many percent a function's instructions may rise or fall without a word.
pub const TOLERANCE: u64 = 3;

/// What was counted, and where. Function names and properties of the machine in alphabetical order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// What the counts depend on besides our code: compiler, valgrind, C library, processor.
    pub environment: BTreeMap<String, String>,
    /// Instructions of one run, by function.
    pub instructions: BTreeMap<String, u64>,
}

/// How a function or the environment differs from the baseline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Counts of different environments cannot be compared.
    Environment {
        /// What differs.
        what: String,
        /// In the baseline; empty if it says nothing.
        before: String,
        /// Here; empty if not known.
        after: String,
    },
    /// More instructions than the tolerance allows.
    Rise {
        /// The function's name.
        function: String,
        /// Instructions in the baseline.
        before: u64,
        /// Instructions now.
        after: u64,
    },
    /// Fewer by more than the tolerance: good, but a later rise would hide behind the old number.
    Fall {
        /// The function's name.
        function: String,
        /// Instructions in the baseline.
        before: u64,
        /// Instructions now.
        after: u64,
    },
    /// Counted, and not in the baseline.
    New {
        /// The function's name.
        function: String,
        /// Instructions now.
        after: u64,
    },
    /// In the baseline, and not counted any more.
    Gone {
        /// The function's name.
        function: String,
    },
}

impl Counts {
    /// How `now` differs from this baseline. Functions are compared only if the environments are the same.
    pub fn compare(&self, now: &Self) -> Vec<Difference> {
        if self.environment != now.environment {
            return environments(&self.environment, &now.environment);
        }
        let functions: BTreeSet<&String> = self.instructions.keys().chain(now.instructions.keys()).collect();
        let difference = |function: &String| match (self.instructions.get(function), now.instructions.get(function)) {
            (Some(&before), Some(&after)) => moved(function, before, after),
            (None, Some(&after)) => Some(Difference::New { function: function.clone(), after }),
            _ => Some(Difference::Gone { function: function.clone() }),
        };
        functions.into_iter().filter_map(difference).collect()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The JSON form, one function a line, as it is committed.
    ///
    /// # Panics
    /// Never: texts and numbers are JSON.
    pub fn write(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        json.push('\n');
        json
    }
}

impl Difference {
    /// Whether the check fails because of it. Only a fall is good news.
    pub const fn fails(&self) -> bool {
        !matches!(self, Self::Fall { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment { what, before, after } => {
                write!(f, "other {what}: the baseline holds for \"{before}\", this is \"{after}\"")
            }
            Self::Rise { function, before, after } => {
                let permille = per_mille(*before, *after);
                write!(f, "rise: {function}: {before} -> {after}, +{}.{} %", permille / 10, permille % 10)
            }
            Self::Fall { function, before, after } => {
                let permille = per_mille(*before, *after);
                write!(f, "fall: {function}: {before} -> {after}, -{}.{} %", permille / 10, permille % 10)
            }
            Self::New { function, after } => write!(f, "new: {function}: {after}, not in the baseline"),
            Self::Gone { function } => write!(f, "gone: {function} is in the baseline and not counted"),
        }
    }
}

fn environments(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Difference> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |of: &BTreeMap<String, String>, what| of.get(what).cloned().unwrap_or_default();
    let differences = names.into_iter().map(|what| Difference::Environment {
        what: what.clone(),
        before: value(before, what),
        after: value(after, what),
    });
    differences
        .filter(|difference| !matches!(difference, Difference::Environment { before, after, .. } if before == after))
        .collect()
}

fn moved(function: &str, before: u64, after: u64) -> Option<Difference> {
    let function = function.to_owned();
    if after * 100 > before * (100 + TOLERANCE) {
        Some(Difference::Rise { function, before, after })
    } else if after * 100 < before * (100 - TOLERANCE) {
        Some(Difference::Fall { function, before, after })
    } else {
        None
    }
}

/// The difference in tenths of a percent of `before`.
const fn per_mille(before: u64, after: u64) -> u64 {
    match (after.abs_diff(before) * 1000).checked_div(before) {
        Some(permille) => permille,
        None => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(functions: &[(&str, u64)]) -> Counts {
        Counts {
            environment: BTreeMap::from([("rustc".into(), "1.95.0".into())]),
            instructions: functions.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        }
    }

    fn said(before: &[(&str, u64)], after: &[(&str, u64)]) -> Vec<(String, bool)> {
        let differences = counts(before).compare(&counts(after));
        differences.iter().map(|difference| (difference.to_string(), difference.fails())).collect()
    }

    #[test]
    fn up_to_three_percent_either_way_nothing_is_said() {
        for after in [970, 1000, 1030] {
            assert_eq!(said(&[("f", 1000)], &[("f", after)]), []);
        }
        assert_eq!(said(&[("f", 10)], &[("f", 10)]), []);
    }

    #[test]
    fn a_rise_of_more_than_three_percent_fails_with_name_before_after_and_percent() {
        assert_eq!(said(&[("f", 1000)], &[("f", 1031)]), [("rise: f: 1000 -> 1031, +3.1 %".to_owned(), true)]);
        assert_eq!(said(&[("f", 10)], &[("f", 25)]), [("rise: f: 10 -> 25, +150.0 %".to_owned(), true)]);
        assert_eq!(said(&[("f", 0)], &[("f", 1)]), [("rise: f: 0 -> 1, +100.0 %".to_owned(), true)]);
    }

    #[test]
    fn a_fall_of_more_than_three_percent_is_told_and_does_not_fail() {
        assert_eq!(said(&[("f", 1000)], &[("f", 969)]), [("fall: f: 1000 -> 969, -3.1 %".to_owned(), false)]);
    }

    #[test]
    fn the_baseline_names_exactly_what_is_counted() {
        assert_eq!(said(&[], &[("f", 7)]), [("new: f: 7, not in the baseline".to_owned(), true)]);
        assert_eq!(said(&[("f", 7)], &[]), [("gone: f is in the baseline and not counted".to_owned(), true)]);
    }

    #[test]
    fn another_compiler_fails_and_no_function_is_compared() {
        let (before, mut after) = (counts(&[("f", 1000)]), counts(&[("f", 2000)]));
        after.environment.insert("rustc".into(), "1.96.0".into());
        after.environment.insert("valgrind".into(), "3.19.0".into());
        let said: Vec<String> = before.compare(&after).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "other rustc: the baseline holds for \"1.95.0\", this is \"1.96.0\"",
                "other valgrind: the baseline holds for \"\", this is \"3.19.0\"",
            ]
        );
        assert!(before.compare(&after).iter().all(Difference::fails));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let counts = counts(&[("mux/head parse", 123), ("ack/parse", 45)]);
        assert_eq!(Counts::read(&counts.write()).ok(), Some(counts));
    }
}
