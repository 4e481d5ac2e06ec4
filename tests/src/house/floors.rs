//! The floors of a crate: who may import whom, and that nobody goes through a face.

use std::collections::{BTreeMap, BTreeSet};

use super::files::File;
use super::manners::test_modules;
use super::paths::mentions;

/// The floors from the ground up, and the doors between rooms of one floor.
#[derive(Copy, Clone, Debug)]
pub struct Plan<'a> {
    /// The rooms (top-level modules) of each floor, lowest first. A room may import from lower floors.
    pub floors: &'a [&'a [&'a str]],
    /// `(from, to)`: rooms of one floor of which the first may import from the second.
    pub doors: &'a [(&'a str, &'a str)],
}

impl Plan<'_> {
    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|rooms| rooms.contains(&room))
    }

    fn allows(&self, from: &str, to: &str) -> bool {
        match (self.floor(from), self.floor(to)) {
            (Some(here), Some(there)) => {
                from == to || there < here || (there == here && self.doors.contains(&(from, to)))
            }
            _ => false,
        }
    }
}

/// Every violation of `plan` among the files of one crate's `src`, one line each. Files declared under `cfg(test)` are
/// guests: they may visit every room, and no room may lean on them.
pub fn violations(plan: &Plan<'_>, sources: &[File]) -> Vec<String> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(File::module).collect();
    let faces: BTreeSet<Vec<String>> = sources.iter().filter(|file| file.is_face()).map(File::module).collect();
    let guests: Vec<Vec<String>> = sources.iter().flat_map(guests).collect();
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources {
        let here = file.module();
        let Some(room) = here.first() else { continue };
        let guest = guests.iter().any(|guest| here.starts_with(guest));
        if plan.floor(room).is_none() && !guest {
            wrong.push(format!("{}: room `{room}` stands on no floor", file.path));
            continue;
        }
        let mentions = match mentions(&here, &file.text) {
            Ok(mentions) => mentions,
            Err(error) => {
                wrong.push(format!("{}: {error}", file.path));
                continue;
            }
        };
        for mention in mentions {
            let place = format!("{}:{}: `crate::{}`", file.path, mention.line, mention.names.join("::"));
            // The longest leading part that is a module of its own file.
            let split = (0..=mention.names.len()).rev().find(|len| modules.contains(&mention.names[..*len]));
            let target = &mention.names[..split.unwrap_or(0)];
            if target == here.as_slice() {
                continue;
            }
            if target.len() < mention.names.len() && faces.contains(target) {
                wrong.push(format!("{place} goes through a face; name the module that defines it"));
            }
            let Some(to) = target.first() else { continue };
            if guest {
                continue;
            }
            if !plan.allows(room, to) {
                wrong.push(format!("{place} leads from `{room}` to `{to}`, which is not below it"));
            }
            used.insert((room.clone(), to.clone()));
        }
    }
    for (from, to) in plan.doors {
        if !used.contains(&(from.to_string(), to.to_string())) {
            wrong.push(format!("the door from `{from}` to `{to}` is used by nobody; close it"));
        }
    }
    wrong
}

/// The files among `sources` that import each other in a circle, one line for each circle. Test files are left out.
pub fn circles(sources: &[File]) -> Vec<String> {
    let guests: Vec<Vec<String>> = sources.iter().flat_map(guests).collect();
    let is_guest = |here: &[String]| guests.iter().any(|guest| here.starts_with(guest));
    let files: Vec<&File> = sources.iter().filter(|file| !file.is_face() && !is_guest(&file.module())).collect();
    let number: BTreeMap<Vec<String>, usize> = files.iter().map(|file| file.module()).zip(0..).collect();
    // Whom each file imports, then whom it leads to by any way.
    let mut reached: Vec<BTreeSet<usize>> = files.iter().map(|file| imports(file, &number)).collect();
    for middle in 0..files.len() {
        let beyond = reached[middle].clone();
        for there in reached.iter_mut().filter(|there| there.contains(&middle)) {
            there.extend(&beyond);
        }
    }
    let circle = |file: usize| -> Vec<&str> {
        let back = |other: &usize| reached[*other].contains(&file);
        reached[file].iter().filter(|other| back(other)).map(|other| files[*other].path.as_str()).collect()
    };
    let all: BTreeSet<Vec<&str>> = (0..files.len()).map(circle).filter(|circle| !circle.is_empty()).collect();
    all.into_iter().map(|circle| format!("import each other in a circle: {}", circle.join(", "))).collect()
}

/// The files that `file` imports, itself not among them.
fn imports(file: &File, number: &BTreeMap<Vec<String>, usize>) -> BTreeSet<usize> {
    let here = file.module();
    let target = |names: &[String]| (1..=names.len()).rev().find_map(|len| number.get(&names[..len]).copied());
    let all = mentions(&here, &file.text).unwrap_or_default();
    all.iter().filter_map(|mention| target(&mention.names)).filter(|target| number.get(&here) != Some(target)).collect()
}

