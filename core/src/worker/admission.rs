//! The places of calls that run and wait: how many there are, the share of them that one connection or one endpoint may hold,
//! and whose turn it is.

use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;

use crate::overload::gradient::Gradient;
use crate::overload::queue::{Queue, Ticket, Wait};
use crate::overload::rate::Rate;
use crate::time::Instant;
use crate::worker::config::Config;
use crate::worker::job::JobId;

/// The places of one worker. Where a call came from on a connection, the places of that connection are counted as well.
#[derive(Debug)]
pub(super) struct Admission {
    running: Limit,
    queued: Limit,
    /// Calls that run.
    runs: usize,
    /// Calls that wait for one of those to finish.
    queue: Queue<JobId>,
    /// Places of each endpoint that holds some; empty if every endpoint may hold all.
    endpoints: HashMap<u32, Places>,
    /// How fast places become free.
    rate: Rate,
    /// What moves the limit of those that run, if anything does.
    gradient: Option<Gradient>,
    /// When calls began that have had their first item since it was last told.
    firsts: Vec<Instant>,
}

/// How many there may be: of all connections, of one, and of one endpoint.
#[derive(Copy, Clone, Debug)]
struct Limit {
    all: usize,
    share: usize,
    endpoint: usize,
}

/// The places that calls from one connection hold, or calls for one endpoint.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    running: u32,
    queued: u32,
}

/// A call that comes now.
#[derive(Copy, Clone, Debug)]
pub(super) struct Comer {
    /// What its connection holds; one that came on no connection of ours has none.
    pub(super) places: Option<Places>,
    pub(super) wait: Wait,
}

/// What becomes of a call that comes now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// There is a place for it.
    Fits,
    /// There is one once a call that waits has given way to it, see [`Admission::displace`].
    Displaces,
    /// All places are taken.
    Full,
    /// Others have room; its connection holds its share.
    ShareHeld,
    /// Others have room; its endpoint holds its share.
    EndpointFull,
}

impl Admission {
    pub(super) fn new(config: &Config) -> Self {
        let limit = |all| Limit { all, share: config.share_of(all), endpoint: config.endpoint_share_of(all) };
        Self {
            running: limit(config.max_running),
            queued: limit(config.max_queued),
            runs: 0,
            queue: Queue::new(config.wait_target, config.wait_interval),
            endpoints: HashMap::new(),
            rate: Rate::default(),
            gradient: config.adaptive.map(|config_of| Gradient::new(config_of, config.max_running)),
            firsts: Vec::new(),
        }
    }

    /// Whether it is of interest when a call began.
    pub(super) const fn is_adaptive(&self) -> bool {
        self.gradient.is_some()
    }

    /// A call that began then has its first item.
    pub(super) fn on_first(&mut self, began: Instant) {
        self.firsts.push(began);
    }

    /// Moves the limit by the first items there have been; whether it has risen.
    pub(super) fn adapt(&mut self, now: Instant) -> bool {
        let Some(gradient) = &mut self.gradient else { return false };
        let before = self.running.all;
        for began in self.firsts.drain(..) {
            gradient.on_first(began, self.runs, now);
        }
        self.running.all = gradient.limit();
        self.running.all > before
    }

    /// How many may run.
    pub(super) const fn capacity(&self) -> usize {
        self.running.all
    }

    /// Calls running and waiting.
    pub(super) const fn load(&self) -> (usize, usize) {
        (self.runs, self.queue.len())
    }

    /// Whether there is a place for a call.
    pub(super) fn weigh(&self, comer: &Comer) -> Verdict {
        let endpoint = comer.wait.group;
        if self.runs_at_once(endpoint) {
            return if self.runs_its_share(comer.places) { Verdict::ShareHeld } else { Verdict::Fits };
        }
        let waits = |places: Places, share: usize| share < self.queued.all && places.queued as usize >= share;
        // Shares first: whatever a call says of its priority and tenant, its connection and endpoint get no more than theirs.
        if comer.places.is_some_and(|places| waits(places, self.queued.share)) {
            Verdict::ShareHeld
        } else if self.endpoints.get(&endpoint).is_some_and(|places| waits(*places, self.queued.endpoint)) {
            Verdict::EndpointFull
        } else if self.queue.len() < self.queued.all {
            Verdict::Fits
        } else if self.queue.may_displace(&comer.wait) {
            Verdict::Displaces
        } else {
            Verdict::Full
        }
    }

    /// Takes the call that gives way out of a full queue. Its places are given back apart.
    pub(super) fn displace(&mut self, comer: &Comer) -> Option<JobId> {
        self.queue.displace(&comer.wait)
    }

    /// Whether a call for this endpoint that comes now runs at once. Where endpoints have shares, calls that wait while places are
    /// free are those of endpoints that hold theirs: the others do not wait for them.
    pub(super) fn runs_at_once(&self, endpoint: u32) -> bool {
        self.runs < self.running.all && (self.queue.is_empty() || self.has_shares()) && self.endpoint_may_run(endpoint)
    }

