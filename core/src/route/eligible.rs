//! Which of an endpoint's instances a call may go to, in groups from the best to the last resort.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
#[cfg(feature = "alloc")]
use alloc::sync::Arc;
use core::time::Duration;

use crate::id::InstanceId;
#[cfg(feature = "alloc")]
use crate::route::attributes::Attributes;
#[cfg(feature = "alloc")]
use crate::route::facts::Facts;
use crate::route::health::Health;
#[cfg(feature = "alloc")]
use crate::route::labels::Labels;
use crate::route::latency::Latency;
#[cfg(feature = "alloc")]
use crate::route::load::Load;
use crate::route::penalty::{self, Penalty};
use crate::route::places::Places;
use crate::time::Instant;

/// One instance a call could go to. What policies look at of all of them stands in its first line of the cache, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Candidate {
    /// Which instance it is.
    pub id: InstanceId,
    /// What is held against it, and how long.
    pub health: Health,
    /// Calls of this core to it that are not over.
    pub in_flight: u32,
    /// Its share beside the others, for policies that go by weights. Default 1; 0: nothing while others have any.
    pub weight: u16,
    /// What it computes on.
    pub device: Device,
    /// Calls of this core that failed at it of late.
    pub penalty: Penalty,
    /// How long it takes until the first item, for calls of this core.
    pub latency: Latency,
    /// How many calls it takes at once, as far as that is known.
    pub places: Places,
    /// What its record says of it.
    #[cfg(feature = "alloc")]
    pub labels: Labels,
    /// What its worker has reported last, if it has.
    #[cfg(feature = "alloc")]
    pub load: Option<Arc<Load>>,
    /// What the application knows of it.
    #[cfg(feature = "alloc")]
    pub facts: Option<Box<Facts>>,
}

/// What an instance computes on.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum Device {
    /// An accelerator, or nothing that is known.
    #[default]
    Accelerator,
    /// A processor alone: its record's device is `cpu`.
    Processor,
}

impl Candidate {
    /// An instance nothing is known about.
    pub const fn new(id: InstanceId) -> Self {
        Self {
            id,
            health: Health::CLEAR,
            in_flight: 0,
            weight: 1,
            device: Device::Accelerator,
            penalty: Penalty::NONE,
            latency: Latency::UNKNOWN,
            places: Places::UNKNOWN,
            #[cfg(feature = "alloc")]
            labels: Labels::NONE,
            #[cfg(feature = "alloc")]
            load: None,
            #[cfg(feature = "alloc")]
            facts: None,
        }
    }

    /// Calls in flight, with those that failed of late.
    pub fn calls(&self, now: Instant) -> u32 {
        self.in_flight.saturating_add(self.penalty.calls(now))
    }

    /// It has answered a call, so long after it was sent.
    pub fn answered(&mut self, took: Duration, now: Instant) {
        self.latency.observe(took, now);
        self.places.answered(self.in_flight);
    }

    /// It failed a call or refused it, so long after it was sent: it counts as slow, and the call as in flight, for
    /// the penalty's time.
    pub fn failed(&mut self, took: Duration, penalty: Duration, now: Instant) {
        self.latency.observe(took.max(penalty.min(penalty::MAX)), now);
        self.penalty.add(penalty, now);
    }

    /// A call went away that had waited so long for its answer.
    pub fn waited(&mut self, elapsed: Duration, now: Instant) {
        if self.latency.estimate(now).is_none_or(|estimate| elapsed > estimate) {
            self.latency.observe(elapsed, now);
        }
    }

    /// From now on the application's `name` is `value` here, for `lasting`. Whether it is kept: see [`Facts::set`].
    #[cfg(feature = "alloc")]
    pub fn set_fact(&mut self, name: &str, value: i64, lasting: Duration, now: Instant) -> bool {
        self.facts.get_or_insert_default().set(name, value, lasting, now)
    }

    /// Whether it takes one more call: it has refused none lately for want of room, and has a free place as far as is known.
    pub fn has_place(&self, now: Instant) -> bool {
        !self.health.is_leased(now) && self.places.has_free(self.in_flight, now)
    }

    /// Whether it would do but for its want of a place.
    pub fn is_full(&self, now: Instant) -> bool {
        !self.health.is_out(now) && !self.has_place(now)
    }

    /// Its worker has reported its load.
    #[cfg(feature = "alloc")]
    pub fn reported(&mut self, load: Arc<Load>) {
        self.places.reported(load.capacity, load.running.saturating_add(load.queued), self.in_flight, load.at);
        self.load = Some(load);
    }

