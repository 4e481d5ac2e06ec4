//! The instances that clients know as metrics: how many are in which state, and what each has to do.

use std::collections::BTreeMap;

use ringplane_core::route::health::State;
use ringplane_tokio::observe::metrics::family::{Family, Sample, Value};

use crate::observe::metrics::sources::Instances;

/// Endpoints that are told one by one; those beyond, in the order of their names, are [`OTHER`].
const ENDPOINTS: usize = 100;
/// Instances of an endpoint that are told one by one, in the order of their ids.
const INSTANCES: usize = 100;
/// What is told together.
const OTHER: &str = "other";

const STATES: [State; 9] = [
    State::Routable,
    State::Warming,
    State::HalfOpen,
    State::Probed,
    State::Overloaded,
    State::Leaving,
    State::Failing,
    State::Silent,
    State::Suspect,
];

pub(super) fn families(instances: &Instances) -> Vec<Family> {
    let mut states: BTreeMap<(&str, State), u64> = BTreeMap::new();
    let mut calls: BTreeMap<(&str, String, &'static str), u64> = BTreeMap::new();
    for (number, (name, all)) in instances.iter().enumerate() {
        let endpoint = if number < ENDPOINTS { name } else { OTHER };
        for state in STATES {
            states.entry((endpoint, state)).or_default();
        }
        for (number, view) in all.values().enumerate() {
            *states.entry((endpoint, view.state)).or_default() += 1;
            let is_alone = endpoint != OTHER && number < INSTANCES;
            let instance = if is_alone { view.id.to_string() } else { OTHER.to_owned() };
            *calls.entry((endpoint, instance, view.protocol)).or_default() += u64::from(view.in_flight);
        }
    }
    let mut sets = Family::gauge("ringplane_instances", "Instances that clients know, by what holds of them");
    for ((endpoint, state), count) in states {
        let labels = vec![("endpoint", endpoint.to_owned().into()), ("state", word(state).into())];
        sets.samples.push(Sample { labels, value: Value::Whole(count) });
    }
    let mut at = Family::gauge("ringplane_instance_calls", "Calls of this process that are at an instance");
    for ((endpoint, instance, dialect), count) in calls {
        let labels = vec![
            ("endpoint", endpoint.to_owned().into()),
            ("instance_id", instance.into()),
            ("dialect", dialect.into()),
        ];
        at.samples.push(Sample { labels, value: Value::Whole(count) });
    }
    vec![sets, at]
}

/// A state as a label.
fn word(state: State) -> String {
    state.name().replace(": ", "-")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use ringplane_core::caller::view::InstanceView;
    use ringplane_core::id::InstanceId;

    use super::*;

    fn views(count: u64, state: State) -> BTreeMap<InstanceId, InstanceView> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let view = |number| InstanceView {
            id: InstanceId(number),
            addr,
            protocol: "mux",
            state,
            remaining: None,
            in_flight: 1,
            seen_by: 1,
            avoided_by: 0,
        };
        (0..count).map(|number| (InstanceId(number), view(number))).collect()
    }

    #[test]
    fn instances_and_endpoints_beyond_their_bounds_are_told_together() {
        let endpoints = (0..ENDPOINTS + 5).map(|number| (format!("n.c.e{number:04}"), views(2, State::Silent)));
        let mut instances: Instances = endpoints.collect();
        instances.insert("n.c.a".to_owned(), views(INSTANCES as u64 + 7, State::Routable));
        let [sets, calls] = families(&instances).try_into().expect("two families");
        assert_eq!(sets.samples.len(), (ENDPOINTS + 1) * STATES.len());
        assert_eq!(calls.samples.len(), INSTANCES + 1 + (ENDPOINTS - 1) * 2 + 1);
        let value = |family: &Family, labels: &[&str]| {
            let is_it = |sample: &&Sample| sample.labels.iter().map(|(_, value)| &**value).eq(labels.iter().copied());
            family.samples.iter().find(is_it).map(|sample| sample.value.clone())
        };
        assert_eq!(value(&sets, &["n.c.a", "routable"]), Some(Value::Whole(107)));
        assert_eq!(value(&calls, &["n.c.a", "other", "mux"]), Some(Value::Whole(7)));
        assert_eq!(value(&sets, &["other", "ejected-silent"]), Some(Value::Whole(12)));
        assert_eq!(value(&calls, &["other", "other", "mux"]), Some(Value::Whole(12)));
    }
}
