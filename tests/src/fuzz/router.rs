//! Target: routing policies against models of what each may pick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ringplane_core::id::InstanceId;
use ringplane_core::rng::Rng;
use ringplane_core::route::eligible::{Ask, Candidate, Device, Eligible, Room, Slate};
use ringplane_core::route::health::{Probe, State, Why};
use ringplane_core::route::policy::any::{ALL, AnyPolicy};
use ringplane_core::route::policy::custom::Custom;
use ringplane_core::route::policy::pick::{NoPick, Pick};
use ringplane_core::route::policy::scored::{Filter, Scored};
use ringplane_core::route::rules;
use ringplane_core::time::Instant;

/// The most instances, so that few bytes say much.
const PLACES: u64 = 12;
const PENALTY: Duration = Duration::from_secs(1);

/// The first byte is the seed of what is drawn; then two bytes for each step: what happens, and to which instance, or which call is
/// picked for. The group that policies choose from is the one that the states of health say, each policy picks what its model
/// allows of that group, and in last resort what the model of all of them says, which may be that every instance is full.
pub fn router(data: &[u8]) {
    let Some((seed, steps)) = data.split_first() else { return };
    let mut place = Place::new(u64::from(*seed));
    for step in steps.chunks_exact(2).take(2_000) {
        place.step(step[0], step[1]);
    }
}

struct Place {
    candidates: Vec<Candidate>,
    /// Of calls in flight that show what their instance is worth.
    probes: BTreeMap<InstanceId, Probe>,
    /// Calls that an instance takes, of those that say so.
    limits: BTreeMap<InstanceId, u32>,
    /// What the application says of an instance, and until when.
    facts: BTreeMap<InstanceId, (i64, Instant)>,
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

/// Keeps instances of which nothing odd is known.
struct Even;

impl Filter for Even {
    fn keeps(&self, _: &Ask<'_>, candidate: &Candidate, now: Instant) -> bool {
        candidate.figure("number", now).is_none_or(|number| number % 2 == 0)
    }
}

/// The name of the policy with that filter.
const FILTERED: &str = "filtered";

impl Place {
    fn new(seed: u64) -> Self {
        let general = ALL.iter().filter(|row| row.argument.is_none());
        let built = general.map(|row| (row.name, AnyPolicy::from_name(row.name).expect("a name of the table")));
        let filtered = AnyPolicy::from(Custom::new(|| Scored::new().filter(Even)));
        let policies = built.chain([(FILTERED, filtered)]);
        Self {
            candidates: Vec::new(),
            probes: BTreeMap::new(),
            limits: BTreeMap::new(),
            facts: BTreeMap::new(),
            now: Instant::ZERO,
            rng: Rng::new(seed),
            policies: policies.map(|(name, policy)| (name, policy, Memory::default())).collect(),
        }
    }

    fn step(&mut self, what: u8, whom: u8) {
        let id = InstanceId(u64::from(whom) % PLACES);
        let amount = u64::from(whom / PLACES as u8);
        let (now, config) = (self.now, rules::Config { jitter: 0, ..rules::Config::default() });
        let one = self.candidates.iter_mut().find(|candidate| candidate.id == id);
        match (what % 16, one) {
            (0, None) => {
                self.candidates.push(Candidate::new(id));
                self.candidates.sort_by_key(|candidate| candidate.id);
            }
            (1, Some(_)) if amount == 0 => {
                self.candidates.retain(|candidate| candidate.id != id);
                self.probes.remove(&id);
                self.limits.remove(&id);
                self.facts.remove(&id);
            }
            (2, Some(one)) => {
                one.in_flight += 1;
                self.probes.extend(one.health.began(now, &config).map(|probe| (id, probe)));
            }
            (3, Some(one)) => {
                one.in_flight = one.in_flight.saturating_sub(1);
                if let Some(probe) = self.probes.remove(&id) {
                    one.health.ended(probe, now);
                }
            }
            (4, Some(one)) => {
                one.answered(Duration::from_millis(amount * amount), now);
                one.health.answered(self.probes.get(&id).copied(), now, &config);
            }
            (5, Some(one)) => one.failed(Duration::from_millis(amount), PENALTY, now),
            (6, Some(one)) => one.weight = amount as u16,
            (7, Some(one)) => one.device = if amount % 2 == 0 { Device::Processor } else { Device::Accelerator },
            (8, _) => self.now = now + Duration::from_millis(1 << amount),
            (9, Some(one)) => _ = one.health.lost(now, &config, &mut self.rng),
            (10, Some(one)) => _ = one.health.refused(Some(Duration::from_secs(amount)), now, &config),
            (11, Some(one)) => _ = one.health.leaving(now, &config),
            (12, Some(one)) => {
                if one.health.silent(now, &config, &mut self.rng) {
                    one.health.ejected(Why::Silent, now, &config, &mut self.rng);
                }
            }
            (13, Some(one)) => {
                let lasting = Duration::from_secs(amount);
                assert!(one.set_fact("number", amount as i64, lasting, now));
                self.facts.insert(id, (amount as i64, now + lasting));
            }
            (14, Some(one)) => {
                one.places.recorded(amount as u32);
                self.limits.insert(id, amount as u32);
            }
            _ => self.pick(what, whom),
        }
    }