    /// A figure by its name: what the application says, else what the worker has reported, of `running`, `queued`, `capacity`
    /// (before a report: what its record says) and its own gauges. One below zero counts as zero.
    #[cfg(feature = "alloc")]
    pub fn figure(&self, name: &str, now: Instant) -> Option<u64> {
        if let Some(fact) = self.facts.as_ref().and_then(|facts| facts.get(name, now)) {
            return Some(fact.try_into().unwrap_or(0));
        }
        if name == "capacity" {
            return Some(self.places.limit().into()).filter(|limit| *limit > 0);
        }
        let load = self.load.as_ref()?;
        match name {
            "running" => Some(load.running.into()),
            "queued" => Some(load.queued.into()),
            _ => load.gauge(name),
        }
    }

    /// What its record says of it: device, weight and capacity are among the labels. A weight that is none counts as 1.
    #[cfg(feature = "alloc")]
    pub fn set_labels(&mut self, labels: Labels) {
        let is_processor = labels.get(Labels::DEVICE) == Some("cpu");
        self.device = if is_processor { Device::Processor } else { Device::Accelerator };
        self.places.recorded(labels.capacity().unwrap_or(0));
        self.labels = labels;
        self.weigh(false);
    }

    /// Whether its capacity can be its weight: it says that and no weight.
    #[cfg(feature = "alloc")]
    pub(super) fn weighs_by_capacity(&self) -> bool {
        self.labels.get(Labels::WEIGHT).is_none() && self.labels.capacity().is_some()
    }

    /// Its weight, by its capacity or not; more than 65,535 counts as that.
    #[cfg(feature = "alloc")]
    pub(super) fn weigh(&mut self, by_capacity: bool) {
        let label = |name| self.labels.get(name).and_then(|weight| weight.parse().ok());
        self.weight = match self.labels.capacity().filter(|_| by_capacity) {
            Some(capacity) => u16::try_from(capacity).unwrap_or(u16::MAX),
            None => label(Labels::WEIGHT).unwrap_or(1),
        };
    }
}

/// What a call asks of the policy.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Ask<'a> {
    /// Calls with the same value fare better at the same instance: a hash of a session or of a prefix.
    pub affinity: Option<u64>,
    /// How much work the call is, in the application's unit, such as tokens; 0: unknown.
    pub cost: u64,
    /// Whether an instance without a free place will do.
    pub room: Room,
    /// The call is made beside another one of the same wishes that is slow to begin: what is remembered by its affinity stays
    /// as it is.
    pub second: bool,
    /// What policies of the application's own look at; lent by the call.
    #[cfg(feature = "alloc")]
    pub attributes: Option<&'a Attributes>,
    /// Without an allocator there are no attributes to lend.
    #[cfg(not(feature = "alloc"))]
    pub attributes: core::marker::PhantomData<&'a ()>,
}

/// Whether an instance that has no free place, as far as is known, will do for a call.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum Room {
    /// It will: what its worker makes of the call is the worker's business.
    #[default]
    Any,
    /// It will not: the call rather waits, and the pick is [`NoPick::Full`](crate::route::policy::pick::NoPick) if there is no
    /// other.
    Free,
}

/// What one decision looks at.
#[derive(Copy, Clone, Debug)]
pub struct Slate<'a> {
    /// What the call asks.
    pub ask: Ask<'a>,
    /// All instances, in any order, each id once.
    pub candidates: &'a [Candidate],
    /// The only instances that will do; empty: any.
    pub allow: &'a [InstanceId],
    /// Those this call has already been tried on: picked again only if no other is up.
    pub avoid: &'a [InstanceId],
    /// The time by which health is judged.
    pub now: Instant,
}

/// The groups, best first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Group {
    /// Up and not yet tried by this call; those that warm up in a part of the decisions, and those that are to be probed for a
    /// call that has not been tried anywhere: it has failed once, and is not to fail again for others to learn something.
    Fresh,
    /// Up and not yet tried, warm or not, proven or not.
    Cold,
    /// Up and already tried.
    Tried,
    /// All that the call may go to: the last resort, from which policies do not choose.
    Last,
}

impl Group {
    /// Those that policies choose from.
    pub(super) const CHOICE: [Self; 3] = [Self::Fresh, Self::Cold, Self::Tried];
}

