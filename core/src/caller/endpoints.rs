//! The endpoints that are called: their instances, the policy that picks among them, and the calls that wait for news.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::buf::slab::{Key, Slab};
use crate::caller::front::{self, Front};
use crate::caller::request::CallId;
use crate::caller::target::{Target, Transport};
use crate::caller::waiting::Waiting;
use crate::id::InstanceId;
use crate::overload::queue::Ticket;
use crate::overload::throttle::{self, Throttle};
use crate::rng::Rng;
use crate::route::census::{Sizes, Stats};
use crate::route::eligible::{Ask, Candidate};
use crate::route::health::{Outcome, Probe};
use crate::route::instances::{Instances, Member, Wish};
use crate::route::load::Load;
use crate::route::policy::any::AnyPolicy;
use crate::route::policy::direct::Direct;
use crate::route::policy::pick::{News, NoPick, Pick};
use crate::route::rules;
use crate::time::Instant;

#[derive(Debug)]
struct Endpoint {
    /// What observers are told it is called.
    name: Box<str>,
    instances: Instances<Target>,
    policy: AnyPolicy,
    /// Calls that wait for an instance to appear or to come back.
    waiting: Waiting,
    /// Calls that wait for a free place, since the first that did.
    front: Option<Box<Front>>,
    /// What became of calls, where some are turned away for that.
    throttle: Option<Box<Throttle>>,
    /// Instances that listen on the second spelling of their NATS subject.
    slugged: BTreeSet<InstanceId>,
}

impl Endpoint {
    fn is_crowded(&self) -> bool {
        self.front.as_deref().is_some_and(|front| front.len() > 0)
    }
}

/// The endpoints of one caller. A call is counted at its instance from [`on_began`](Self::on_began) to
/// [`on_ended`](Self::on_ended).
#[derive(Debug)]
pub(super) struct Endpoints {
    slab: Slab<Endpoint>,
    health: rules::Config,
    /// What was counted at endpoints that are gone.
    gone: Stats,
}

/// What a call asks of the pick.
pub(super) struct Want<'a> {
    /// What the policy is told.
    pub(super) ask: Ask<'a>,
    /// Only this instance will do.
    pub(super) direct: Option<InstanceId>,
    /// Only these instances will do; empty: any.
    pub(super) allow: &'a [InstanceId],
    /// Instances to avoid.
    pub(super) avoid: &'a [InstanceId],
}

impl Endpoints {
    pub(super) fn new(health: rules::Config) -> Self {
        Self { slab: Slab::new(), health, gone: Stats::default() }
    }

    pub(super) fn insert(&mut self, policy: AnyPolicy) -> Key {
        let instances = Instances::new(self.health);
        self.slab.insert(Endpoint {
            name: Box::default(),
            instances,
            policy,
            waiting: Waiting::new(),
            front: None,
            throttle: None,
            slugged: BTreeSet::new(),
        })
    }

