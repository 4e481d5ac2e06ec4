//! Target: routing policies against models of what each may pick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Candidate, Device, Eligible, Slate};
use ringplane_core::route::policy::any::{ALL, AnyPolicy};
use ringplane_core::route::policy::pick::Pick;
use ringplane_core::time::Instant;

/// The most instances, so that few bytes say much.
const PLACES: u64 = 12;
const PENALTY: Duration = Duration::from_secs(1);

/// The first byte is the seed of what is drawn; then two bytes for each step: what happens, and to which instance, or which
/// policy picks. Each policy picks what its model allows of those that are eligible, nothing but [`NoPick`] of none, and in last
/// resort what every other one picks.
///
/// [`NoPick`]: ringplane_core::route::policy::pick::NoPick
pub fn router(data: &[u8]) {
    let Some((seed, steps)) = data.split_first() else { return };
    let mut place = Place::new(u64::from(*seed));
    for step in steps.chunks_exact(2).take(2_000) {
        place.step(step[0], step[1]);
    }
}

struct Place {
    candidates: Vec<Candidate>,
    now: Instant,
    rng: Rng,
    policies: Vec<(&'static str, AnyPolicy, Memory)>,
}

/// What a model remembers.
#[derive(Default)]
struct Memory {
    last: Option<InstanceId>,
    homes: BTreeMap<u64, (InstanceId, Instant)>,
}

impl Place {
    fn new(seed: u64) -> Self {
        let general = ALL.iter().filter(|row| row.argument.is_none());
        let policies = general.map(|row| {
            let policy = AnyPolicy::from_name(row.name).expect("a name of the table");
            (row.name, policy, Memory::default())
        });
        Self { candidates: Vec::new(), now: Instant::ZERO, rng: Rng::new(seed), policies: policies.collect() }
    }

    fn step(&mut self, what: u8, whom: u8) {
        let id = InstanceId(u64::from(whom) % PLACES);
        let amount = u64::from(whom / PLACES as u8);
        let now = self.now;
        let one = self.candidates.iter_mut().find(|candidate| candidate.id == id);
        match (what % 10, one) {
            (0, None) => {
                self.candidates.push(Candidate::new(id));
                self.candidates.sort_by_key(|candidate| candidate.id);
            }
            (1, Some(_)) if amount == 0 => self.candidates.retain(|candidate| candidate.id != id),
            (2, Some(one)) => one.in_flight += 1,
            (3, Some(one)) => one.in_flight = one.in_flight.saturating_sub(1),
            (4, Some(one)) => one.answered(Duration::from_millis(amount * amount), now),
            (5, Some(one)) => one.failed(Duration::from_millis(amount), PENALTY, now),
            (6, Some(one)) => one.weight = amount as u16,
            (7, Some(one)) => one.device = if amount % 2 == 0 { Device::Processor } else { Device::Accelerator },
            (8, _) => self.now = now + Duration::from_millis(1 << amount),
            _ => self.pick(what, whom),
        }
    }

    fn pick(&mut self, what: u8, whom: u8) {
        let affinity = (what & 0x80 != 0).then_some(u64::from(whom % 8));
        let avoid: Vec<InstanceId> =
            (what & 0x40 != 0).then_some(InstanceId(u64::from(whom) % PLACES)).into_iter().collect();
        let ask = Ask { affinity, ..Ask::default() };
        let slate = Slate { ask, candidates: &self.candidates, allow: &[], avoid: &avoid, now: self.now };
        let mut probe = Probe(Vec::new());
        let resort = probe.pick(&slate, &mut self.rng);
        for (name, policy, memory) in &mut self.policies {
            let picked = policy.pick(&slate, &mut self.rng);
            if probe.0.is_empty() {
                assert_eq!(picked, resort, "{name}");
                continue;
            }
            let index = picked.unwrap_or_else(|error| panic!("{name}: {error}"));
            let group: Vec<&Candidate> = probe.0.iter().map(|index| &self.candidates[*index]).collect();
            let allowed = allowed(name, &group, &ask, memory, self.now);
            let id = self.candidates[index].id;
            assert!(allowed.contains(&id), "{name} picked {id} of {allowed:?} at {:?}: {group:#?}", self.now);
            memory.last = Some(id);
            memory.homes.extend(affinity.map(|key| (key, (id, self.now))));
        }
    }
}

/// Tells which candidates are eligible: the group that a policy chooses from.
struct Probe(Vec<usize>);

impl Pick for Probe {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        self.0 = eligible.iter().map(|(index, _)| index).collect();
        self.0.first().copied()
    }
}