/// The modules that `file` declares for tests only.
fn guests(file: &File) -> Vec<Vec<String>> {
    let inside = |name| file.module().into_iter().chain([name]).collect();
    test_modules(&file.text).unwrap_or_default().into_iter().map(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan<'_> = Plan { floors: &[&["time", "wire"], &["buf", "retry"], &["mux"]], doors: &[] };

    fn house(extra: &[(&str, &str)]) -> Vec<File> {
        let empty = ["lib", "time", "wire/mod", "wire/parse", "buf/mod", "buf/queue", "retry", "mux"];
        let mut files: Vec<File> =
            empty.into_iter().map(|name| File { path: format!("core/src/{name}.rs"), text: String::new() }).collect();
        for (name, text) in extra {
            files.retain(|file| file.path != format!("core/src/{name}.rs"));
            files.push(File { path: format!("core/src/{name}.rs"), text: (*text).into() });
        }
        files
    }

    fn complaints(name: &str, text: &str) -> Vec<String> {
        violations(&PLAN, &house(&[(name, text)]))
    }

    #[test]
    fn imports_that_run_down_or_stay_in_the_room_pass() {
        assert_eq!(complaints("mux", "use crate::buf::queue::Queue; fn f(at: crate::time::Instant) {}"), [""; 0]);
        assert_eq!(complaints("wire/parse", "use crate::wire::parse::Error; use super::parse::Kind;"), [""; 0]);
        assert_eq!(complaints("time", "mod tests { use super::*; }"), [""; 0]);
    }

    #[test]
    fn an_import_that_climbs_fails_wherever_it_stands() {
        for text in [
            "use crate::mux::M;",
            "fn f() { crate::mux::go() }",
            "fn f() { x!(crate::mux::M) }",
            "use super::super::mux::M;",
        ] {
            let found = complaints("wire/parse", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("leads from `wire` to `mux`"), "{found:?}");
        }
    }

    #[test]
    fn a_step_sideways_needs_a_door_and_a_door_needs_steps() {
        assert_eq!(complaints("retry", "use crate::buf::queue::Queue;").len(), 1);
        let plan = Plan { doors: &[("retry", "buf")], ..PLAN };
        assert_eq!(violations(&plan, &house(&[("retry", "use crate::buf::queue::Queue;")])), [""; 0]);
        assert!(violations(&plan, &house(&[]))[0].contains("used by nobody"));
    }

    #[test]
    fn an_import_through_a_face_or_the_root_fails() {
        for text in [
            "use crate::wire::Error;",
            "use crate::Error;",
            "use crate::*;",
            "use crate::wire::*;",
            "use crate::wire::{parse, Error};",
        ] {
            let found = complaints("mux", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("through a face"), "{found:?}");
        }
        assert!(complaints("wire/parse", "use super::Error;")[0].contains("through a face"));
    }

    #[test]
    fn a_test_file_may_climb_but_not_lean_on_a_face_and_nobody_leans_on_it() {
        let declared = ("retry", "#[cfg(test)] mod tests;");
        let check = |text| violations(&PLAN, &house(&[declared, ("retry/tests", text)]));
        assert_eq!(check("use crate::mux::M;"), [""; 0]);
        assert_eq!(check("use crate::wire::Error;").len(), 1);
        let undeclared = violations(&PLAN, &house(&[("retry/tests", "use crate::mux::M;")]));
        assert_eq!(undeclared.len(), 1);
        let harness = [("lib", "#[cfg(test)] mod harness;"), ("harness", "use crate::mux::M;")];
        assert_eq!(violations(&PLAN, &house(&harness)), [""; 0]);
        let leaning = [harness[0], harness[1], ("mux", "use crate::harness::Net;")];
        assert_eq!(violations(&PLAN, &house(&leaning)).len(), 1);
    }

    #[test]
    fn a_circle_of_files_is_found_within_a_room_and_across_rooms() {
        assert_eq!(circles(&house(&[("mux", "use crate::wire::parse::P;")])), [""; 0]);
        let two = [("wire/parse", "use crate::wire::text::T;"), ("wire/text", "use super::parse::P;")];
        assert_eq!(
            circles(&house(&two)),
            ["import each other in a circle: core/src/wire/parse.rs, core/src/wire/text.rs"]
        );
        let three = [
            ("buf/queue", "use crate::wire::parse::P;"),
            ("wire/parse", "fn f() { crate::time::now() }"),
            ("time", "use crate::buf::queue::Queue;"),
        ];
        assert_eq!(circles(&house(&three)).len(), 1);
    }

    #[test]
    fn a_test_file_makes_no_circle() {
        let files = [("retry", "#[cfg(test)] mod tests; use crate::time::T;"), ("retry/tests", "use crate::retry::R;")];
        assert_eq!(circles(&house(&files)), [""; 0]);
    }

    #[test]
    fn a_room_without_a_floor_fails() {
        assert!(complaints("cellar", "")[0].contains("stands on no floor"));
    }
}