    /// What observers are told it is called.
    pub(super) fn set_name(&mut self, endpoint: Key, name: &str) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.name = name.into();
        }
    }

    /// Empty if it was not told, or has been let go of.
    pub(super) fn name(&self, endpoint: Key) -> &str {
        self.slab.get(endpoint).map_or("", |endpoint| &endpoint.name)
    }

    /// The name of its policy; empty if it has been let go of.
    pub(super) fn policy(&self, endpoint: Key) -> &'static str {
        self.slab.get(endpoint).map_or("", |endpoint| endpoint.policy.name())
    }

    pub(super) fn contains(&self, endpoint: Key) -> bool {
        self.slab.contains(endpoint)
    }

    /// Lets go of an endpoint with all that is known of it.
    pub(super) fn discard(&mut self, endpoint: Key) {
        if let Some(endpoint) = self.slab.get(endpoint) {
            self.gone.merge(endpoint.instances.stats());
        }
        self.slab.discard(endpoint);
    }

    /// What has been counted of the health of all instances.
    pub(super) fn stats(&self) -> Stats {
        let mut sum = self.gone;
        self.slab.iter().for_each(|(_, endpoint)| sum.merge(endpoint.instances.stats()));
        sum
    }

    /// How many instances are in which state, at all endpoints.
    pub(super) fn sizes(&self, now: Instant) -> Sizes {
        let mut sum = Sizes::default();
        self.slab.iter().for_each(|(_, endpoint)| sum.merge(&endpoint.instances.sizes(now)));
        sum
    }

    /// Whether a call of `calls` is at one of its instances or waits for one.
    pub(super) fn is_called<T>(&self, endpoint: Key, calls: &Slab<T>) -> bool {
        let Some(endpoint) = self.slab.get(endpoint) else { return false };
        endpoint.waiting.has_any_of(calls) || endpoint.is_crowded() || endpoint.instances.are_called()
    }

    /// How many endpoints there are.
    pub(super) const fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many instances are known.
    pub(super) fn instances(&self, endpoint: Key) -> usize {
        self.slab.get(endpoint).map_or(0, |endpoint| endpoint.instances.len())
    }

    /// These are the endpoint's instances; whether there is any, so that calls that wait for one may go on.
    pub(super) fn update(
        &mut self,
        endpoint: Key,
        snapshot: impl IntoIterator<Item = (InstanceId, Target)>,
        now: Instant,
    ) -> bool {
        let Some(endpoint) = self.slab.get_mut(endpoint) else { return false };
        let (slugged, policy) = (&mut endpoint.slugged, &mut endpoint.policy);
        endpoint.instances.update(snapshot.into_iter().map(member), |gone, _| {
            slugged.remove(&gone);
            policy.handle_news(&Ask::default(), gone, News::Gone, now);
        });
        !endpoint.instances.is_empty()
    }

    /// One more instance, or news of one.
    pub(super) fn add(&mut self, endpoint: Key, id: InstanceId, target: Target) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.instances.insert(member((id, target)));
        }
    }

    /// An instance is gone.
    pub(super) fn remove(&mut self, endpoint: Key, id: InstanceId, now: Instant) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.instances.remove(id);
            endpoint.policy.handle_news(&Ask::default(), id, News::Gone, now);
            endpoint.slugged.remove(&id);
        }
    }

    /// What the application knows of an instance, for so long; whether it is kept.
    pub(super) fn set_fact(
        &mut self,
        endpoint: Key,
        id: InstanceId,
        fact: (&str, i64),
        lasting: Duration,
        now: Instant,
    ) -> bool {
        let (name, value) = fact;
        self.slab.get_mut(endpoint).is_some_and(|known| known.instances.set_fact(id, name, value, lasting, now))
    }

    /// An instance for a call, and where it is.
    ///
    /// # Errors
    /// [`NoPick::Absent`] if others than the one asked for are known, [`NoPick::Empty`] if none is.
    pub(super) fn pick(
        &mut self,
        endpoint: Key,
        want: &Want<'_>,
        rng: &mut Rng,
        now: Instant,
    ) -> Result<(InstanceId, &Target), NoPick> {
        let Some(Endpoint { instances, policy, .. }) = self.slab.get_mut(endpoint) else { return Err(NoPick::Empty) };
        if instances.is_empty() {
            return Err(NoPick::Empty);
        }
        let wish = Wish { ask: want.ask, allow: want.allow, avoid: want.avoid, now };
        let (candidate, target) = match want.direct {
            Some(id) => instances.pick(&mut Direct(id), wish, rng),
            None => instances.pick(policy, wish, rng),
        }?;
        Ok((candidate.id, target))
    }

    /// Where an instance is, as long as it is known.
    pub(super) fn target(&self, endpoint: Key, instance: Option<InstanceId>) -> Option<&Target> {
        let (_, target) = self.slab.get(endpoint)?.instances.get(instance?)?;
        Some(target)
    }

    /// The transport of requests to an instance: of a NATS subject's spellings the one to use stands as its subject.
    pub(super) fn transport(&self, endpoint: Key, instance: Option<InstanceId>) -> Option<Transport> {
        let entry = self.slab.get(endpoint)?;
        Some(match &self.target(endpoint, instance)?.transport {
            Transport::Nats { slug: Some(slug), .. } if entry.slugged.contains(&instance?) => {
                Transport::Nats { subject: slug.clone(), slug: None }
            }
            transport => transport.clone(),
        })
    }

    /// Nobody listens to the spelling in use of an instance's NATS subject. Whether there is a second one that has not been
    /// tried since; from now on the other one is in use.
    pub(super) fn respell(&mut self, endpoint: Key, instance: Option<InstanceId>) -> bool {
        let two = matches!(
            self.target(endpoint, instance).map(|target| &target.transport),
            Some(Transport::Nats { slug: Some(_), .. })
        );
        let (Some(entry), Some(id)) = (self.slab.get_mut(endpoint).filter(|_| two), instance) else { return false };
        if entry.slugged.remove(&id) {
            return false;
        }
        entry.slugged.insert(id)
    }

    /// A call is sent to an instance, perhaps to see what it is worth.
    pub(super) fn on_began(
        &mut self,
        endpoint: Key,
        ask: &Ask<'_>,
        instance: InstanceId,
        now: Instant,
    ) -> Option<Probe> {
        let endpoint = self.slab.get_mut(endpoint)?;
        endpoint.policy.handle_news(ask, instance, News::Dispatched, now);
        endpoint.instances.began(instance, now)
    }

    /// A call that was sent to an instance is over, or leaves it.
    pub(super) fn on_ended(
        &mut self,
        endpoint: Key,
        ask: &Ask<'_>,
        instance: Option<InstanceId>,
        probe: Option<Probe>,
        now: Instant,
    ) {
        if let (Some(endpoint), Some(id)) = (self.slab.get_mut(endpoint), instance) {
            endpoint.instances.ended(id, probe, now);
            endpoint.policy.handle_news(ask, id, News::Ended, now);
        }
    }

    /// An instance has answered a call for the first time, so long after it was sent there.
    pub(super) fn on_first_item(
        &mut self,
        endpoint: Key,
        ask: &Ask<'_>,
        instance: InstanceId,
        took: Duration,
        now: Instant,
    ) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.instances.answered(instance, took, now);
            endpoint.policy.handle_news(ask, instance, News::FirstItem(took), now);
        }
    }

    /// An instance has failed or refused a call that was sent there so long ago: it counts as slow for the penalty's time.
    pub(super) fn on_failed(
        &mut self,
        endpoint: Key,
        ask: &Ask<'_>,
        instance: InstanceId,
        took: Duration,
        penalty: Duration,
        now: Instant,
    ) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.instances.failed(instance, took, penalty, now);
            endpoint.policy.handle_news(ask, instance, News::Failed(took), now);
        }
    }

    /// A call has gone away that waited so long for an instance's answer.
    pub(super) fn on_waited(&mut self, endpoint: Key, instance: InstanceId, elapsed: Duration, now: Instant) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.instances.waited(instance, elapsed, now);
        }
    }

    /// What became of a try at an instance; whether it is back by that and calls wait to hear of it.
    pub(super) fn on_outcome(
        &mut self,
        endpoint: Key,
        instance: InstanceId,
        outcome: Outcome,
        probe: Option<Probe>,
        now: Instant,
        rng: &mut Rng,
    ) -> bool {
        let Some(endpoint) = self.slab.get_mut(endpoint) else { return false };
        endpoint.instances.on_outcome(instance, outcome, probe, now, rng) && !endpoint.waiting.is_empty()
    }

    /// The worker of an instance has reported its load.
    pub(super) fn on_reported(&mut self, endpoint: Key, instance: InstanceId, load: &Arc<Load>) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.instances.reported(instance, load.clone());
        }
    }

    /// The connection to an address was lost while no call was on it: what offers mux there is gone.
    pub(super) fn on_place_lost(&mut self, addr: SocketAddr, now: Instant, rng: &mut Rng) {
        for (_, endpoint) in self.slab.iter_mut() {
            let there = |(_, target): &(&Candidate, &Target)| target.addr == addr && target.mux;
            let known = (0..endpoint.instances.len()).filter_map(|index| endpoint.instances.at(index));
            let lost: Vec<InstanceId> = known.filter(there).map(|(one, _)| one.id).collect();
            for id in lost {
                endpoint.instances.on_outcome(id, Outcome::Lost, None, now, rng);
            }
        }
    }

    /// What is known of each instance, and where it is, in order of ids.
    pub(super) fn each(&self, endpoint: Key) -> impl Iterator<Item = (&Candidate, &Target)> {
        let instances = self.slab.get(endpoint).map(|endpoint| &endpoint.instances);
        instances.into_iter().flat_map(|instances| (0..instances.len()).filter_map(|index| instances.at(index)))
    }

    /// Whether there are instances that would do, and each of them is down.
    pub(super) fn are_down(&self, endpoint: Key, will_do: impl Fn(InstanceId) -> bool, now: Instant) -> bool {
        let Some(endpoint) = self.slab.get(endpoint) else { return false };
        let candidates = endpoint.instances.candidates();
        let mut eligible = candidates.iter().filter(|one| will_do(one.id)).peekable();
        eligible.peek().is_some() && eligible.all(|one| one.health.is_down(now))
    }

    /// Whether an instance that would do is not down.
    pub(super) fn is_any_up(&self, endpoint: Key, will_do: impl Fn(InstanceId) -> bool, now: Instant) -> bool {
        self.candidates(endpoint).iter().any(|one| will_do(one.id) && !one.health.is_down(now))
    }

    /// Whether a call that is to be made is turned away instead.
    pub(super) fn turns_away(&mut self, endpoint: Key, config: throttle::Config, rng: &mut Rng, now: Instant) -> bool {
        let Some(endpoint) = self.slab.get_mut(endpoint) else { return false };
        endpoint.throttle.get_or_insert_with(|| Box::new(Throttle::new(config, now))).turns_away(rng, now)
    }

    /// What became of calls, where some are turned away for that.
    pub(super) fn throttle(&mut self, endpoint: Key) -> Option<&mut Throttle> {
        self.slab.get_mut(endpoint)?.throttle.as_deref_mut()
    }

    /// The calls that wait for a free place, if ever one did.
    pub(super) fn front(&self, endpoint: Key) -> Option<&Front> {
        self.slab.get(endpoint)?.front.as_deref()
    }

    /// The same, to be changed.
    pub(super) fn front_mut(&mut self, endpoint: Key) -> Option<&mut Front> {
        self.slab.get_mut(endpoint)?.front.as_deref_mut()
    }

    /// The same, begun with the first; `None` of an endpoint that is gone.
    pub(super) fn open_front(&mut self, endpoint: Key, config: &front::Config) -> Option<&mut Front> {
        let endpoint = self.slab.get_mut(endpoint)?;
        Some(endpoint.front.get_or_insert_with(|| Box::new(Front::new(*config))))
    }

    /// A call waits for a free place no more.
    pub(super) fn withdraw(&mut self, endpoint: Key, ticket: Ticket) {
        if let Some(front) = self.front_mut(endpoint) {
            front.withdraw(ticket);
        }
    }

    /// Whether calls wait for a free place.
    pub(super) fn is_crowded(&self, endpoint: Key) -> bool {
        self.slab.get(endpoint).is_some_and(Endpoint::is_crowded)
    }

    /// The endpoints of which calls wait for a free place.
    pub(super) fn crowded(&self) -> Vec<Key> {
        self.slab.iter().filter(|(_, endpoint)| endpoint.is_crowded()).map(|(key, _)| key).collect()
    }

    /// How many calls wait for a free place.
    pub(super) fn waiting(&self) -> usize {
        self.slab.iter().filter_map(|(_, endpoint)| endpoint.front.as_deref()).map(Front::len).sum()
    }

    /// Whether one of those that wait for a free place is to be picked for: an instance has one, or it is not for want of one that
    /// none can be had.
    pub(super) fn has_place(&self, endpoint: Key, now: Instant) -> bool {
        let candidates = self.candidates(endpoint);
        candidates.iter().any(|one| !one.health.is_avoided(now) && one.has_place(now))
            || !candidates.iter().any(|one| one.is_full(now))
    }

    /// When time alone makes a place free.
    pub(super) fn place_at(&self, endpoint: Key, now: Instant) -> Option<Instant> {
        let at = |one: &Candidate| one.health.avoided_until().max(one.places.free_at(one.in_flight));
        let crowded = self.is_crowded(endpoint);
        let times = self.candidates(endpoint).iter().filter(|_| crowded).map(at);
        times.filter(|at| *at > now && *at < Instant::FAR).min()
    }

    fn candidates(&self, endpoint: Key) -> &[Candidate] {
        self.slab.get(endpoint).map_or(&[], |endpoint| endpoint.instances.candidates())
    }

    /// How long it takes until an instance that would do is not avoided any more; nothing if one is not now, or none is known.
    pub(super) fn relief(&self, endpoint: Key, will_do: impl Fn(InstanceId) -> bool, now: Instant) -> Duration {
        let candidates = self.slab.get(endpoint).map_or(&[][..], |endpoint| endpoint.instances.candidates());
        let eligible = candidates.iter().filter(|one| will_do(one.id));
        let until = eligible.map(|one| if one.health.is_avoided(now) { one.health.avoided_until() } else { now }).min();
        until.map_or(Duration::ZERO, |until| until.since(now))
    }

    /// A call of `calls` waits for news of the instances.
    pub(super) fn wait<T>(&mut self, endpoint: Key, call: CallId, calls: &Slab<T>) {
        if let Some(endpoint) = self.slab.get_mut(endpoint) {
            endpoint.waiting.push(call, calls);
        }
    }

    /// There is news: takes the calls that wait for it.
    pub(super) fn take_waiting(&mut self, endpoint: Key) -> impl Iterator<Item = CallId> + use<> {
        self.slab.get_mut(endpoint).map(|endpoint| endpoint.waiting.take()).into_iter().flatten()
    }

    /// What the worker of an instance has reported last.
    #[cfg(test)]
    pub(super) fn load(&self, endpoint: Key, instance: InstanceId) -> Option<Arc<Load>> {
        let (candidate, _) = self.slab.get(endpoint)?.instances.get(instance)?;
        candidate.load.clone()
    }

    /// Tries that the instance has lost lately.
    #[cfg(test)]
    pub(super) fn lost(&self, endpoint: Key, instance: InstanceId) -> u32 {
        self.slab.get(endpoint).map_or(0, |endpoint| endpoint.instances.lost(instance))
    }

    /// Calls in flight, calls that wait, and second spellings in use, of all endpoints.
    #[cfg(test)]
    pub(super) fn sums(&self) -> (u32, usize, usize) {
        self.slab.iter().fold((0, 0, 0), |(calls, waiting, slugged), (_, endpoint)| {
            let in_flight = endpoint.instances.candidates().iter().map(|candidate| candidate.in_flight).sum::<u32>();
            (calls + in_flight, waiting + endpoint.waiting.len(), slugged + endpoint.slugged.len())
        })
    }
}