/// The candidates of one group.
#[derive(Copy, Clone, Debug)]
pub struct Eligible<'a> {
    slate: Slate<'a>,
    group: Group,
    /// As a rule a call may go anywhere, full or not, and has not been tried: then health alone decides.
    any: bool,
}

impl<'a> Eligible<'a> {
    pub(super) const fn new(slate: Slate<'a>, group: Group) -> Self {
        let any = slate.allow.is_empty()
            && slate.avoid.is_empty()
            && matches!(group, Group::Fresh | Group::Cold)
            && matches!(slate.ask.room, Room::Any);
        Self { slate, group, any }
    }

    /// Every eligible candidate with its index in the slate, in the slate's order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a Candidate)> + use<'a> {
        let this = *self;
        this.slate.candidates.iter().enumerate().filter(move |(_, candidate)| this.has(candidate))
    }

    /// The candidate at an index of the slate, if it is eligible.
    pub fn at(&self, index: usize) -> Option<&'a Candidate> {
        self.slate.candidates.get(index).filter(|candidate| self.has(candidate))
    }

    /// How many candidates the slate has, eligible or not: indices are below that.
    pub const fn places(&self) -> usize {
        self.slate.candidates.len()
    }

    /// The time of the decision.
    pub const fn now(&self) -> Instant {
        self.slate.now
    }

    fn has(&self, candidate: &Candidate) -> bool {
        let Self { slate, group, any } = self;
        (candidate.health.is_clear(slate.now) || is_up(candidate, *group, slate))
            && (*any || slate.will_do(candidate, *group))
    }

    /// The same with those that would be eligible but for a free place.
    #[must_use]
    pub const fn with_full(mut self) -> Self {
        self.slate.ask.room = Room::Any;
        Self::new(self.slate, self.group)
    }

    /// How many there are; counts.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no candidate is eligible.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Index in the slate of the `n`-th eligible candidate.
    pub fn nth(&self, n: usize) -> Option<usize> {
        self.iter().nth(n).map(|(index, _)| index)
    }
}

impl Slate<'_> {
    /// Whether the call may go to an instance.
    pub fn allows(&self, id: InstanceId) -> bool {
        self.allow.is_empty() || self.allow.contains(&id)
    }

    fn will_do(&self, candidate: &Candidate, group: Group) -> bool {
        let fits = || {
            self.avoid.contains(&candidate.id) == (group == Group::Tried)
                && (self.ask.room == Room::Any || candidate.has_place(self.now))
        };
        self.allows(candidate.id) && (group == Group::Last || fits())
    }

    /// Whether there are instances that would do but for a free place, and the call minds.
    pub(super) fn is_full(&self, allowed: impl Fn(&Candidate) -> bool) -> bool {
        let would_do = |one: &Candidate| self.allows(one.id) && one.is_full(self.now) && allowed(one);
        self.ask.room == Room::Free && self.candidates.iter().any(would_do)
    }

    /// The last resort, as health alone never turns a call away: one not yet tried before one that was, then the one that others
    /// are not preferred to soonest.
    pub(super) fn soonest_up(&self, allowed: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let order = |candidate: &Candidate| {
            (self.avoid.contains(&candidate.id), candidate.health.avoided_until(), candidate.id)
        };
        let will_do = |candidate: &Candidate| self.allows(candidate.id) && allowed(candidate);
        let those = self.candidates.iter().enumerate().filter(|(_, candidate)| will_do(candidate));
        those.min_by_key(|(_, candidate)| order(candidate)).map(|(index, _)| index)
    }
}

/// Whether a candidate whose health has to be minded is up.
#[cold]
fn is_up(candidate: &Candidate, group: Group, slate: &Slate<'_>) -> bool {
    let (health, now) = (&candidate.health, slate.now);
    if group == Group::Last {
        return true;
    }
    if group != Group::Fresh || health.is_avoided(now) {
        return !health.is_avoided(now);
    }
    if health.is_doubtful() { slate.avoid.is_empty() } else { draw(candidate, now) < health.weight(now) }
}

/// A number below 100 that is another one at each instant, for each instance and for each call in flight there: what decides
/// whether an instance that warms up takes part, the same for all questions of one decision.
fn draw(candidate: &Candidate, now: Instant) -> u64 {
    let mixed = now.as_nanos() ^ candidate.id.0.rotate_left(17) ^ u64::from(candidate.in_flight).rotate_left(40);
    // The finalizer of SplitMix64.
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % 100
}