/// The instances that a policy may pick of a group: slow and obvious.
fn allowed(name: &str, group: &[&Candidate], ask: &Ask<'_>, memory: &Memory, now: Instant) -> BTreeSet<InstanceId> {
    let calls = |one: &Candidate| u128::from(one.in_flight) + u128::from(one.penalty.calls(now));
    // What two draws may end with: whatever is no worse than another one.
    let of_two = |cost: &dyn Fn(&Candidate) -> u128| -> Vec<InstanceId> {
        let not_worst = |one: &&&Candidate| {
            group.len() == 1 || group.iter().any(|other| other.id != one.id && cost(one) <= cost(other))
        };
        group.iter().filter(not_worst).map(|one| one.id).collect()
    };
    let least = |those: Vec<&Candidate>| -> Vec<InstanceId> {
        let least = those.iter().map(|one| calls(one)).min();
        those.iter().filter(|one| Some(calls(one)) == least).map(|one| one.id).collect()
    };
    let ids: Vec<InstanceId> = match name {
        "round-robin" => {
            let mut ids: Vec<InstanceId> = group.iter().map(|one| one.id).collect();
            ids.sort_unstable();
            match memory.last {
                None => ids,
                Some(last) => ids.iter().find(|id| **id > last).or(ids.first()).copied().into_iter().collect(),
            }
        }
        "random" => group.iter().map(|one| one.id).collect(),
        "power-of-two" => of_two(&calls),
        "least-loaded" => least(group.to_vec()),
        "peak-ewma" => of_two(&|one| match one.latency.estimate(now) {
            None if calls(one) == 0 => 0,
            None => (1 << 100) + calls(one),
            Some(estimate) => estimate.as_micros() * (calls(one) + 1),
        }),
        "weighted" => {
            let none = group.iter().all(|one| one.weight == 0);
            group.iter().filter(|one| none || one.weight > 0).map(|one| one.id).collect()
        }
        "device-aware-weighted" => least(devices(group, &calls)),
        "ring-hash" => match ask.affinity {
            Some(key) => ring(group, key, &calls),
            None => of_two(&calls),
        },
        "sticky" => {
            let home = ask.affinity.and_then(|key| memory.homes.get(&key));
            let lasting = home.filter(|(_, used)| now.since(*used) < Duration::from_secs(1800)).map(|(id, _)| *id);
            match lasting.filter(|id| group.iter().any(|one| one.id == *id)) {
                Some(id) => vec![id],
                None => of_two(&calls),
            }
        }
        other => panic!("{other} has no model: add one"),
    };
    ids.into_iter().collect()
}

/// Those of the kind whose turn it is: Dynamo's rule at a ratio of eight.
fn devices<'a>(group: &[&'a Candidate], calls: &dyn Fn(&Candidate) -> u128) -> Vec<&'a Candidate> {
    let (processors, accelerators): (Vec<&Candidate>, Vec<&Candidate>) =
        group.iter().partition(|one| one.device == Device::Processor);
    if processors.is_empty() {
        return accelerators;
    }
    if accelerators.is_empty() {
        return processors;
    }
    let sum = |those: &[&Candidate]| those.iter().map(|one| calls(one)).sum::<u128>();
    let allowed = sum(&accelerators) * processors.len() as u128 / (8 * accelerators.len() as u128);
    if sum(&processors) < allowed { processors } else { accelerators }
}

/// The one with the highest rank for the key of those with room: less than five quarters of the average with the new call.
fn ring(group: &[&Candidate], key: u64, calls: &dyn Fn(&Candidate) -> u128) -> Vec<InstanceId> {
    let total: u128 = group.iter().map(|one| calls(one)).sum();
    let most = ((total + 1) * 125).div_ceil(group.len() as u128 * 100);
    let mut ranked: Vec<&&Candidate> = group.iter().filter(|one| calls(one) < most).collect();
    ranked.sort_by_key(|one| {
        let mut hash = key ^ one.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    });
    ranked.last().map(|one| one.id).into_iter().collect()
}