/// An instance as routing has it.
fn member((id, target): (InstanceId, Target)) -> Member<Target> {
    Member { id, labels: target.labels.clone(), payload: target }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::Codec;

    const ONE: Option<InstanceId> = Some(InstanceId(1));
    const TWO: Option<InstanceId> = Some(InstanceId(2));

    fn target() -> Target {
        Target::mux(SocketAddr::from(([10, 0, 0, 1], 9000)), "a/b/c")
    }

    fn endpoints(targets: impl IntoIterator<Item = (InstanceId, Target)>) -> (Endpoints, Key) {
        let mut endpoints = Endpoints::new(rules::Config::default());
        let key = endpoints.insert(AnyPolicy::default());
        assert!(endpoints.update(key, targets, Instant::ZERO));
        (endpoints, key)
    }

    fn pick(endpoints: &mut Endpoints, key: Key, direct: Option<InstanceId>) -> Result<InstanceId, NoPick> {
        let want = Want { ask: Ask::default(), direct, allow: &[], avoid: &[] };
        endpoints.pick(key, &want, &mut Rng::new(1), Instant::ZERO).map(|(id, _)| id)
    }

    #[test]
    fn a_named_instance_is_absent_only_while_others_are_known() {
        let (mut endpoints, key) = endpoints([(InstanceId(1), target())]);
        assert_eq!(pick(&mut endpoints, key, ONE), Ok(InstanceId(1)));
        assert_eq!(pick(&mut endpoints, key, TWO), Err(NoPick::Absent { id: InstanceId(2) }));
        assert!(!endpoints.update(key, [], Instant::ZERO));
        assert_eq!((pick(&mut endpoints, key, TWO), endpoints.target(key, ONE)), (Err(NoPick::Empty), None));
    }

    #[test]
    fn a_call_counts_at_its_instance_from_when_it_began_until_it_ended() {
        let (mut endpoints, key) = endpoints([(InstanceId(1), target()), (InstanceId(2), target())]);
        endpoints.on_began(key, &Ask::default(), InstanceId(1), Instant::ZERO);
        endpoints.on_began(key, &Ask::default(), InstanceId(2), Instant::ZERO);
        endpoints.on_ended(key, &Ask::default(), ONE, None, Instant::ZERO);
        endpoints.on_ended(key, &Ask::default(), None, None, Instant::ZERO);
        assert_eq!(endpoints.sums().0, 1);
    }

    #[test]
    fn an_endpoint_is_called_while_a_call_is_at_an_instance_or_waits_and_one_that_is_let_go_means_nothing() {
        let (mut endpoints, key) = endpoints([(InstanceId(1), target())]);
        let mut calls = Slab::new();
        let call = CallId(calls.insert(()));
        assert!(!endpoints.is_called(key, &calls));
        endpoints.on_began(key, &Ask::default(), InstanceId(1), Instant::ZERO);
        assert!(endpoints.is_called(key, &calls));
        endpoints.on_ended(key, &Ask::default(), ONE, None, Instant::ZERO);
        endpoints.wait(key, call, &calls);
        assert!(endpoints.is_called(key, &calls));
        calls.remove(call.0);
        assert!(!endpoints.is_called(key, &calls), "what is left in the queue is a name without a call");
        endpoints.discard(key);
        let other = endpoints.insert(AnyPolicy::default());
        endpoints.on_ended(key, &Ask::default(), ONE, None, Instant::ZERO);
        endpoints.add(key, InstanceId(2), target());
        assert_eq!((endpoints.len(), endpoints.instances(other), endpoints.contains(key)), (1, 0, false));
        assert_eq!(pick(&mut endpoints, key, None), Err(NoPick::Empty));
    }

    #[test]
    fn all_are_down_once_each_was_struck_and_an_answer_of_one_is_news_to_those_who_wait() {
        let (mut endpoints, key) = endpoints([(InstanceId(1), target()), (InstanceId(2), target())]);
        let mut calls = Slab::new();
        let call = CallId(calls.insert(()));
        let told = |endpoints: &mut Endpoints, id, outcome| {
            endpoints.on_outcome(key, InstanceId(id), outcome, None, Instant::ZERO, &mut Rng::new(1))
        };
        told(&mut endpoints, 1, Outcome::Lost);
        assert!(
            !endpoints.are_down(key, |_| true, Instant::ZERO)
                && endpoints.are_down(key, |id| Some(id) == ONE, Instant::ZERO)
        );
        told(&mut endpoints, 2, Outcome::Lost);
        assert!(endpoints.are_down(key, |_| true, Instant::ZERO));
        assert!(!told(&mut endpoints, 2, Outcome::Answered), "nobody waits for the news");
        told(&mut endpoints, 2, Outcome::Lost);
        endpoints.wait(key, call, &calls);
        assert!(told(&mut endpoints, 1, Outcome::Answered));
        assert!(!told(&mut endpoints, 1, Outcome::Answered), "nothing is suspected any more");
        assert!(endpoints.take_waiting(key).eq([call]) && endpoints.take_waiting(key).next().is_none());
    }

    #[test]
    fn the_second_spelling_is_tried_once_before_the_first_is_again_and_forgotten_with_its_instance() {
        let nats = |slug: Option<&str>| Transport::Nats { subject: "A".into(), slug: slug.map(Into::into) };
        let at = |transport| Target { transport, ..Target::call_home(target().addr, "a/b/c", Codec::Json) };
        let (mut endpoints, key) = endpoints([(InstanceId(1), at(nats(Some("a")))), (InstanceId(2), at(nats(None)))]);
        let second = Some(Transport::Nats { subject: "a".into(), slug: None });
        assert!(endpoints.respell(key, ONE) && endpoints.transport(key, ONE) == second);
        assert!(!endpoints.respell(key, ONE) && endpoints.transport(key, ONE) == Some(nats(Some("a"))));
        assert!(!endpoints.respell(key, TWO) && !endpoints.respell(key, None));
        assert!(endpoints.respell(key, ONE));
        endpoints.update(key, [(InstanceId(2), target())], Instant::ZERO);
        assert_eq!(endpoints.sums().2, 0);
    }
}
