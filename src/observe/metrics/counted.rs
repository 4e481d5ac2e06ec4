//! Snapshots as metrics: `ringplane_GROUP_COUNTER`, with what its unit and kind append.

use ringplane_driver::stats as driver;
use ringplane_tokio::observe::metrics::family::{Family, Kind, Sample, Unit, Value};

use crate::observe::metrics::sources::Seen;

/// Groups of sizes of the moment; the others only rise.
const SIZES: [&str; 2] = ["worker", "caller"];
/// The drivers' sizes.
const DRIVER_SIZES: [&str; 4] = ["connections", "ops_in_flight", "buffers_out", "tasks"];
/// Counters of bytes, with the name that they have beside their unit.
const BYTES: [(&str, &str); 6] = [
    ("held", "held"),
    ("reserved", "reserved"),
    ("outgoing", "outgoing"),
    ("kept", "kept"),
    ("bytes_in", "received"),
    ("bytes_out", "sent"),
];

pub(super) fn families(seen: &Seen) -> Vec<Family> {
    let mut all = vec![running(seen), threads(seen), silent(seen)];
    // Those of drivers are told by driver, and instances by endpoint.
    let rest = seen.sum.rest.described().filter(|(group, ..)| !["driver", "instances"].contains(group));
    all.extend(rest.map(|(group, name, help, value)| {
        family(group, name, help, SIZES.contains(&group)).with(Vec::new(), Value::Whole(value))
    }));
    let mut drivers: Vec<Family> = driver::Stats::default()
        .described()
        .map(|(name, help, _)| family("driver", name, help, DRIVER_SIZES.contains(&name)))
        .collect();
    for (driver, stats) in &seen.sum.drivers {
        for (family, (_, value)) in drivers.iter_mut().zip(stats.named()) {
            let labels = vec![("driver", (*driver).into())];
            family.samples.push(Sample { labels, value: Value::Whole(value) });
        }
    }
    all.append(&mut drivers);
    all
}

/// A counter of a group.
fn family(group: &str, name: &str, help: &'static str, is_size: bool) -> Family {
    let kind = if is_size { Kind::Gauge } else { Kind::Counter };
    let family = Family::new("", help.trim_end_matches('.'), kind);
    let (name, family) = match BYTES.iter().find(|(known, _)| *known == name) {
        Some((_, plain)) => (*plain, family.of(Unit::Bytes)),
        None => (name, family),
    };
    Family { name: format!("ringplane_{group}_{name}").into(), ..family }
}

fn running(seen: &Seen) -> Family {
    let mut family = Family::new("ringplane_driver", "A driver in use, and why that one", Kind::Info);
    for (info, _) in &seen.running {
        let labels = vec![("driver", info.name.into()), ("why", info.why.clone().into())];
        family.samples.push(Sample { labels, value: Value::Known });
    }
    family
}

fn threads(seen: &Seen) -> Family {
    let mut by_driver = std::collections::BTreeMap::<&str, u64>::new();
    seen.running.iter().for_each(|(info, threads)| *by_driver.entry(info.name).or_default() += threads);
    let mut family = Family::gauge("ringplane_threads", "Threads of workers and clients");
    for (driver, threads) in by_driver {
        let labels = vec![("driver", driver.to_owned().into())];
        family.samples.push(Sample { labels, value: Value::Whole(threads) });
    }
    family
}

fn silent(seen: &Seen) -> Family {
    let help = "Threads that did not answer in time: what they count is as of the time before";
    Family::gauge("ringplane_silent_threads", help).with(Vec::new(), Value::Whole(seen.silent))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::runtime::snapshot::Snapshot;

    #[test]
    fn every_counter_of_a_snapshot_is_a_metric_of_its_own() {
        let all = families(&Seen::default());
        let names: BTreeSet<String> = all.iter().map(Family::full_name).collect();
        assert_eq!(names.len(), all.len());
        let counted = Snapshot::default().named().filter(|(group, ..)| *group != "instances").count();
        assert_eq!(names.len(), counted + 3);
        for name in [
            "ringplane_worker_held_bytes",
            "ringplane_served_admitted_total",
            "ringplane_mux_received_bytes_total",
            "ringplane_driver_tasks",
            "ringplane_driver_turns_total",
        ] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
    }
}