    fn pick(&mut self, what: u8, whom: u8) {
        let id = InstanceId(u64::from(whom) % PLACES);
        let affinity = (what & 0x80 != 0).then_some(u64::from(whom % 8));
        let avoid: Vec<InstanceId> = (what & 0x40 != 0).then_some(id).into_iter().collect();
        let allow: Vec<InstanceId> =
            (what & 0x20 != 0).then_some([id, InstanceId(id.0 / 2)]).into_iter().flatten().collect();
        let room = if what & 0x10 != 0 { Room::Free } else { Room::Any };
        let ask = Ask { affinity, room, ..Ask::default() };
        let slate = Slate { ask, candidates: &self.candidates, allow: &allow, avoid: &avoid, now: self.now };
        let mut group = Group(Vec::new());
        let _ = group.pick(&slate, &mut self.rng);
        let group: Vec<&Candidate> = group.0.iter().map(|index| &self.candidates[*index]).collect();
        let model = Model { slate: &slate, limits: &self.limits, facts: &self.facts };
        model.check(&group);
        for (name, policy, memory) in &mut self.policies {
            let picked = policy.pick(&slate, &mut self.rng).map(|index| self.candidates[index].id);
            let kept = |one: &&Candidate| *name != FILTERED || model.is_even(one.id);
            let left: Vec<&Candidate> = group.iter().copied().filter(kept).collect();
            if group.is_empty() {
                assert_eq!(picked, model.resort(kept), "{name}");
            } else if left.is_empty() {
                // Of a worse group, if any will do.
                let any = model.allowed().find(kept);
                assert_eq!(picked.is_ok(), any.is_some() && picked != Err(NoPick::Full), "{name}");
                assert!(picked.map_or_else(|error| error != NoPick::Empty, |id| model.is_even(id)), "{name}");
            } else {
                let id = picked.unwrap_or_else(|error| panic!("{name}: {error}"));
                let allowed = allowed(name, &left, &ask, memory, self.now);
                assert!(allowed.contains(&id), "{name} picked {id} of {allowed:?} at {:?}: {group:#?}", self.now);
                memory.last = Some(id);
                memory.homes.extend(affinity.map(|key| (key, (id, self.now))));
            }
        }
    }
}

/// Tells which candidates are eligible: the group that a policy chooses from.
struct Group(Vec<usize>);

impl Pick for Group {
    fn choose(&mut self, _: &Ask<'_>, eligible: &Eligible<'_>, _: &mut Rng) -> Option<usize> {
        self.0 = eligible.iter().map(|(index, _)| index).collect();
        self.0.first().copied()
    }
}

/// What the states of health and the steps say of all instances.
struct Model<'a> {
    slate: &'a Slate<'a>,
    limits: &'a BTreeMap<InstanceId, u32>,
    facts: &'a BTreeMap<InstanceId, (i64, Instant)>,
}

impl<'a> Model<'a> {
    fn state(&self, one: &Candidate) -> State {
        one.health.state(self.slate.now).0
    }

    fn is_even(&self, id: InstanceId) -> bool {
        self.facts.get(&id).is_none_or(|(number, until)| *until <= self.slate.now || number % 2 == 0)
    }

    fn has_place(&self, one: &Candidate) -> bool {
        let limit = self.limits.get(&one.id).copied().unwrap_or(0);
        !one.health.is_leased(self.slate.now) && (limit == 0 || one.in_flight < limit)
    }

    fn allowed(&self) -> impl Iterator<Item = &'a Candidate> {
        let slate = *self.slate;
        slate.candidates.iter().filter(move |one| slate.allow.is_empty() || slate.allow.contains(&one.id))
    }

    /// Checks that a group is the best that is not empty; which of those that warm up take part is by chance.
    fn check(&self, group: &[&Candidate]) {
        let room = |one: &&Candidate| self.slate.ask.room == Room::Any || self.has_place(one);
        let (tried, fresh): (Vec<&Candidate>, Vec<&Candidate>) =
            self.allowed().filter(room).partition(|one| self.slate.avoid.contains(&one.id));
        let is_up = |one: &&Candidate| matches!(self.state(one), State::Routable | State::Warming | State::HalfOpen);
        let proven = |one: &&Candidate| match self.state(one) {
            State::Routable => true,
            State::HalfOpen => self.slate.avoid.is_empty(),
            _ => false,
        };
        let ids = |those: &mut dyn Iterator<Item = &&Candidate>| those.map(|one| one.id).collect::<BTreeSet<_>>();
        let (must, up) =
            (ids(&mut fresh.iter().filter(|one| proven(one))), ids(&mut fresh.iter().filter(|one| is_up(one))));
        let again = ids(&mut tried.iter().filter(|one| is_up(one)));
        let found = ids(&mut group.iter());
        let right = match (must.is_empty(), up.is_empty()) {
            (false, _) => found.is_superset(&must) && found.is_subset(&up),
            (true, false) => !found.is_empty() && found.is_subset(&up),
            (true, true) => found == again,
        };
        assert!(right, "{found:?} of {:#?} at {:?}", self.slate.candidates, self.slate.now);
    }

    /// What is picked when nobody is up, of those that a policy keeps.
    fn resort(&self, kept: impl Fn(&&Candidate) -> bool) -> Result<InstanceId, NoPick> {
        let is_full = |one: &Candidate| {
            let out = matches!(
                self.state(one),
                State::Suspect | State::Silent | State::Failing | State::Leaving | State::Probed
            );
            !out && !self.has_place(one)
        };
        let those: Vec<&Candidate> = self.allowed().filter(&kept).collect();
        if self.slate.ask.room == Room::Free && those.iter().any(|one| is_full(one)) {
            return Err(NoPick::Full);
        }
        let order = |one: &&&Candidate| (self.slate.avoid.contains(&one.id), one.health.avoided_until(), one.id);
        let nobody = if self.allowed().next().is_some() { NoPick::Filtered } else { NoPick::Empty };
        those.iter().min_by_key(order).map(|one| one.id).ok_or(nobody)
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
        "random" | FILTERED => group.iter().map(|one| one.id).collect(),
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
