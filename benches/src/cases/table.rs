//! The table of everything that is measured.

use crate::cases::case::Case;
use crate::cases::{bridge, buf, checksum, connection, decide, dynamo, mux, payload, text};

/// Every row, by subject.
pub fn all() -> Vec<Case> {
    let subjects = [
        mux::cases(),
        dynamo::cases(),
        payload::cases(),
        text::cases(),
        checksum::cases(),
        buf::cases(),
        connection::cases(),
        decide::cases(),
        bridge::cases(),
    ];
    subjects.into_iter().flatten().collect()
}

/// The rows whose instructions are counted, in the order of [`all`].
pub fn counted() -> Vec<Case> {
    all().into_iter().filter(|case| case.counted).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::inputs::{crc, no_crc};

    #[test]
    fn every_row_has_a_group_and_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for case in all() {
            let (group, function) = case.group_and_function();
            assert!(!group.is_empty() && !function.is_empty(), "{case:?}");
            assert!(names.insert(case.name.clone()), "{case:?} stands twice");
        }
    }

    #[test]
    fn every_row_runs_with_either_checksum() {
        for case in all() {
            case.warm(crc())();
            case.warm(no_crc())();
        }
    }
}
