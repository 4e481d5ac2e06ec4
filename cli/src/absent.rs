//! What a place has instead of the instance that a call looked for.

use std::collections::BTreeSet;
use std::time::Duration;

use ringplane::discovery::Backend;
use ringplane_core::discovery::instance::Instance;
use ringplane_core::discovery::key::Query;
use ringplane_core::id::EndpointId;

use crate::exit::{Exit, Failed};

/// Names that are told.
const TOLD: usize = 8;
/// The longest that a look at what there is may take.
const LOOK: Duration = Duration::from_secs(2);

/// A bad end with what is there, if the end is that there is no instance; another one as it is.
pub(crate) async fn explained(failed: Failed, wanted: &EndpointId, url: &str, backend: &dyn Backend) -> Failed {
    if failed.exit != Exit::NoInstances {
        return failed;
    }
    match tokio::time::timeout(LOOK, backend.endpoints().list(Query::All)).await {
        Ok(Ok(there)) => Failed::new(failed.exit, told(wanted, url, &there)),
        _ => Failed::new(failed.exit, format_args!("no instance of {wanted} in {url}")),
    }
}

fn told(wanted: &EndpointId, url: &str, there: &[Instance]) -> String {
    let ids: BTreeSet<String> =
        there.iter().filter(|one| one.endpoint == *wanted).map(|one| one.id.to_string()).collect();
    if !ids.is_empty() {
        return format!("no such instance of {wanted} in {url}; known there: {}", some(ids.into_iter().collect()));
    }
    let names: BTreeSet<String> = there.iter().map(|one| one.endpoint.to_string()).collect();
    if names.is_empty() {
        return format!("no instance of {wanted} in {url}; none of any endpoint is known there");
    }
    let mut names: Vec<String> = names.into_iter().collect();
    let wanted = wanted.to_string();
    // Those that look most like it come first.
    names.sort_by_key(|name| std::cmp::Reverse(alike(name, &wanted)));
    format!("no instance of {wanted} in {url}; known there: {}", some(names))
}

/// Letters that two names have in common at the front and, beyond them, at the back.
fn alike(one: &str, other: &str) -> usize {
    let front = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let rest = |text: &str| text.len() - front;
    let back = one.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
    front + back.min(rest(one)).min(rest(other))
}

/// The first few names, and how many there are besides.
fn some(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(TOLD);
    let mut text = names.into_iter().take(TOLD).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use ringplane_core::id::InstanceId;

    use super::*;

    fn instance(name: &str, id: u64) -> Instance {
        Instance::new(InstanceId(id), EndpointId::parse(name).unwrap(), ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn the_names_that_look_most_like_the_one_wanted_are_told_first_and_a_few_of_them() {
        let wanted = EndpointId::parse("a.b.cc").unwrap();
        let there = ["x.y.z", "a.q.cc", "a.b.c"].map(|name| instance(name, 1));
        let said = told(&wanted, "mem", &there);
        assert_eq!(said, "no instance of a.b.cc in mem; known there: a.b.c, a.q.cc, x.y.z");
        let many: Vec<_> = (0..30).map(|n| instance(&format!("n.c.e{n}"), 1)).collect();
        let said = told(&wanted, "mem", &many);
        assert!(said.ends_with(" and 22 more") && said.matches("n.c.e").count() == 8, "{said}");
        assert_eq!(told(&wanted, "mem", &[]), "no instance of a.b.cc in mem; none of any endpoint is known there");
    }

    #[test]
    fn the_other_instances_are_told_where_one_is_asked_for_by_its_id() {
        let wanted = EndpointId::parse("a.b.c").unwrap();
        let there = [instance("a.b.c", 0xab), instance("a.b.d", 1), instance("a.b.c", 2)];
        assert_eq!(told(&wanted, "mem", &there), "no such instance of a.b.c in mem; known there: 2, ab");
    }
}
