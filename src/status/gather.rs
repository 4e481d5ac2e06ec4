//! Asks every worker and client, all at once, and puts together what is told of the process.

use ringplane_core::caller::view::InstanceView;
use ringplane_tokio::discovery::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::status::hall::{Hall, Taken};
use crate::status::sample::{Health, Seen};
use crate::status::subject::{Known, Row};
use crate::status::verdict::Facts;
use crate::status::view::{EndpointView, InstanceRow, PartView, ProcessView};

/// The endpoints of all workers.
pub(super) fn rows(hall: &Hall) -> Vec<Row> {
    hall.all().iter().flat_map(|(_, taken)| taken.subject.endpoints()).collect()
}

/// Whether the process may get traffic; else why not.
pub(super) fn ready(hall: &Hall, rows: &[Row]) -> Result<(), String> {
    facts(hall, rows).ready()
}

/// What decides whether it may.
pub(super) fn facts<'a>(hall: &'a Hall, rows: &'a [Row]) -> Facts<'a> {
    Facts { flag: hall.flag(), had_worker: hall.had_worker(), required: &hall.config.required, rows }
}

/// Whether every core responds; else which one does not.
pub(super) async fn live(hall: &Hall) -> Result<(), String> {
    let mut looks = JoinSet::new();
    for (_, taken) in hall.all() {
        let patience = hall.config.core_timeout;
        looks.spawn(async move {
            let seen = look(&taken, patience).await?;
            stuck(&taken, seen.health)
        });
    }
    while let Some(found) = looks.join_next().await {
        if let Ok(Some(why)) = found {
            return Err(why);
        }
    }
    Ok(())
}

async fn look(taken: &Taken, patience: std::time::Duration) -> Option<Seen> {
    let group = taken.subject.group()?;
    Some(taken.sampler.look(&group, taken.subject.is_worker(), patience).await)
}

/// Why a worker or client is not live. One that leaves, or a client that was shut down, may have no threads any more.
fn stuck(taken: &Taken, health: Health) -> Option<String> {
    let name = taken.subject.name();
    match health {
        Health::Responds => None,
        Health::Stuck => {
            let running = taken.subject.group().map(|group| group.running()).unwrap_or_default();
            let by =
                if running.is_empty() { String::new() } else { format!("; handlers that run: {}", running.join(", ")) };
            Some(format!("a core of {name} does not answer{by}"))
        }
        Health::Stopped => {
            let serves = taken.subject.endpoints().iter().any(|row| row.ready);
            serves.then(|| format!("a core of {name} has ended"))
        }
    }
}

/// The whole process.
pub(super) async fn process(hall: &Hall) -> ProcessView {
    let mut looks = JoinSet::new();
    for (number, taken) in hall.all() {
        let (patience, most) = (hall.config.core_timeout, hall.config.max_rows);
        looks.spawn(async move { (number, part(&taken, patience, most).await) });
    }
    let mut told = Vec::new();
    while let Some(part) = looks.join_next().await {
        told.extend(part.ok().and_then(|(number, part)| Some((number, part?))));
    }
    told.sort_by_key(|(number, _)| *number);
    let (mut parts, mut stuck) = (Vec::new(), None);
    for (_, (part, why)) in told {
        parts.push(part);
        stuck = stuck.or(why);
    }
    let ready = ready(hall, &rows(hall));
    let (errors, errors_total) = hall.errors.list();
    ProcessView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: u64::try_from(hall.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        live: stuck.is_none(),
        ready: ready.is_ok(),
        why: stuck.or(ready.err()),
        manage: hall.config.manage,
        parts,
        errors,
        errors_total,
    }
}

/// One of them, and why it is not live; `None` of a client whose threads have ended.
async fn part(taken: &Taken, patience: std::time::Duration, most: usize) -> Option<(PartView, Option<String>)> {
    let subject = &taken.subject;
    let (group, seen) = (subject.group(), look(taken, patience).await);
    let health = seen.map_or(Health::Responds, |seen| seen.health);
    if health == Health::Stopped && !subject.is_worker() {
        return None;
    }
    // A core that does not answer would not answer this either.
    let asked: BoxFuture<'_, _> = match health {
        Health::Responds => subject.instances(most),
        _ => Box::pin(std::future::ready((Vec::new(), 0))),
    };
    let (instances, more) = timeout(patience, asked).await.unwrap_or_default();
    let mut endpoints = subject.endpoints();
    let left_out = more + endpoints.len().saturating_sub(most);
    endpoints.truncate(most);
    let numbers = seen.and_then(|seen| seen.numbers).map(|numbers| numbers.with(subject.counters()));
    let named = numbers.iter().flat_map(|numbers| numbers.named().collect::<Vec<_>>());
    let view = PartView {
        kind: if subject.is_worker() { "worker" } else { "client" }.to_owned(),
        name: subject.name(),
        driver: group.as_ref().map(|group| group.info.to_string()),
        threads: group.as_ref().map_or(0, |group| group.len()),
        current: health == Health::Responds,
        endpoints: endpoints.into_iter().map(endpoint).collect(),
        instances: instances.into_iter().map(instance).collect(),
        left_out,
        rates: seen.and_then(|seen| seen.rates),
        numbers: named.map(|(group, name, n)| (format!("{group}.{name}"), n)).collect(),
    };
    let why = stuck(taken, health);
    Some((view, why))
}

fn endpoint(row: Row) -> EndpointView {
    EndpointView { name: row.name, state: row.state.to_owned(), why: row.why.to_owned(), ready: row.ready }
}

fn instance(known: Known) -> InstanceRow {
    let InstanceView { id, addr, protocol, state, remaining, in_flight, seen_by, avoided_by, .. } = known.view;
    InstanceRow {
        endpoint: known.endpoint,
        id: id.to_string(),
        address: addr.to_string(),
        protocol: protocol.to_owned(),
        state: state.name().to_owned(),
        why: state.why().to_owned(),
        remaining_ms: remaining.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        in_flight,
        seen_by,
        avoided_by,
    }
}