    /// Whether a connection has its share of the calls that run.
    pub(super) fn runs_its_share(&self, places: Option<Places>) -> bool {
        places.is_some_and(|places| places.running as usize >= self.running.share)
    }

    /// A call runs.
    pub(super) fn run(&mut self, endpoint: u32, places: Option<&mut Places>) {
        self.runs += 1;
        for places in [places, self.endpoint_mut(endpoint)].into_iter().flatten() {
            places.running += 1;
        }
    }

    /// A call waits; how many wait beside it.
    pub(super) fn wait(&mut self, job: JobId, wait: Wait, places: Option<&mut Places>) -> (Ticket, u32) {
        let beside = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        for places in [places, self.endpoint_mut(wait.group)].into_iter().flatten() {
            places.queued += 1;
        }
        (self.queue.add(job, wait), beside)
    }

    /// The call whose turn it is, if there is a place to run it. Its places are given back apart.
    pub(super) fn next(&mut self, now: Instant) -> Option<JobId> {
        if self.runs >= self.running.all {
            return None;
        }
        let (endpoints, limit) = (&self.endpoints, self.running.endpoint);
        let next = self.queue.next(now, |endpoint| may_run(endpoints, endpoint, limit));
        if next.is_none() {
            self.rate.on_slack();
        }
        next
    }

    /// The call that has waited longest, whether it could run or not: a worker that leaves empties its queue.
    pub(super) fn pop(&mut self) -> Option<JobId> {
        self.queue.pop_oldest()
    }

    /// A call waits no more.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.queue.remove(ticket);
    }

    /// A call that ran has ended, now.
    pub(super) fn on_ended(&mut self, now: Instant) {
        if self.runs >= self.running.all {
            self.rate.on_freed(now);
        }
    }

    /// A call gives its place back: one that ran, or one that waited and is in the queue no more.
    pub(super) fn give_back(&mut self, endpoint: u32, ran: bool, places: Option<&mut Places>) {
        self.runs -= usize::from(ran);
        for places in [places, self.endpoint_mut(endpoint)].into_iter().flatten() {
            places.running -= u32::from(ran);
            places.queued -= u32::from(!ran);
        }
        if self.endpoints.get(&endpoint).is_some_and(|places| *places == Places::default()) {
            self.endpoints.remove(&endpoint);
        }
    }

    /// How long it takes until those that wait have their places and one more is free, as places become free now; `None` as long as
    /// that is unknown.
    pub(super) fn next_place(&self) -> Option<Duration> {
        self.rate.until(self.queue.len().saturating_add(1))
    }

    /// Whether one endpoint may hold less than all.
    const fn has_shares(&self) -> bool {
        self.running.endpoint < self.running.all || self.queued.endpoint < self.queued.all
    }

    fn endpoint_may_run(&self, endpoint: u32) -> bool {
        may_run(&self.endpoints, endpoint, self.running.endpoint)
    }

    /// What is counted for an endpoint, if that is of interest.
    fn endpoint_mut(&mut self, endpoint: u32) -> Option<&mut Places> {
        self.has_shares().then(|| self.endpoints.entry(endpoint).or_default())
    }
}

fn may_run(endpoints: &HashMap<u32, Places>, endpoint: u32, limit: usize) -> bool {
    endpoints.is_empty() || endpoints.get(&endpoint).is_none_or(|places| (places.running as usize) < limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::slab::Key;

    const T0: Instant = Instant::ZERO;

    fn job(index: u32) -> JobId {
        JobId(Key { index, generation: 0 })
    }

    fn wait(tenant: u64, endpoint: u32) -> Wait {
        Wait { priority: 0, tenant, group: endpoint, deadline: None, since: T0 }
    }

    fn comer(places: Option<Places>) -> Comer {
        Comer { places, wait: wait(1, 1) }
    }

    fn admission(max_running: usize, max_queued: usize, share: u8) -> Admission {
        Admission::new(&Config { max_running, max_queued, share, ..Config::default() })
    }

    #[test]
    fn a_call_runs_waits_or_is_refused_and_the_one_that_waited_longest_is_next() {
        let mut admission = admission(1, 2, 100);
        assert!(admission.runs_at_once(1) && admission.weigh(&comer(None)) == Verdict::Fits);
        admission.run(1, None);
        let [(_, first), (ticket, second)] = [1, 2].map(|n| admission.wait(job(n), wait(1, 1), None));
        assert_eq!((first, second), (0, 1));
        assert_eq!(
            (admission.weigh(&comer(None)), admission.load(), admission.next(T0)),
            (Verdict::Full, (1, 2), None)
        );
        admission.give_back(1, true, None);
        assert!(!admission.runs_at_once(1), "others have waited for longer");
        assert_eq!(admission.next(T0), Some(job(1)));
        admission.withdraw(ticket);
        assert_eq!((admission.load(), admission.next(T0)), ((0, 0), None));
    }

    #[test]
    fn a_connection_that_holds_its_share_is_refused_while_others_get_in() {
        let (mut admission, mut greedy) = (admission(1024, 1024, 25), Places::default());
        for _ in 0..256 {
            assert_eq!(admission.weigh(&comer(Some(greedy))), Verdict::Fits);
            admission.run(1, Some(&mut greedy));
        }
        assert_eq!(admission.weigh(&comer(Some(greedy))), Verdict::ShareHeld);
        let others = [Some(Places::default()), None].map(|places| admission.weigh(&comer(places)));
        assert_eq!(others, [Verdict::Fits; 2]);
        admission.give_back(1, true, Some(&mut greedy));
        assert_eq!(admission.weigh(&comer(Some(greedy))), Verdict::Fits);
    }

    #[test]
    fn in_a_full_queue_a_connection_that_holds_its_share_gets_no_more_by_priority() {
        let (mut admission, mut greedy) = (admission(1, 1024, 25), Places::default());
        admission.run(1, Some(&mut greedy));
        (0..256).for_each(|index| _ = admission.wait(job(index), wait(1, 1), Some(&mut greedy)));
        (256..1024).for_each(|index| _ = admission.wait(job(index), wait(2, 1), None));
        let urgent = |places| Comer { places, wait: Wait { priority: 1, ..wait(1, 1) } };
        assert_eq!(admission.weigh(&urgent(Some(greedy))), Verdict::ShareHeld);
        assert_eq!(admission.weigh(&urgent(Some(Places::default()))), Verdict::Displaces);
    }

    #[test]
    fn what_waits_counts_against_the_share_of_the_queue() {
        let (mut admission, mut greedy) = (admission(1, 1024, 25), Places::default());
        admission.run(1, Some(&mut greedy));
        let mut tickets = alloc::vec![];
        for index in 0..256 {
            assert_eq!(admission.weigh(&comer(Some(greedy))), Verdict::Fits);
            tickets.push(admission.wait(job(index), wait(1, 1), Some(&mut greedy)).0);
        }
        assert_eq!(
            (admission.weigh(&comer(Some(greedy))), admission.weigh(&comer(None))),
            (Verdict::ShareHeld, Verdict::Fits)
        );
        admission.withdraw(tickets[0]);
        admission.give_back(1, false, Some(&mut greedy));
        assert_eq!(admission.weigh(&comer(Some(greedy))), Verdict::Fits);
    }

    #[test]
    fn of_a_full_queue_a_call_of_the_tenant_that_has_most_of_it_gives_way() {
        let mut admission = admission(1, 3, 100);
        admission.run(1, None);
        for index in 0..3 {
            admission.wait(job(index), wait(1, 1), None);
        }
        assert_eq!(admission.weigh(&comer(None)), Verdict::Full);
        let other = Comer { places: None, wait: wait(2, 1) };
        assert_eq!((admission.weigh(&other), admission.displace(&other)), (Verdict::Displaces, Some(job(2))));
        assert_eq!(admission.load(), (1, 2));
    }

    #[test]
    fn an_endpoint_that_holds_its_share_waits_alone() {
        let config = Config { max_running: 4, max_queued: 4, endpoint_share: 50, ..Config::default() };
        let mut admission = Admission::new(&config);
        for _ in 0..2 {
            assert!(admission.runs_at_once(1));
            admission.run(1, None);
        }
        assert!(!admission.runs_at_once(1) && admission.runs_at_once(2));
        for index in 0..2 {
            assert_eq!(admission.weigh(&comer(None)), Verdict::Fits);
            admission.wait(job(index), wait(1, 1), None);
        }
        assert_eq!((admission.weigh(&comer(None)), admission.next(T0)), (Verdict::EndpointFull, None));
        assert!(admission.runs_at_once(2), "it does not wait behind them");
        admission.run(2, None);
        admission.give_back(2, true, None);
        assert_eq!(admission.next(T0), None);
        admission.give_back(1, true, None);
        assert_eq!(admission.next(T0), Some(job(0)));
        for (endpoint, ran) in [(1, true), (1, false), (1, false)] {
            admission.give_back(endpoint, ran, None);
        }
        assert!(admission.endpoints.is_empty());
    }

    #[test]
    fn the_next_place_is_as_far_as_the_queue_is_long() {
        let mut admission = admission(1, 9, 100);
        admission.run(1, None);
        for n in 0..5 {
            assert_eq!(admission.next_place().is_some(), n >= 2);
            admission.on_ended(T0 + Duration::from_millis(10) * n);
        }
        admission.wait(job(1), wait(1, 1), None);
        assert_eq!(admission.next_place(), Some(Duration::from_millis(20)));
    }
}
